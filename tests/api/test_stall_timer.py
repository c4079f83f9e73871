"""Clients that stall or send too slowly, in virtual time."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepaas.http.stall_timer import BodyWait, RateMonitor, StallTimer
from tests.clock import START, VirtualLoop, in_virtual_time, now, run


class Bell:
    """A callback that records when it is called."""

    def __init__(self) -> None:
        self.rung: list[float] = []

    def __call__(self) -> None:
        self.rung.append(now() - START)


@pytest.fixture
def bell() -> Bell:
    return Bell()


# --- how long a wait may take


@in_virtual_time
async def test_wait_that_lasts_too_long_is_told_once(bell: Bell) -> None:
    with StallTimer(10, bell) as stall:
        stall.begin()
        await asyncio.sleep(9.9)
        assert bell.rung == []
        await asyncio.sleep(100)
        assert bell.rung == [10]


@in_virtual_time
async def test_wait_that_has_ended_is_not_told(bell: Bell) -> None:
    with StallTimer(10, bell) as stall:
        stall.begin()
        await asyncio.sleep(9)
        stall.end()
        await asyncio.sleep(100)
    assert bell.rung == []


@in_virtual_time
async def test_each_wait_has_its_own_time(bell: Bell) -> None:
    with StallTimer(10, bell) as stall:
        for _ in range(5):
            stall.begin()
            await asyncio.sleep(8)
            stall.end()
        stall.begin()
        await asyncio.sleep(30)
    assert bell.rung == [50]


@in_virtual_time
async def test_wait_after_a_rest_is_told_too(bell: Bell) -> None:
    with StallTimer(10, bell) as stall:
        stall.begin()
        stall.end()
        await asyncio.sleep(30)
        stall.begin()
        await asyncio.sleep(30)
    assert bell.rung == [40]


@in_virtual_time
async def test_beginning_again_begins_anew(bell: Bell) -> None:
    with StallTimer(10, bell) as stall:
        stall.begin()
        await asyncio.sleep(8)
        stall.begin()
        await asyncio.sleep(8)
        assert bell.rung == []
        await asyncio.sleep(3)
    assert bell.rung == [18]


@in_virtual_time
async def test_zero_is_no_limit(bell: Bell) -> None:
    with StallTimer(0, bell) as stall:
        stall.begin()
        await asyncio.sleep(1e6)
    assert (bell.rung, timers_so_far()) == ([], 1)  # this test's sleep


def timers_so_far() -> int:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop.timers_so_far


@in_virtual_time
async def test_nothing_is_told_after_the_end(bell: Bell) -> None:
    with StallTimer(10, bell) as stall:
        stall.begin()
    await asyncio.sleep(100)
    assert bell.rung == []
    StallTimer(10, bell).close()  # a timer can be closed before it begins


@in_virtual_time
async def test_many_waits_need_one_timer(bell: Bell) -> None:
    with StallTimer(10, bell) as stall:
        for _ in range(1000):
            stall.begin()
            await asyncio.sleep(0.001)
            stall.end()
    assert timers_so_far() == 1000 + 1  # this test's sleeps, and one timer


_waits = st.lists(st.tuples(st.floats(0, 9.5), st.floats(0, 30)), max_size=10)


@given(_waits, st.floats(0, 9.5))
def test_only_the_wait_that_is_too_long_is_told(
    waits: list[tuple[float, float]], last: float
) -> None:
    async def wait() -> None:
        bell = Bell()
        with StallTimer(10, bell) as stall:
            for waited, rested in waits:
                stall.begin()
                await asyncio.sleep(waited)
                stall.end()
                await asyncio.sleep(rested)
            stall.begin()
            await asyncio.sleep(last)
            assert bell.rung == []
            await asyncio.sleep(10 - last + 0.001)
            assert len(bell.rung) == 1

    run(wait())


# --- how slowly bytes may come


@in_virtual_time
async def test_client_that_sends_nothing_is_too_slow_after_a_window(bell: Bell) -> None:
    pace = RateMonitor(100, 10, bell)
    pace.begin()
    await asyncio.sleep(9.9)
    assert bell.rung == []
    await asyncio.sleep(100)
    assert bell.rung == [10]
    pace.close()


async def drip(pace: RateMonitor, size: int, every: float, times: int) -> None:
    for _ in range(times):
        pace.begin()
        await asyncio.sleep(every)
        pace.end(size)


@in_virtual_time
async def test_client_that_sends_less_than_the_rate_is_too_slow(bell: Bell) -> None:
    pace = RateMonitor(100, 10, bell)
    await drip(pace, 99, every=1, times=10)
    assert bell.rung == [10]
    pace.close()


@in_virtual_time
async def test_client_that_sends_faster_than_the_rate_may_take_any_time(bell: Bell) -> None:
    pace = RateMonitor(100, 10, bell)
    await drip(pace, 40, every=0.3, times=10_000)
    assert bell.rung == []
    pace.close()


@in_virtual_time
async def test_each_window_is_judged_by_its_own_bytes(bell: Bell) -> None:
    """A client that was fast gets no credit for later windows."""
    pace = RateMonitor(100, 10, bell)
    await drip(pace, 10_000, every=0.9, times=11)
    await drip(pace, 1, every=0.9, times=20)
    assert bell.rung[0] == pytest.approx(20)
    pace.close()


@in_virtual_time
async def test_time_between_two_waits_does_not_count(bell: Bell) -> None:
    """Between waits the server does other work, so the client may be unable to send."""
    pace = RateMonitor(100, 10, bell)
    for _ in range(9):
        await drip(pace, 1, every=1, times=1)
        await asyncio.sleep(1000)
    assert bell.rung == []
    await drip(pace, 1, every=1, times=1)
    assert len(bell.rung) == 1
    pace.close()


@in_virtual_time
async def test_small_rest_may_take_a_whole_window(bell: Bell) -> None:
    pace = RateMonitor(100, 10, bell)
    await drip(pace, 1, every=9.9, times=1)
    pace.close()
    await asyncio.sleep(1000)
    assert bell.rung == []


@in_virtual_time
async def test_rate_of_zero_is_no_limit(bell: Bell) -> None:
    pace = RateMonitor(0, 10, bell)
    await drip(pace, 0, every=1e5, times=3)
    assert (bell.rung, timers_so_far()) == ([], 3)  # this test's sleeps


@in_virtual_time
async def test_many_waits_of_a_pace_need_one_timer_for_a_window(bell: Bell) -> None:
    pace = RateMonitor(1, 10, bell)
    await drip(pace, 1, every=1 / 128, times=128 * 9)
    assert timers_so_far() == 128 * 9 + 1
    pace.close()


@in_virtual_time
async def test_an_arrival_is_watched_for_pauses_and_for_its_pace() -> None:
    pauses, slow = Bell(), Bell()
    with BodyWait(StallTimer(10, pauses), RateMonitor(100, 4, slow)) as arrival:
        for _ in range(3):
            arrival.begin()
            await asyncio.sleep(1)
            arrival.end(200)
        arrival.begin()
        await asyncio.sleep(20)
    await asyncio.sleep(100)
    assert (pauses.rung, slow.rung) == ([13], [8])
