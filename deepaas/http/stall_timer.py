"""Timers for clients that send or read nothing, or send too slowly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class StallTimer:
    """A timer that calls `on_over` when a wait lasts longer than `seconds`; 0 is no limit.

    A wait lasts from `begin` to `end`; another `begin` restarts it. A wait is cheap, because many
    waits share one timer of the event loop.
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
            self._timer = self._loop.call_later(self._seconds, self._check)

    def end(self) -> None:
        self._since = 0.0

    def _check(self) -> None:
        self._timer = None
        if not self._since:
            return
        over = self._since + self._seconds
        if over <= self._loop.time():
            self._on_over()
        else:
            self._timer = self._loop.call_at(over, self._check)


class RateMonitor:
    """A monitor that calls `on_slow` when fewer bytes than `rate` per second arrive; 0 is no limit.

    The bytes are counted over windows of `window` seconds. Only the time between `begin` and `end`
    counts: while the server does other work, the client may be unable to send. Many waits share one
    timer.
    """

    def __init__(self, rate: int, window: float, on_slow: Callable[[], object]) -> None:
        self._wanted = rate * window
        self._window = window
        self._on_slow = on_slow
        self._loop = asyncio.get_running_loop()
        self._since = 0.0  # when the present wait began; 0 outside of a wait
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
                self._check_in(self._window - self._waited)

    def end(self, size: int) -> None:
        """End the wait; `size` bytes have arrived."""
        if self._since:
            self._waited += self._loop.time() - self._since
            self._since = 0.0
            self._size += size
            if self._waited >= self._window:
                self._end_window()

    def _check_in(self, seconds: float) -> None:
        self._timer = self._loop.call_later(max(0.0, seconds), self._check)

    def _check(self) -> None:
        self._timer = None
        if not self._since:
            return
        now = self._loop.time()
        self._waited += now - self._since
        self._since = now
        if self._waited < self._window:
            self._check_in(self._window - self._waited)
        elif self._end_window():
            self._check_in(self._window)

    def _end_window(self) -> bool:
        """End this window, and return whether enough bytes have arrived in it."""
        is_enough = self._size >= self._wanted
        self._waited, self._size = 0.0, 0
        if not is_enough:
            self._on_slow()
        return is_enough


class BodyWait:
    """The timers for receiving one body. Each wait lasts from `begin` to `end`."""

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
