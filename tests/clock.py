"""Event loops with clocks that tests control, so no test waits for a long timeout.

`VirtualLoop` is for code that only waits for timers: when nothing is ready, its clock jumps to the
next timer. `TurnedLoop` is for code that also uses sockets and processes: its clock follows the
real clock, and a test can move it ahead with `turn`.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
import time
from collections.abc import Callable, Coroutine
from types import ModuleType
from typing import Any

import pytest

START = 1000.0
"""The start time of a `VirtualLoop`. It is not 0, because some code uses 0 for "never"."""


class NothingWillHappenError(RuntimeError):
    """All tasks wait, and no timer is set that could wake one of them."""


class _Selector(selectors.DefaultSelector):
    """A selector that never sleeps: it passes the seconds to `skip` instead."""

    def __init__(self, skip: Callable[[float | None], None]) -> None:
        super().__init__()
        self._skip = skip

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events and (timeout is None or timeout > 0):
            self._skip(timeout)
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer when nothing else is ready.

    It does not wait for threads, processes or sockets. Without a timer it raises
    NothingWillHappenError instead of hanging.
    """

    def __init__(self) -> None:
        self.timers_so_far = 0
        self._now = START
        super().__init__(_Selector(self._skip))

    def time(self) -> float:
        return self._now

    def call_at(  # type: ignore[override]  # it has one type for callback and arguments
        self, when: float, callback: Callable[..., object], *args: Any, **context: Any
    ) -> asyncio.TimerHandle:
        self.timers_so_far += 1
        return super().call_at(when, callback, *args, **context)

    def _skip(self, seconds: float | None) -> None:
        if seconds is None:
            waiting = ", ".join(sorted(map(repr, asyncio.all_tasks(self))))
            raise NothingWillHappenError(f"there is no timer, and these tasks wait: {waiting}")
        self._now += seconds


class TurnedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock follows the real clock, and which a test can move ahead."""

    _ahead = 0.0

    def time(self) -> float:
        return super().time() + self._ahead

    def turn(self, seconds: float) -> None:
        """Move the clock ahead. The next iteration of the loop calls the timers that are due."""
        self._ahead += seconds


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine in virtual time."""
    loop = VirtualLoop()
    try:
        loop.run_until_complete(test)
    finally:
        _end(loop)


def _end(loop: asyncio.AbstractEventLoop) -> None:
    async def cancel(tasks: set[asyncio.Task[Any]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    try:
        loop.run_until_complete(cancel(asyncio.all_tasks(loop)))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make a coroutine test run in virtual time."""

    @functools.wraps(test)
    def virtual(*args: Any, **kwargs: Any) -> None:
        run(test(*args, **kwargs))

    return virtual


def now() -> float:
    """Return the time of the running loop."""
    return asyncio.get_running_loop().time()


class _Time(ModuleType):
    """The module `time`, with the clock of the running loop as its monotonic clock."""

    def __getattr__(self, name: str) -> Any:
        return now if name == "monotonic" else getattr(time, name)


def follow(monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> None:
    """Make `time.monotonic` return the time of the running loop in these modules."""
    for module in modules:
        monkeypatch.setattr(module, "time", _Time("time"))
