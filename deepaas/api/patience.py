"""Ends a wait for a client that gets nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Patience:
    """Calls `on_over` when a wait lasts longer than `seconds`; 0 is no limit.

    A wait is what lies between `begin` and `end`; beginning again begins anew. Cheap, as there is
    one timer for many waits.
    """

    def __init__(self, seconds: float, on_over: Callable[[], object]) -> None:
        self._seconds = seconds
        self._on_over = on_over
        self._loop = asyncio.get_running_loop()
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Patience:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def begin(self) -> None:
        self._since = self._loop.time()
        if self._timer is None and self._seconds:
            self._timer = self._loop.call_later(self._seconds, self._look)

    def end(self) -> None:
        self._since = 0.0

    def _look(self) -> None:
        self._timer = None
        if not self._since:
            return
        over = self._since + self._seconds
        if over <= self._loop.time():
            self._on_over()
        else:
            self._timer = self._loop.call_at(over, self._look)
