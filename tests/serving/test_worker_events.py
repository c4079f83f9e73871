"""Events about workers and batches, of a pool with real workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from deepaas.events import BatchRun, Events, WorkerEnded, WorkerReady
from deepaas.model.loading import ModelSource
from deepaas.model.v2.exchange import NOT_MEASURED, Call, Reply
from deepaas.protocol.messages import encode_control, encode_reply
from deepaas.serving.guard import Guard
from deepaas.serving.options import PoolOptions, WorkerOptions
from deepaas.serving.pool import Pool
from tests.serving.callers import Journal
from tests.serving.inside import House
from tests.serving.puppet import READY, SECONDS, Puppet
from tests.serving.segments import Line, padded, predict
from tests.support import ZOO


class Heard:
    """What was reported about workers and batches."""

    def __init__(self, events: Events) -> None:
        self.ready: list[WorkerReady] = []
        self.ended: list[WorkerEnded] = []
        self.batches: list[BatchRun] = []
        events.worker_ready.listen(self.ready.append)
        events.worker_ended.listen(self.ended.append)
        events.batch_run.listen(self.batches.append)

    @property
    def causes(self) -> list[str]:
        return [one.cause for one in self.ended]


def ask(journal: Journal, number: int, gate: str = "") -> bytes:
    return predict("gated", "", padded(400, **journal.args(number, gate=gate))).data


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


async def test_worker_that_is_killed_replaced_suspended_and_stopped() -> None:
    house = House("zoo.gated")
    heard = Heard(house.events)
    async with house:
        [first] = heard.ready
        assert (first.model, first.worker, [first.pid]) == ("gated", "gated[0]", house.pool.pids)
        assert first.seconds > 0
        os.kill(first.pid, signal.SIGKILL)
        await house.until(lambda: len(heard.ready) == 2, "its successor")
        assert heard.ended == [
            WorkerEnded("gated", "gated[0]", first.pid, "died", "was ended by signal 9 (SIGKILL)")
        ]
        await house.pool.reload()
        await house.until(lambda: len(heard.ended) == 2, "the end of the old worker")
        assert len(heard.ready) == 3
        await house.pool.suspend("", 20.0)
        await house.pool.resume()
        assert len(heard.ready) == 4
    assert heard.causes == ["died", "replaced", "suspended", "stopped"]
    assert [one.pid for one in heard.ready] == [one.pid for one in heard.ended]


async def test_worker_of_a_call_that_is_cancelled_or_takes_too_long(journal: Journal) -> None:
    house = House("zoo.gated", options={"cancel_running": True})
    heard = Heard(house.events)
    async with house:
        async with Line(house.port) as line:
            await line.send(ask(journal, 1, "never"))
            await house.until(lambda: journal.numbers("begin") == [1], "its begin")
        await house.until(lambda: len(heard.ready) == 2, "its successor")
        assert heard.causes == ["cancelled"]
    house = House("zoo.gated", options={"predict_timeout": 0.2})
    heard = Heard(house.events)
    async with house:
        async with Line(house.port) as line:
            await line.send(ask(journal, 2, "never"))
            assert (await line.answer()).status == 504
        await house.until(lambda: len(heard.ready) == 2, "its successor")
        assert heard.causes == ["too_slow"]


async def test_worker_that_does_not_get_ready_is_only_reported_at_its_end(tmp_path: Path) -> None:
    heard = Heard(events := Events())
    guard = Guard(str(tmp_path))
    source = ModelSource("exits", "zoo.exits_on_import", str(ZOO.parent))
    options = PoolOptions(worker_options=WorkerOptions(log={"level": "CRITICAL"}))
    pool = Pool(source, options, guard, events=events)
    try:
        await pool.start()
    finally:
        await pool.stop()
        guard.close()
    assert heard.ready == []
    assert set(heard.causes) == {"not_ready"}


async def test_worker_that_only_validates_is_not_reported(journal: Journal) -> None:
    house = House("zoo.gated")
    heard = Heard(house.events)
    async with house, Line(house.port) as line:
        await line.send(ask(journal, 1, "gate"))
        await house.until(lambda: journal.numbers("begin") == [1], "its begin")
        reply = await house.pool.validate(Call(validate="predict"))
        assert reply.status == 200
        journal.open("gate")
        assert (await line.answer()).status == 200
    assert [one.worker for one in heard.ready] == ["gated[0]"]
    assert heard.causes == ["stopped"]


async def test_each_batch_is_reported_once(journal: Journal) -> None:
    """The calls that arrive while a worker is busy are the next batch."""
    house = House("zoo.gated_batch")
    heard = Heard(house.events)

    def asked(number: int, gate: str = "") -> bytes:
        return predict("gated_batch", "", padded(400, **journal.args(number, gate=gate))).data

    async with (
        house,
        Line(house.port) as first,
        Line(house.port) as second,
        Line(house.port) as third,
    ):
        await first.send(asked(1, "gate"))
        await house.until(lambda: journal.numbers("begin") == [1], "its begin")
        await second.send(asked(2))
        await third.send(asked(3))
        await house.until(lambda: house.pool.calls == 3, "the other calls")
        journal.open("gate")
        for one in (first, second, third):
            assert (await one.answer()).status == 200
    assert [(one.model, one.size) for one in heard.batches] == [
        ("gated_batch", 1),
        ("gated_batch", 2),
    ]
    assert min(one.seconds for one in heard.batches) > 0


@pytest.mark.parametrize("size", [1, 2, 3, 2**32 - 1])
async def test_worker_cannot_report_a_larger_batch_than_it_has_calls(size: int) -> None:
    heard = Heard(events := Events())
    worker = Puppet(events.batch_run)
    try:
        worker.control(encode_control(READY))
        await worker.heard()
        for number in (1, 2):
            worker.take_call(number)
        measured = (*NOT_MEASURED[:3], float("inf"), 0.0, size)
        worker.reply(encode_reply(1, Reply(measured=measured)))
        assert await worker.heard()
    finally:
        await worker.end()
    [batch] = heard.batches
    assert batch.size == min(size, 2)
    assert 0 <= batch.seconds < SECONDS
