"""The delays before a failed attempt is repeated, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from deepaas.jobs import backoff
from deepaas.jobs.backoff import Backoff
from tests import clock
from tests.clock import in_virtual_time, now


@pytest.fixture(autouse=True)
def _virtual(monkeypatch: pytest.MonkeyPatch) -> None:
    clock.follow(monkeypatch, backoff)


async def delays(failing: Backoff, times: int) -> list[float]:
    """Return the seconds until the next attempt is due, for each of several failures."""
    found = []
    for _ in range(times):
        failing.fail()
        began = now()
        while not failing.is_due:
            await asyncio.sleep(0.5)
        found.append(now() - began)
    return found


@in_virtual_time
async def test_delays_double_up_to_ten_seconds() -> None:
    assert await delays(Backoff(), 6) == [1, 2, 4, 8, 10, 10]


@in_virtual_time
async def test_delays_begin_anew_after_a_success() -> None:
    failing = Backoff()
    await delays(failing, 3)
    failing.reset()
    assert failing.is_due
    assert await delays(failing, 2) == [1, 2]


@in_virtual_time
async def test_an_attempt_can_be_hurried_and_the_next_delay_is_as_long_as_without_that() -> None:
    failing = Backoff()
    failing.fail()
    assert not failing.is_due
    failing.hurry()
    assert failing.is_due
    assert await delays(failing, 2) == [2, 4]
