"""The end of a wait that gets nowhere, by a clock that the tests turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepaas.api.patience import Patience


class Timer:
    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self.when = when
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Clock:
    """As much of an event loop as is needed to tell the time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[Timer] = []
        self.set_so_far = 0

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        self.set_so_far += 1
        self.timers.append(Timer(when, callback))
        return self.timers[-1]

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        return self.call_at(self.now + seconds, callback)

    def turn(self, seconds: float) -> None:
        """Let time pass, and what is due happen."""
        end = self.now + seconds
        while due := [one for one in self.timers if one.when <= end and not one.is_cancelled]:
            first = min(due, key=lambda one: one.when)
            self.timers.remove(first)
            self.now = max(self.now, first.when)
            first.callback()
        self.now = end


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: clock)
    return clock


class Bell:
    """Notes when it rings."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.now
        self.rung: list[float] = []

    def __call__(self) -> None:
        self.rung.append(self._clock.now - self._began)


@pytest.fixture
def bell(clock: Clock) -> Bell:
    return Bell(clock)


def test_wait_that_lasts_too_long_is_told_once(clock: Clock, bell: Bell) -> None:
    with Patience(10, bell) as patience:
        patience.begin()
        clock.turn(9.9)
        assert bell.rung == []
        clock.turn(100)
        assert bell.rung == [10]


def test_wait_that_has_ended_is_not_told(clock: Clock, bell: Bell) -> None:
    with Patience(10, bell) as patience:
        patience.begin()
        clock.turn(9)
        patience.end()
        clock.turn(100)
    assert bell.rung == []


def test_each_wait_has_its_own_time(clock: Clock, bell: Bell) -> None:
    with Patience(10, bell) as patience:
        for _ in range(5):
            patience.begin()
            clock.turn(8)
            patience.end()
        patience.begin()
        clock.turn(30)
    assert bell.rung == [50]


def test_wait_after_a_rest_is_told_too(clock: Clock, bell: Bell) -> None:
    with Patience(10, bell) as patience:
        patience.begin()
        patience.end()
        clock.turn(30)
        patience.begin()
        clock.turn(30)
    assert bell.rung == [40]


def test_beginning_again_begins_anew(clock: Clock, bell: Bell) -> None:
    with Patience(10, bell) as patience:
        patience.begin()
        clock.turn(8)
        patience.begin()
        clock.turn(8)
        assert bell.rung == []
        clock.turn(2)
    assert bell.rung == [18]


def test_zero_is_no_limit(clock: Clock, bell: Bell) -> None:
    with Patience(0, bell) as patience:
        patience.begin()
        clock.turn(1e9)
    assert (bell.rung, clock.set_so_far) == ([], 0)


def test_nothing_is_told_after_the_end(clock: Clock, bell: Bell) -> None:
    with Patience(10, bell) as patience:
        patience.begin()
    clock.turn(100)
    assert bell.rung == []
    Patience(10, bell).close()  # it need not have begun


def test_many_waits_need_one_timer(clock: Clock, bell: Bell) -> None:
    with Patience(10, bell) as patience:
        for _ in range(1000):
            patience.begin()
            clock.turn(0.001)
            patience.end()
    assert clock.set_so_far == 1


_waits = st.lists(st.tuples(st.floats(0, 9.5), st.floats(0, 30)), max_size=10)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_waits, st.floats(0, 9.5))
def test_only_the_wait_that_is_too_long_is_told(
    clock: Clock, waits: list[tuple[float, float]], last: float
) -> None:
    bell = Bell(clock)
    with Patience(10, bell) as patience:
        for waited, rested in waits:
            patience.begin()
            clock.turn(waited)
            patience.end()
            clock.turn(rested)
        patience.begin()
        clock.turn(last)
        assert bell.rung == []
        clock.turn(10 - last + 0.001)
        assert len(bell.rung) == 1
