"""Tests of WorkerSlot: which of several workers started at the same time remains."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any, cast

import pytest

from deepaas.serving.worker_handle import StartError, WorkerHandle
from deepaas.serving.worker_slot import WorkerSlot, launch
from tests.clock import in_virtual_time, now


class Started:
    """A stand-in for a worker; the test decides when it is ready and when it ends."""

    pid = 0
    name = "model[0]"
    phase = "warming"
    seconds_to_ready = 0.1
    answered = 0
    end_reason = ""
    died_alone = False

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.exited: asyncio.Future[str] = loop.create_future()

    def kill(self) -> None:
        if not self.exited.done():
            self.exited.set_result("was ended by signal 9 (SIGKILL)")


class Place:
    """A slot, with all workers started for it."""

    def __init__(self, *, start_timeout: float = 60, restart_delay_max: float = 0.01) -> None:
        self.started: list[Started] = []
        self.seated: list[Any] = []
        self.vacated: list[Any] = []
        self.failed: list[str] = []
        self.waits: list[float] = []
        self.slot = WorkerSlot(
            "model[0]",
            start=self._start,
            seated=self.seated.append,
            vacated=self.vacated.append,
            failed=lambda error: self.failed.append(str(error)),
            waiting=self.waits.append,
            start_timeout=start_timeout,
            restart_delay_max=restart_delay_max,
        )

    def _start(self) -> WorkerHandle:
        self.started.append(Started())
        return cast(WorkerHandle, self.started[-1])

    async def until_started(self, number: int) -> Started:
        while len(self.started) < number:
            await asyncio.sleep(0)
        return self.started[number - 1]


@pytest.mark.parametrize("turns", range(-4, 5))
async def test_two_that_are_ready_at_once_leave_one(turns: int) -> None:
    """The worker that is being replaced dies, so it has both a successor and a replacement."""

    place = Place()
    place.slot.fill()
    present = await place.until_started(1)
    present.ready.set_result(None)
    await place.slot.settled.wait()
    replacing = asyncio.create_task(place.slot.replace())
    replacement = await place.until_started(2)
    present.kill()
    place.slot.lost(cast(WorkerHandle, present))
    successor = await place.until_started(3)
    both = [replacement, successor]
    first, second = both if turns >= 0 else reversed(both)
    first.ready.set_result(None)
    for _ in range(abs(turns)):
        await asyncio.sleep(0)
    second.ready.set_result(None)
    await replacing
    await place.slot.close()
    assert place.slot.worker is replacement  # type: ignore[comparison-overlap]
    assert place.seated[-1] is replacement
    assert successor.exited.done() or place.vacated == [successor]


async def test_one_that_ends_as_soon_as_it_is_ready_has_a_successor() -> None:
    place = Place()
    place.slot.fill()
    dying = await place.until_started(1)
    dying.ready.set_result(None)
    dying.exited.set_result("exited with code 7")
    successor = await place.until_started(2)
    assert place.failed == ["exited with code 7 as soon as it was ready"]
    assert place.waits == [0.01]
    successor.ready.set_result(None)
    while not place.seated:
        await asyncio.sleep(0)
    assert place.seated == [successor]


@in_virtual_time
async def test_one_that_is_not_ready_in_time_is_ended() -> None:
    place = Place(start_timeout=3600)
    began = now()
    with pytest.raises(StartError, match=r"was not ready in 3600 s .*still warming"):
        await place.slot.replace()
    assert now() - began == 3600
    assert place.started[0].exited.done()
    assert place.slot.worker is None


@in_virtual_time
async def test_start_timeout_of_0_is_no_limit() -> None:
    place = Place(start_timeout=0)
    replacing = asyncio.create_task(place.slot.replace())
    await asyncio.sleep(1e6)
    assert not replacing.done()
    place.started[0].ready.set_result(None)
    await replacing
    assert place.seated == place.started


# --- delays between starts, in virtual time


async def starts(place: Place, number: int, end: Callable[[Started], None]) -> list[float]:
    """End each worker as soon as it is started, and return the seconds between the starts."""
    times = []
    for index in range(1, number + 1):
        while len(place.started) < index:
            await asyncio.sleep(0.125)
        times.append(now())
        end(place.started[index - 1])
    return [after - before for before, after in itertools.pairwise(times)]


def fail(started: Started) -> None:
    started.ready.set_exception(StartError("cannot be imported: no"))


@in_virtual_time
async def test_delays_between_starts_that_fail_double_up_to_their_maximum() -> None:
    place = Place(restart_delay_max=10)
    place.slot.fill()
    expected = [0.5, 1, 2, 4, 8, 10, 10]
    assert await starts(place, 8, fail) == expected
    assert place.waits[:7] == expected
    assert len(place.failed) == 7
    await place.slot.close()


@in_virtual_time
async def test_maximum_that_is_shorter_than_the_first_delay_is_kept() -> None:
    place = Place(restart_delay_max=0.25)
    place.slot.fill()
    assert await starts(place, 4, fail) == [0.25, 0.25, 0.25]
    await place.slot.close()


@in_virtual_time
async def test_time_of_the_next_start_is_known_while_it_is_waited_for() -> None:
    place = Place(restart_delay_max=60)
    place.slot.fill()
    await starts(place, 5, fail)
    await some_turns()
    assert place.slot.retry_at == now() + 8
    assert not place.slot.promising
    await asyncio.sleep(8)
    await some_turns()
    assert place.slot.promising
    await place.slot.close()


async def dies(place: Place, number: int, attributes: dict[str, Any]) -> float:
    """Let the worker started as number `number` die; return the seconds until the next start."""
    worker = await seated(place, number)
    vars(worker).update(attributes)
    began = now()
    lose(place, worker)
    while len(place.started) == number:
        await asyncio.sleep(0.125)
    return now() - began


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, [0, 0.5, 1, 2, 4]),
        ({"answered": 1}, [0, 0, 0, 0, 0]),
        ({"end_reason": "is recycled"}, [0, 0, 0, 0, 0]),
        ({"died_alone": True}, [0, 0, 0, 0, 0]),
    ],
    ids=["no answer", "after an answer", "on purpose", "alone"],
)
@in_virtual_time
async def test_delay_after_a_death_depends_on_what_came_before_it(
    attributes: dict[str, Any], expected: list[float]
) -> None:
    """The first worker that dies without an answer is replaced without a delay."""
    place = Place(restart_delay_max=60)
    place.slot.fill()
    delays = [await dies(place, number, attributes) for number in range(1, 6)]
    # `dies` polls every 0.125 s.
    assert [delay if delay > 0.125 else 0 for delay in delays] == expected
    await place.slot.close()


# --- emptied and filled again


async def seated(place: Place, number: int) -> Started:
    """Return the worker started as number `number`, when the slot holds it."""
    started = await place.until_started(number)
    started.ready.set_result(None)
    while started not in place.seated:
        await asyncio.sleep(0)
    return started


def lose(place: Place, worker: Started) -> None:
    worker.kill()
    place.slot.lost(cast(WorkerHandle, worker))


async def some_turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_empty_place_has_no_worker_and_does_not_end_the_one_it_had() -> None:
    place = Place()
    place.slot.refill()
    present = await seated(place, 1)
    place.slot.empty()
    assert place.slot.worker is None
    assert place.slot.settled.is_set()
    assert not present.exited.done()
    assert place.vacated == []


async def test_one_that_ends_after_its_place_was_emptied_has_no_successor() -> None:
    place = Place()
    place.slot.refill()
    present = await seated(place, 1)
    place.slot.empty()
    place.slot.release(cast(WorkerHandle, present))
    lose(place, present)
    await some_turns()
    assert place.started == [present]


async def test_one_that_starts_is_ended_when_its_place_is_emptied() -> None:
    place = Place()
    place.slot.refill()
    starting = await place.until_started(1)
    assert not place.slot.settled.is_set()
    place.slot.empty()
    await asyncio.wait([starting.exited])
    await some_turns()
    assert place.slot.settled.is_set()
    assert (place.started, place.seated, place.failed) == ([starting], [], [])


@pytest.mark.parametrize("turns", range(4))
async def test_one_that_is_ready_as_its_place_is_emptied_does_not_take_it(turns: int) -> None:
    place = Place()
    place.slot.refill()
    starting = await place.until_started(1)
    starting.ready.set_result(None)
    for _ in range(turns):
        await asyncio.sleep(0)
    was_seated = bool(place.seated)
    place.slot.empty()
    await some_turns()
    assert place.slot.worker is None
    assert bool(place.seated) is was_seated
    assert starting.exited.done() is not was_seated


async def test_place_is_filled_again() -> None:
    place = Place()
    place.slot.refill()
    await seated(place, 1)
    place.slot.empty()
    place.slot.refill()
    assert not place.slot.settled.is_set()
    second = await seated(place, 2)
    assert place.slot.settled.is_set()
    assert place.slot.worker is second  # type: ignore[comparison-overlap]
    lose(place, second)
    await seated(place, 3)


async def test_place_that_is_emptied_and_filled_at_once_has_the_newer_one() -> None:
    place = Place()
    place.slot.refill()
    first = await place.until_started(1)
    place.slot.empty()
    place.slot.refill()
    second = await seated(place, 2)
    await some_turns()
    assert first.exited.done()
    assert place.seated == [second]
    assert place.failed == []


async def test_place_is_filled_again_without_a_back_off() -> None:
    place = Place()
    place.slot._restart_delay_max = 60
    place.slot.refill()
    failing = await place.until_started(1)
    failing.ready.set_exception(StartError("cannot be imported: no"))
    while place.slot.promising:
        await asyncio.sleep(0)
    assert place.slot.retry_at > 0
    place.slot.empty()
    assert place.slot.promising
    assert place.slot.retry_at == 0
    place.slot.refill()
    await seated(place, 2)


async def test_place_can_be_emptied_before_it_was_filled_and_twice() -> None:
    place = Place()
    place.slot.empty()
    place.slot.empty()
    await place.slot.settled.wait()
    await place.slot.close()
    assert place.started == []


# --- one start


def never() -> WorkerHandle:
    raise OSError(11, "Resource temporarily unavailable")


def refuse() -> WorkerHandle:
    raise StartError("was not started")


@pytest.mark.parametrize(
    ("start", "why"),
    [(never, "could not be started: .*temporarily unavailable"), (refuse, "was not started")],
)
async def test_one_that_cannot_be_started_is_told(
    start: Callable[[], WorkerHandle], why: str
) -> None:
    with pytest.raises(StartError, match=why):
        await launch(start, 60)


async def test_one_that_is_ready_is_returned() -> None:
    started = Started()
    started.ready.set_result(None)
    assert await launch(lambda: cast(WorkerHandle, started), 0) is cast(WorkerHandle, started)
    assert (started.end_reason, started.exited.done()) == ("", False)


async def test_one_that_is_to_end_meanwhile_is_ended() -> None:
    started = Started()
    started.ready.set_result(None)
    started.end_reason = "is being trained"
    with pytest.raises(StartError, match="as soon as it was ready: it is being trained"):
        await launch(lambda: cast(WorkerHandle, started), 60)
    assert started.exited.done()


class Slow(Started):
    """A worker that takes some time to end."""

    def kill(self) -> None:
        if not self.exited.done():
            asyncio.get_running_loop().call_later(0.02, super().kill)


async def test_start_that_is_cancelled_returns_when_the_process_has_ended() -> None:
    started = Slow()
    launching = asyncio.create_task(launch(lambda: cast(WorkerHandle, started), 60))
    await asyncio.sleep(0)
    launching.cancel()
    await asyncio.wait([launching])
    assert launching.cancelled()
    assert started.exited.done()
    assert started.end_reason == "did not become ready"
