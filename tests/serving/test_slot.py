"""A place for a worker: what becomes of those that are started for it at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

import pytest

from deepaas.serving.slot import Slot
from deepaas.serving.worker import StartError, Worker


class Started:
    """What a slot needs to know of a worker; when it is ready, and when it ends, is ours to say."""

    pid = 0
    name = "model[0]"
    phase = "warming"
    seconds_to_ready = 0.1
    answered = 0
    doom = ""
    died_alone = False

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.exited: asyncio.Future[str] = loop.create_future()

    def kill(self) -> None:
        if not self.exited.done():
            self.exited.set_result("was ended by signal 9 (SIGKILL)")


class Place:
    """A slot, and all that was started for it."""

    def __init__(self, *, start_timeout: float = 60) -> None:
        self.started: list[Started] = []
        self.seated: list[Any] = []
        self.vacated: list[Any] = []
        self.failed: list[str] = []
        self.slot = Slot(
            "model[0]",
            start=self._start,
            seated=self.seated.append,
            vacated=self.vacated.append,
            failed=self.failed.append,
            start_timeout=start_timeout,
            restart_delay_max=0.01,
        )

    def _start(self) -> Worker:
        self.started.append(Started())
        return cast(Worker, self.started[-1])

    async def until_started(self, number: int) -> Started:
        while len(self.started) < number:
            await asyncio.sleep(0)
        return self.started[number - 1]


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 10))


@pytest.mark.parametrize("turns", range(-4, 5))
def test_two_that_are_ready_at_once_leave_one(turns: int) -> None:
    """The worker that is replaced has died meanwhile: it has a successor and a replacement."""

    async def check() -> None:
        place = Place()
        place.slot.fill()
        present = await place.until_started(1)
        present.ready.set_result(None)
        await place.slot.settled.wait()
        replacing = asyncio.create_task(place.slot.replace())
        replacement = await place.until_started(2)
        present.kill()
        place.slot.lost(cast(Worker, present))
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

    run(check())


def test_one_that_ends_as_soon_as_it_is_ready_has_a_successor() -> None:
    async def check() -> None:
        place = Place()
        place.slot.fill()
        dying = await place.until_started(1)
        dying.ready.set_result(None)
        dying.exited.set_result("exited with code 7")
        successor = await place.until_started(2)
        assert place.failed == ["exited with code 7 as soon as it was ready", ""]
        successor.ready.set_result(None)
        while not place.seated:
            await asyncio.sleep(0)
        assert place.seated == [successor]

    run(check())


def test_one_that_is_not_ready_in_time_is_ended() -> None:
    async def check() -> None:
        place = Place(start_timeout=0.05)
        with pytest.raises(StartError, match=r"was not ready in 0\.05 s, and is warming still"):
            await place.slot.replace()
        assert place.started[0].exited.done()
        assert place.slot.worker is None

    run(check())
