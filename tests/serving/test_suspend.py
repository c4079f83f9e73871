"""A model without workers for a time: the responses to callers, and how the model resumes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil
import pytest
import uvloop

from deepaas.exceptions import (
    NotReadyError,
    ReloadFailedError,
    RequestError,
    StoppingError,
    WorkerDiedError,
)
from deepaas.model.v2.exchange import Call
from tests.conftest import short_and_long
from tests.serving.inside import House
from tests.support import HOST

new_loop = uvloop.new_event_loop
"""The tests and their houses use the same kind of event loop as real servers."""

WHY = "is being trained"
LONG = 30.0
"""A timeout in seconds that no test may reach."""

MANNERS = ["gated", "gated_async", "gated_batch"]


class Visit:
    """One call by a caller that waits for the response."""

    def __init__(self, house: House, journal: Path, number: int, **arguments: Any) -> None:
        given = {"journal": str(journal), "number": number, **arguments}
        self._call = Call("", "application/json", body=orjson.dumps(given))
        self._house = house
        self._task = asyncio.create_task(self._ask())

    async def _ask(self) -> Any:
        with self._house.pool.dispatcher.predict(self._call) as prediction:
            reply = await prediction.reply()
        assert reply.status == 200, reply.reason
        return orjson.loads(reply.body)["predictions"]

    @property
    def is_over(self) -> bool:
        return self._task.done()

    async def answer(self) -> Any:
        return await self._task

    async def error(self) -> RequestError:
        """Return the error with which the call was refused."""
        with pytest.raises(RequestError) as caught:
            await self._task
        return caught.value


class Ward:
    """A model that is suspended and resumed, and the calls to it."""

    def __init__(self, house: House, journal: Path) -> None:
        self.house = house
        self.pool = house.pool
        self.journal = journal

    def visit(self, number: int = 0, **arguments: Any) -> Visit:
        return Visit(self.house, self.journal, number, **arguments)

    def events(self, kind: str) -> list[int]:
        """Return the numbers of the calls that have recorded an event of this kind."""
        path = self.journal / "journal"
        lines = path.read_text().splitlines() if path.exists() else []
        return [int(line.split()[1]) for line in lines if line.startswith(f"{kind} ")]

    async def begun(self, number: int = 0, gate: str = "gate") -> Visit:
        """Send a call, and return it when it waits at the gate."""
        visit = self.visit(number, gate=gate)
        await self.house.until(lambda: number in self.events("begin"), f"begin of {number}")
        return visit

    async def batch(self, *numbers: int) -> list[Visit]:
        """Return the members of a batch that waits at the gate.

        They are sent while another call is running, so that one batch takes them all.
        """
        before = await self.begun(0, "first")
        members = [self.visit(number, gate="gate") for number in numbers]
        await asyncio.sleep(0)
        self.open("first")
        await before.answer()
        await self.house.until(lambda: set(numbers) <= set(self.events("begin")), "the batch")
        return members

    def open(self, gate: str = "gate") -> None:
        (self.journal / gate).touch()

    async def suspending(self, timeout: float = LONG) -> asyncio.Task[None]:
        """Start a suspension, and return its task."""
        task = asyncio.create_task(self.pool.suspend(WHY, timeout))
        await asyncio.sleep(0)
        assert self.pool.status.is_suspended
        return task

    async def predicts(self) -> None:
        answer = await self.visit(99).answer()
        assert answer["number"] == 99
        assert answer["pid"] in self.pool.pids


@pytest.fixture
async def ward(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ward]:
    """A model that no other test uses, with one worker by default."""
    options = {"target": "zoo.gated", **getattr(request, "param", {})}
    async with House(**options) as house:
        yield Ward(house, tmp_path)
    assert not workers(), "a worker was left running"


WARDS = [{"target": f"zoo.{manner}"} for manner in MANNERS]
each = pytest.mark.parametrize("ward", WARDS, indirect=True)
mostly_long = pytest.mark.parametrize("ward", short_and_long(WARDS[:1], WARDS[1:]), indirect=True)
pair = pytest.mark.parametrize("ward", [{"workers": 2}], indirect=True)
batch = pytest.mark.parametrize("ward", [{"target": "zoo.gated_batch"}], indirect=True)
many = pytest.mark.parametrize("ward", [{"target": "zoo.gated_async"}], indirect=True)


def workers() -> list[int]:
    """Return the pids of all worker processes of this process, in any state."""
    found = []
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()  # empty if it has ended
            if command and command[-1].endswith("]"):
                found.append(process.pid)
    return found


def refused(error: RequestError) -> None:
    """Check that this is the error for calls to a suspended model."""
    assert type(error) is NotReadyError
    assert error.status == 503
    assert WHY in str(error)
    assert int(error.headers["Retry-After"]) > 1


# --- while it is suspended


@each
async def test_no_worker_is_left(ward: Ward) -> None:
    assert workers()
    await ward.pool.suspend(WHY, LONG)
    assert not workers()
    assert (ward.pool.status.is_ready, ward.pool.pids) == (False, [])
    assert (ward.pool.status.is_suspended, ward.pool.status.problem) == (True, WHY)


@pair
async def test_none_of_two_workers_is_left(ward: Ward) -> None:
    assert len(workers()) == 2
    await ward.pool.suspend(WHY, LONG)
    assert not workers()
    await ward.pool.resume()
    assert len(ward.pool.pids) == 2
    await ward.predicts()


async def test_description_stays(ward: Ward) -> None:
    before = dict(ward.pool.description)
    await ward.pool.suspend(WHY, LONG)
    assert ward.pool.description == before


async def test_calls_are_refused_with_the_reason(ward: Ward) -> None:
    await ward.pool.suspend(WHY, LONG)
    refused(await ward.visit().error())
    with pytest.raises(NotReadyError, match="Model gated is being trained"):
        ward.pool.dispatcher.raise_if_unavailable()
    assert ward.pool.calls == 0


async def test_client_is_told_when_to_come_again(ward: Ward) -> None:
    await ward.pool.suspend(WHY, LONG)
    async with httpx.AsyncClient(trust_env=False) as client:
        url = f"http://{HOST}:{ward.house.port}/v2/models/gated/predict/"
        answer = await client.post(url, json={})
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "30"
        assert answer.json()["message"] == "Model gated is being trained"
        await ward.pool.resume()
        assert (await client.post(url, json={})).status_code == 200


async def test_reason_is_given_in_any_case(ward: Ward) -> None:
    await ward.pool.suspend("", LONG)
    assert str(await ward.visit().error()) == "Model gated is suspended"


async def test_what_the_model_has_left_running_ends(tmp_path: Path) -> None:
    async with House("zoo.children") as house:
        ward = Ward(house, tmp_path)
        (tmp_path / "journal").touch()
        child = await Visit(house, tmp_path, 0).answer()
        assert psutil.pid_exists(child)
        await ward.pool.suspend(WHY, LONG)
        await house.until(lambda: has_ended(child), "an end to the child")


def has_ended(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


# --- calls from before the suspension


@each
async def test_call_that_ends_in_time_is_answered(ward: Ward) -> None:
    visit = await ward.begun(1)
    suspending = await ward.suspending()
    refused(await ward.visit(2).error())
    assert not visit.is_over
    ward.open()
    assert (await visit.answer())["number"] == 1
    await suspending
    assert not workers()
    assert ward.events("begin") == [1]


@each
async def test_call_that_takes_longer_is_cut_short(ward: Ward) -> None:
    visit = await ward.begun()
    began = time.monotonic()
    await ward.pool.suspend(WHY, 0.2)
    assert time.monotonic() - began >= 0.2
    refused(await visit.error())
    assert not workers()
    assert not ward.events("end")
    assert ward.pool.calls == 0


@mostly_long
async def test_call_is_cut_short_at_once_without_a_timeout(ward: Ward) -> None:
    visit = await ward.begun()
    await ward.pool.suspend(WHY, 0)
    refused(await visit.error())
    assert not workers()


@each
async def test_calls_that_wait_are_refused(ward: Ward) -> None:
    calling = ward.pool.dispatcher._calling
    at_once = calling.at_once if calling.kind == "many" else 1
    busy = [await ward.begun(number) for number in range(at_once)]
    waiting = [ward.visit(10 + number) for number in range(30)]
    await asyncio.sleep(0)
    suspending = await ward.suspending()
    for visit in waiting:
        refused(await visit.error())
    ward.open()
    await asyncio.gather(*(visit.answer() for visit in busy))
    await suspending
    assert not [number for number in ward.events("begin") if number >= 10]
    assert ward.pool.calls == 0


@mostly_long
async def test_call_ends_though_nobody_waits_for_the_suspension(ward: Ward) -> None:
    visit = await ward.begun()
    suspending = await ward.suspending(0.2)
    suspending.cancel()
    await asyncio.wait([suspending])
    refused(await visit.error())
    await ward.house.until(lambda: not workers(), "an end to the workers")


async def test_caller_that_leaves_meanwhile_holds_up_nothing(ward: Ward) -> None:
    visit = await ward.begun()
    suspending = await ward.suspending()
    visit._task.cancel()
    ward.open()
    await suspending
    assert ward.pool.calls == 0


async def test_stream_ends_with_the_reason(ward: Ward) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        url = f"http://{HOST}:{ward.house.port}/v2/models/gated/predict/"
        given = {"journal": str(ward.journal), "do": "stream", "gate": "gate", "size": 2}
        headers = {"Accept": "application/x-ndjson"}
        async with client.stream("POST", url, json=given, headers=headers) as answer:
            await ward.house.until(lambda: ward.events("waits"), "the gate")
            await ward.pool.suspend(WHY, 0.1)
            lines = [orjson.loads(line) async for line in answer.aiter_lines()]
    assert [line["item"] for line in lines[:2]] == [0, 1]
    assert WHY in str(lines[2:])
    assert not workers()


@batch
async def test_batch_in_flight_is_refused_whole(ward: Ward) -> None:
    """The members are not retried one by one, because no worker is left to try them."""
    members = await ward.batch(1, 2, 3)
    await ward.pool.suspend(WHY, 0.1)
    for visit in members:
        refused(await visit.error())
    assert ward.pool.calls == 0
    await ward.pool.resume()
    await ward.predicts()
    assert sorted(ward.events("begin")) == [0, 1, 2, 3, 99]


@batch
async def test_batch_whose_worker_dies_meanwhile_is_not_tried_again(ward: Ward) -> None:
    members = await ward.batch(1, 2, 3)
    [pid] = ward.pool.pids
    suspending = await ward.suspending()
    os.kill(pid, signal.SIGKILL)
    for visit in members:
        assert isinstance(await visit.error(), WorkerDiedError)
    await suspending
    assert ward.pool.calls == 0


@batch
async def test_members_of_a_dead_batch_that_wait_to_be_tried_are_refused(ward: Ward) -> None:
    members = await ward.batch(1, 2, 3)
    [pid] = ward.pool.pids
    os.kill(pid, signal.SIGKILL)
    # `pids` loses the worker before its process has ended; the calls are queued again only then.
    await ward.house.until(
        lambda: len(ward.pool.dispatcher._queue) == 3 or ward.pool.pids not in ([], [pid]),
        "a new try",
    )
    assert ward.pool.calls == 3
    await ward.pool.suspend(WHY, LONG)
    for visit in members:
        refused(await visit.error())
    assert ward.pool.calls == 0
    assert not workers()


@many
async def test_async_calls_end_each_in_their_own_time(ward: Ward) -> None:
    soon = await ward.begun(1)
    late = ward.visit(2, gate="never")
    await ward.house.until(lambda: 2 in ward.events("begin"), "the second")
    suspending = await ward.suspending(3.0)
    ward.open()
    assert (await soon.answer())["number"] == 1
    refused(await late.error())
    await suspending
    assert not workers()


@pair
async def test_idle_worker_ends_while_another_works(ward: Ward) -> None:
    visit = await ward.begun()
    suspending = await ward.suspending()
    await ward.house.until(lambda: len(workers()) == 1, "an end to the idle one")
    assert not suspending.done()
    ward.open()
    await visit.answer()
    await suspending


# --- resumed


@mostly_long
async def test_model_predicts_after_it(ward: Ward) -> None:
    [before] = ward.pool.pids
    await ward.pool.suspend(WHY, LONG)
    await ward.pool.resume()
    assert ward.pool.status.is_ready
    assert (ward.pool.status.is_suspended, ward.pool.status.problem) == (False, "")
    assert ward.pool.pids != [before]
    await ward.predicts()
    assert workers() == ward.pool.pids


async def test_model_is_warmed_anew(ward: Ward) -> None:
    before = await ward.visit().answer()
    await ward.pool.suspend(WHY, LONG)
    await ward.pool.resume()
    after = await ward.visit().answer()
    assert before["warmed"] == [before["pid"]]
    assert after["warmed"] == [after["pid"]] != before["warmed"]


async def test_call_that_comes_while_it_starts_again_is_answered(ward: Ward) -> None:
    await ward.pool.suspend(WHY, LONG)
    resuming = asyncio.create_task(ward.pool.resume())
    await asyncio.sleep(0)
    visit = ward.visit(3)
    assert (await visit.answer())["number"] == 3
    await resuming


async def test_suspended_again_and_again_it_predicts_still(ward: Ward) -> None:
    for _ in range(5):
        await ward.pool.suspend(WHY, LONG)
        assert not workers()
        await ward.pool.resume()
        await ward.predicts()
        assert len(workers()) == 1


async def test_two_suspensions_are_one(ward: Ward) -> None:
    visit = await ward.begun()
    first = await ward.suspending()
    second = asyncio.create_task(ward.pool.suspend("is away", LONG))
    await asyncio.sleep(0)
    ward.open()
    await visit.answer()
    await asyncio.gather(first, second)
    assert "is away" in str(await ward.visit().error())
    await ward.pool.suspend(WHY, LONG)
    await ward.pool.resume()
    await ward.predicts()
    assert len(workers()) == 1


async def test_shorter_of_two_timeouts_holds(ward: Ward) -> None:
    visit = await ward.begun()
    first = await ward.suspending()
    await ward.pool.suspend(WHY, 0.1)
    await first
    refused(await visit.error())


async def test_two_resumptions_are_one(ward: Ward) -> None:
    await ward.pool.suspend(WHY, LONG)
    await asyncio.gather(ward.pool.resume(), ward.pool.resume())
    assert len(workers()) == 1
    [pid] = ward.pool.pids
    await ward.pool.resume()
    assert ward.pool.pids == [pid]
    await ward.predicts()


async def test_resumption_without_a_suspension_does_nothing(ward: Ward) -> None:
    pids = ward.pool.pids
    await ward.pool.resume()
    assert ward.pool.pids == pids == workers()


async def test_resumed_at_once_it_lets_the_old_worker_finish(ward: Ward) -> None:
    visit = await ward.begun(1)
    [old] = ward.pool.pids
    suspending = await ward.suspending()
    await ward.pool.resume()
    assert ward.pool.status.is_ready
    assert old not in ward.pool.pids
    await ward.predicts()
    ward.open()
    assert (await visit.answer())["pid"] == old
    await suspending
    assert workers() == ward.pool.pids


async def test_suspended_while_it_starts_again_it_has_no_worker(ward: Ward) -> None:
    await ward.pool.suspend(WHY, LONG)
    resuming = asyncio.create_task(ward.pool.resume())
    await ward.house.until(workers, "a start")
    await ward.pool.suspend(WHY, LONG)
    await resuming
    assert not workers()
    assert not ward.pool.status.is_ready
    refused(await ward.visit().error())
    await ward.pool.resume()
    await ward.predicts()


async def test_killed_worker_that_is_suspended_has_no_successor(ward: Ward) -> None:
    visit = await ward.begun()
    [pid] = ward.pool.pids
    suspending = await ward.suspending()
    os.kill(pid, signal.SIGKILL)
    assert isinstance(await visit.error(), WorkerDiedError)
    await suspending
    assert not workers()
    assert ward.pool.status.problem == WHY
    await ward.pool.resume()
    await ward.predicts()


async def test_worker_that_dies_at_the_same_time_has_no_successor(ward: Ward) -> None:
    [pid] = ward.pool.pids
    os.kill(pid, signal.SIGKILL)
    await ward.pool.suspend(WHY, LONG)
    assert not workers()
    assert ward.pool.status.problem == WHY


async def test_successor_that_starts_is_ended_too(ward: Ward) -> None:
    [pid] = ward.pool.pids
    os.kill(pid, signal.SIGKILL)
    await ward.house.until(lambda: workers() and pid not in workers(), "a successor")
    await ward.pool.suspend(WHY, LONG)
    assert not workers()
    await ward.pool.resume()
    await ward.predicts()


async def test_predict_timeout_ends_a_call_still(tmp_path: Path) -> None:
    async with House("zoo.gated", options={"predict_timeout": 1.0}) as house:
        ward = Ward(house, tmp_path)
        visit = await ward.begun()
        await ward.pool.suspend(WHY, LONG)
        assert (await visit.error()).code == "timeout"
        assert not workers()
        await ward.pool.resume()
        await ward.predicts()


# --- with a reload, and with a shutdown


async def test_suspended_model_is_not_reloaded(ward: Ward) -> None:
    await ward.pool.suspend(WHY, LONG)
    with pytest.raises(NotReadyError, match=WHY):
        await ward.pool.reload()
    assert not workers()
    assert ward.pool.reload_problem == ""


@pair
async def test_reload_that_is_suspended_is_told(ward: Ward) -> None:
    reloading = asyncio.create_task(ward.pool.reload())
    await ward.house.until(lambda: len(workers()) == 3, "a new worker")
    await ward.pool.suspend(WHY, LONG)
    with pytest.raises(NotReadyError, match=WHY):
        await reloading
    assert not workers()
    assert ward.pool.reload_problem == ""
    await ward.pool.resume()
    await ward.predicts()
    await ward.pool.reload()
    await ward.house.until(lambda: len(workers()) == 2, "an end to the old ones")


@pytest.mark.parametrize("delay", short_and_long([0.0, 0.06, 0.15], [0.02, 0.04, 0.08, 0.1]))
@pair
async def test_reload_that_is_suspended_at_any_time_leaves_nothing(
    ward: Ward, delay: float
) -> None:
    reloading = asyncio.create_task(ward.pool.reload())
    await asyncio.sleep(delay)
    await ward.pool.suspend(WHY, LONG)
    assert not workers()
    await asyncio.wait([reloading])
    assert isinstance(reloading.exception(), NotReadyError | None)
    assert not workers()
    await ward.pool.resume()
    await ward.predicts()
    assert len(workers()) == 2


@mostly_long
async def test_model_that_is_stopped_while_suspended_leaves_nothing(ward: Ward) -> None:
    await ward.pool.suspend(WHY, LONG)
    await ward.pool.stop()
    assert isinstance(await ward.visit().error(), StoppingError)
    await ward.pool.resume()
    await ward.pool.suspend(WHY, LONG)
    assert not workers()
    with pytest.raises(StoppingError):
        await ward.pool.reload()


@mostly_long
async def test_model_that_is_stopped_during_the_suspension_answers_all(ward: Ward) -> None:
    visit = await ward.begun()
    suspending = await ward.suspending()
    await ward.pool.stop()
    assert isinstance(await visit.error(), StoppingError)
    await suspending
    assert not workers()
    assert ward.pool.calls == 0


async def test_model_that_is_stopped_while_it_starts_again_leaves_nothing(ward: Ward) -> None:
    await ward.pool.suspend(WHY, LONG)
    resuming = asyncio.create_task(ward.pool.resume())
    await ward.house.until(workers, "a start")
    await ward.pool.stop()
    await resuming
    assert not workers()


async def test_model_that_drains_says_so(ward: Ward) -> None:
    await ward.pool.suspend(WHY, LONG)
    ward.pool.drain()
    assert ward.pool.status.problem == "is being stopped"
    await ward.pool.resume()
    assert not workers()
    with pytest.raises(StoppingError):
        ward.pool.dispatcher.raise_if_unavailable()


async def test_model_that_is_killed_during_the_suspension_answers_all(ward: Ward) -> None:
    visit = await ward.begun()
    suspending = await ward.suspending()
    ward.pool.kill()
    assert isinstance(await visit.error(), WorkerDiedError)
    await suspending
    assert not workers()


# --- models that have changed

MODEL = """\
import os, pathlib, time

HERE = pathlib.Path(__file__).parent

def warm():
    with open(HERE / "warming", "a") as file:
        file.write("x")
    until = time.monotonic() + 30
    while (HERE / "shut").exists() and time.monotonic() < until:
        time.sleep(0.005)

def predict(**kwargs):
    return {"pid": os.getpid(), "number": 99}
"""


class Late(Ward):
    """A model in a file of its own, which a test can break, and whose `warm` can be delayed."""

    @property
    def file(self) -> Path:
        return self.journal / "late.py"

    @property
    def warmings(self) -> int:
        return len((self.journal / "warming").read_text())

    def shut(self) -> None:
        (self.journal / "shut").touch()

    def unshut(self) -> None:
        (self.journal / "shut").unlink()

    def mend(self) -> None:
        self.file.write_text(MODEL)

    def spoil(self) -> None:
        self.file.write_text("raise RuntimeError('no weights')")


@pytest.fixture
async def late(tmp_path: Path) -> AsyncIterator[Late]:
    (tmp_path / "late.py").write_text(MODEL)
    async with House(str(tmp_path / "late.py"), tmp_path) as house:
        yield Late(house, tmp_path)
    assert not workers(), "a worker was left running"


async def test_worker_that_is_being_warmed_is_ended_at_once(late: Late) -> None:
    await late.pool.suspend(WHY, LONG)
    late.shut()
    resuming = asyncio.create_task(late.pool.resume())
    await late.house.until(lambda: late.warmings == 2, "the warming")
    waiting = late.visit()
    await asyncio.sleep(0)
    await late.pool.suspend(WHY, LONG)
    assert not workers()
    refused(await waiting.error())
    await resuming
    late.unshut()
    await late.pool.resume()
    await late.predicts()
    assert late.warmings == 3


async def test_replacement_that_is_being_warmed_is_ended_at_once(late: Late) -> None:
    late.shut()
    reloading = asyncio.create_task(late.pool.reload())
    await late.house.until(lambda: late.warmings == 2, "the warming")
    await late.pool.suspend(WHY, LONG)
    with pytest.raises(NotReadyError, match=WHY):
        await reloading
    assert not workers()
    late.unshut()
    await late.pool.resume()
    await late.predicts()


async def test_resumption_of_an_unloadable_model_returns_and_tells(late: Late) -> None:
    await late.pool.suspend(WHY, LONG)
    late.spoil()
    await late.pool.resume()
    assert not late.pool.status.is_ready
    assert not late.pool.status.is_suspended
    assert "RuntimeError: no weights" in late.pool.status.problem
    late.mend()
    await late.house.until(lambda: late.pool.status.is_ready, "another try")
    await late.predicts()


async def test_unloadable_model_is_suspended_and_resumed(late: Late) -> None:
    """Resuming tries a start at once, however long the delay until the next start was."""
    await late.pool.suspend(WHY, LONG)
    late.spoil()
    await late.pool.resume()
    await late.house.until(lambda: not late.pool._supervisor.promising, "the back-off")
    await late.pool.suspend(WHY, LONG)
    refused(await late.visit().error())
    late.mend()
    await late.pool.resume()
    assert late.pool.status.is_ready
    await late.predicts()


async def test_calls_for_an_unloadable_model_are_refused(late: Late) -> None:
    await late.pool.suspend(WHY, LONG)
    late.spoil()
    resuming = asyncio.create_task(late.pool.resume())
    await asyncio.sleep(0)
    error = await late.visit().error()
    assert isinstance(error, NotReadyError)
    assert "no weights" in str(error)
    await resuming


async def test_unloadable_model_still_fails_to_be_reloaded_after_it(late: Late) -> None:
    await late.pool.suspend(WHY, LONG)
    await late.pool.resume()
    late.spoil()
    with pytest.raises(ReloadFailedError, match="no weights"):
        await late.pool.reload()
    assert late.pool.status.is_ready
    await late.predicts()
