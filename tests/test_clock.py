"""The event loops with clocks that tests control."""

from __future__ import annotations

import asyncio

import pytest

from tests.clock import START, NothingWillHappenError, TurnedLoop, in_virtual_time, now, run


@in_virtual_time
async def test_clock_moves_to_the_next_timer_in_order() -> None:
    seen: list[tuple[str, float]] = []

    async def note(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        seen.append((name, now() - START))

    await asyncio.gather(note("last", 86_400), note("first", 1), note("second", 2.5))
    assert seen == [("first", 1), ("second", 2.5), ("last", 86_400)]


@in_virtual_time
async def test_clock_stands_still_while_something_is_ready() -> None:
    for _ in range(100):
        await asyncio.sleep(0)
    assert now() == START


def test_a_loop_in_which_nothing_will_happen_fails_at_once() -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(NothingWillHappenError, match="there is no timer, and these tasks wait"):
        run(wait())


def test_clock_of_a_turned_loop_is_moved_ahead() -> None:
    loop = TurnedLoop()

    async def wait() -> None:
        sleeping = asyncio.create_task(asyncio.sleep(3600))
        await asyncio.sleep(0)
        loop.turn(3000)
        await asyncio.sleep(0.001)
        assert not sleeping.done()
        loop.turn(700)
        await sleeping

    try:
        loop.run_until_complete(wait())
    finally:
        loop.close()
