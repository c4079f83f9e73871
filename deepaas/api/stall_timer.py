"""Ends the wait for a client that sends or takes nothing, or sends too slowly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class StallTimer:
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

    def __enter__(self) -> StallTimer:
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


class RateMonitor:
    """Calls `on_slow` when fewer bytes come than `rate` per second; 0 is no limit.

    The bytes are counted over windows of `window` seconds. Only the time that is spent waiting
    counts, between `begin` and `end`: while the server does something else, the client may not be
    able to send. There is one timer for many waits.
    """

    def __init__(self, rate: int, window: float, on_slow: Callable[[], object]) -> None:
        self._wanted = rate * window
        self._window = window
        self._on_slow = on_slow
        self._loop = asyncio.get_running_loop()
        self._since = 0.0  # when the present wait began; 0 if there is none
        self._waited = 0.0  # seconds of this window
        self._size = 0  # bytes of this window
        self._timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def begin(self) -> None:
        if self._wanted:
            self._since = self._loop.time()
            if self._timer is None:
                self._look_in(self._window - self._waited)

    def end(self, size: int) -> None:
        """The wait is over: so many bytes have come."""
        if self._since:
            self._waited += self._loop.time() - self._since
            self._since = 0.0
            self._size += size
            if self._waited >= self._window:
                self._judge()

    def _look_in(self, seconds: float) -> None:
        self._timer = self._loop.call_later(max(0.0, seconds), self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._since:
            return
        now = self._loop.time()
        self._waited += now - self._since
        self._since = now
        if self._waited < self._window:
            self._look_in(self._window - self._waited)
        elif self._judge():
            self._look_in(self._window)

    def _judge(self) -> bool:
        """End this window; whether enough has come in it."""
        is_enough = self._size >= self._wanted
        self._waited, self._size = 0.0, 0
        if not is_enough:
            self._on_slow()
        return is_enough


class BodyWait:
    """A block in which a client sends something; `begin` and `end` enclose each wait for it."""

    def __init__(self, stall: StallTimer, rate: RateMonitor) -> None:
        self._stall = stall
        self._rate = rate

    def __enter__(self) -> BodyWait:
        return self

    def __exit__(self, *_: object) -> None:
        self._stall.close()
        self._rate.close()

    def begin(self) -> None:
        self._stall.begin()
        self._rate.begin()

    def end(self, size: int) -> None:
        self._stall.end()
        self._rate.end(size)
