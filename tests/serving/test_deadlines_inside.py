"""Predictions that take too long, and ends of workers, with a server whose clock is advanced.

`test_limits.py` tests the same with real servers and the real clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clock import TurnedLoop
from tests.serving.callers import Journal
from tests.serving.inside import Client, House
from tests.serving.processes import lives
from tests.serving.segments import Ask, Seen, padded, predict

LIMIT = 30.0
HALF, REST = 0.5 * LIMIT, 0.7 * LIMIT


def make(target: str, workers: int = 1) -> House:
    options = {"predict_timeout": LIMIT}
    return House(target, workers=workers, options=options, new_loop=TurnedLoop, seconds=600.0)


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with make("zoo.gated") as opened:
        yield opened


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


class Call:
    """A call on a separate connection that has reached the server."""

    def __init__(self, client: Client, ask: Ask) -> None:
        self._reply = asyncio.create_task(client.ask(ask))

    @property
    def has_answer(self) -> bool:
        return self._reply.done()

    async def predicted(self) -> Any:
        return (await self._reply).predicted

    async def assert_timed_out(self, message: str) -> None:
        seen: Seen = await self._reply
        told = json.loads(seen.body)
        assert (seen.status, told["code"]) == (504, "timeout")
        assert message in told["message"]


class Calls:
    """Sends calls to a model; `alike` ones have the same head and take the fast path."""

    def __init__(self, house: House, journal: Journal, *, alike: bool) -> None:
        self._house = house
        self._journal = journal
        self._alike = alike
        self._opened = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Calls:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._opened.aclose()

    async def make(self, number: int, gate: str = "") -> Call:
        query = "" if self._alike else f"?number={number}"
        client = await self._opened.enter_async_context(Client(self._house))
        before = self._house.pool.calls
        body = padded(400, **self._journal.args(number, gate=gate))
        call = Call(client, predict(self._house.pool.name, query, body))
        reached = lambda: self._house.pool.calls > before or call.has_answer  # noqa: E731
        await self._house.until(reached, "a call")
        return call

    async def begin(self, number: int, gate: str) -> Call:
        """Send a call, and wait until its worker has begun it."""
        call = await self.make(number, gate)
        begun = lambda: number in self._journal.numbers("begin")  # noqa: E731
        await self._house.until(begun, "the begin of a call")
        return call


@contextlib.asynccontextmanager
async def calling(house: House, journal: Journal, alike: bool = False) -> AsyncIterator[Calls]:
    async with Calls(house, journal, alike=alike) as calls:
        await house.until(lambda: house.pool.status.is_ready, "a worker")
        if alike:  # let the server cache their head
            async with Client(house) as client:
                await client.ask(predict(house.pool.name, "", padded(400)))
        yield calls


EITHER_WAY = pytest.mark.parametrize("alike", [False, True], ids=["different", "alike"])


@EITHER_WAY
def test_prediction_that_takes_too_long_ends_and_its_worker_is_replaced(
    house: House, journal: Journal, caplog: pytest.LogCaptureFixture, alike: bool
) -> None:
    async def asking() -> None:
        for number in range(3):  # repeated, because these deaths must not delay the next start
            async with calling(house, journal, alike) as calls:
                [worker] = house.pool.pids
                late = await calls.begin(number, "never")
                await house.turn(HALF)
                assert not late.has_answer
                await house.turn(REST)
                await late.assert_timed_out("The prediction took longer than 30 s")
                await house.until(lambda: worker not in house.pool.pids, "the end of the worker")  # noqa: B023
                await house.until(lambda: house.pool.status.is_ready, "another worker")
                answer = await (await calls.make(100 + number)).predicted()
                assert answer["pid"] != worker
                assert answer["warmed"] == [answer["pid"]]

    with caplog.at_level(logging.ERROR, "deepaas.serving"):
        house.run(asking())
    assert caplog.text.count("takes more than 30 s and is killed") == 3
    assert journal.numbers("end") == [100, 101, 102]


@EITHER_WAY
def test_what_waits_in_the_socket_of_a_killed_worker_is_begun_once(
    house: House, journal: Journal, alike: bool
) -> None:
    """This includes the calls in the server, because the socket takes only some."""

    async def asking() -> None:
        async with calling(house, journal, alike) as calls:
            [worker] = house.pool.pids
            running = await calls.begin(0, "never")
            await house.turn(HALF)
            waiting = [await calls.make(number) for number in range(1, 25)]
            assert journal.numbers("begin") == [0]
            await house.turn(REST)
            await running.assert_timed_out("took longer than 30 s")
            answers = [await one.predicted() for one in waiting]
            assert [one["number"] for one in answers] == list(range(1, 25))
            assert {one["pid"] for one in answers} == set(house.pool.pids)
            assert worker not in house.pool.pids
            assert journal.numbers("begin") == list(range(25))

    house.run(asking())


def test_worker_that_is_killed_harms_no_prediction_of_another(journal: Journal) -> None:
    async def asking() -> None:
        async with calling(own, journal) as calls:
            one = await calls.begin(1, "never")
            await own.turn(HALF)
            two = await calls.begin(2, "gate")
            await own.turn(REST)
            await one.assert_timed_out("took longer than 30 s")
            journal.open("gate")
            assert (await two.predicted())["pid"] == journal.wait_for("begin", 2).pid
            await own.until(lambda: len(own.pool.pids) == 2, "two workers")

    with make("zoo.gated", workers=2) as own:
        own.run(asking())


def test_wait_for_a_worker_is_limited_too(house: House, journal: Journal) -> None:
    async def asking() -> None:
        async with calling(house, journal) as calls:
            one = await calls.begin(1, "one")
            two = await calls.make(2, "two")
            three = await calls.make(3)
            await house.turn(HALF)
            journal.open("one")
            assert (await one.predicted())["number"] == 1
            await house.until(lambda: 2 in journal.numbers("begin"), "the begin of the second one")
            assert not three.has_answer
            await house.turn(REST)
            await three.assert_timed_out("No worker was free for 30 s")
            journal.open("two")
            assert (await two.predicted())["number"] == 2  # it had 30 s from its begin
            await (await calls.make(4)).predicted()
        assert journal.numbers("begin") == [1, 2, 4]

    house.run(asking())


def test_async_prediction_that_takes_too_long_is_cancelled_alone(journal: Journal) -> None:
    async def asking() -> None:
        async with calling(own, journal) as calls:
            worker = own.pool.pids
            began = own.loop.time()
            one = await calls.begin(1, "never")
            await own.turn(HALF)
            two = await calls.begin(2, "gate")
            # Only to the limit: a second later, the call could no longer be cancelled alone.
            await own.turn(max(0, began + LIMIT - own.loop.time()))
            await one.assert_timed_out("took longer than 30 s")
            await own.until(lambda: journal.numbers("cancelled") == [1], "its cancellation")
            journal.open("gate")
            assert (await two.predicted())["pid"] == worker[0]
            assert own.pool.pids == worker

    with make("zoo.gated_async") as own:
        own.run(asking())


def test_worker_that_does_not_end_is_killed_when_the_time_for_that_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The worker is idle, but it does not end when asked to."""

    async def stopping() -> None:
        [worker] = own.pool._supervisor.workers
        os.kill(worker.pid, signal.SIGSTOP)
        stop = asyncio.create_task(own.pool.stop())
        await own.until(lambda: worker.phase == "stopping", "the begin of the end")
        await asyncio.sleep(0)
        await own.turn(HALF)
        assert not stop.done()
        await own.turn(REST)
        await stop
        assert not lives(worker.pid)

    with House(worker_options={"stop_timeout": LIMIT}, new_loop=TurnedLoop) as own:
        own.run(stopping())
    assert "did not end in 30 s and is killed" in caplog.text
