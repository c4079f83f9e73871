"""The times of guard restarts: real processes that end on demand, in virtual time."""

from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path

import psutil
import pytest

from deepaas.serving.guard import Guard
from tests.clock import START, in_virtual_time, now


class Mortal(Guard):
    """A guard whose processes each end after `lives` seconds; `starts` holds their start times.

    `refusals` is the number of following starts that the system refuses.
    """

    def __init__(self, directory: Path) -> None:
        self.lives = 0.0
        self.refusals = 0
        self.starts: list[float] = []
        super().__init__(str(directory))

    def _start(self) -> None:
        if not self.starts:
            self.starts.append(START)  # no loop is running yet
            super()._start()
            return
        self.starts.append(now())
        if self.refusals:
            self.refusals -= 1
            raise OSError(11, "Resource temporarily unavailable")
        super()._start()
        self.end_in_time()

    def end_in_time(self) -> None:
        asyncio.get_running_loop().call_later(self.lives, self._end)

    def _end(self) -> None:
        self._process.kill()
        os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOWAIT)  # leaves it to be reaped

    async def intervals(self, number: int) -> list[float]:
        """Return the seconds between consecutive starts, for the first `number` intervals."""
        while len(self.starts) <= number:
            await asyncio.sleep(0.0625)
        return [after - before for before, after in itertools.pairwise(self.starts)][:number]


def make(tmp_path: Path) -> Mortal:
    return Mortal(tmp_path / "uploads")


@in_virtual_time
async def test_guards_that_end_at_once_are_started_at_intervals_that_double_up_to_a_minute(
    tmp_path: Path,
) -> None:
    guard = make(tmp_path)
    try:
        with guard.watched():
            guard.end_in_time()
            expected = [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
            assert await guard.intervals(9) == pytest.approx(expected, abs=0.01)
    finally:
        guard.close()
    assert psutil.Process().children() == []


@in_virtual_time
async def test_guard_that_has_been_steady_is_replaced_at_once(tmp_path: Path) -> None:
    guard = make(tmp_path)
    try:
        with guard.watched():
            guard.end_in_time()
            assert await guard.intervals(2) == pytest.approx([0.5, 1], abs=0.01)
            guard.lives = 10.0
            # The third one ends at once, so the delay before the next one is the longest.
            following = (await guard.intervals(5))[2:]
            assert following == pytest.approx([2, 10, 10], abs=0.01)
            guard.lives = 9.0
            following = (await guard.intervals(8))[5:]
            assert following == pytest.approx([10, 9.5, 10], abs=0.01)
    finally:
        guard.close()


@in_virtual_time
async def test_start_that_the_system_refuses_is_tried_again_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    guard = make(tmp_path)
    try:
        with guard.watched():
            guard.lives = 3600.0
            guard.refusals = 3
            guard._end()
            assert await guard.intervals(4) == pytest.approx([0.5, 1, 2, 4], abs=0.01)
            await asyncio.sleep(600)
            assert len(guard.starts) == 5
    finally:
        guard.close()
    assert caplog.text.count("No guard can be started") == 3
