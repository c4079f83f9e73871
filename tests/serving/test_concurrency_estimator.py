"""The estimate of how many calls a worker can expect at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepaas.serving.concurrency import CONCURRENCY_SECONDS, ConcurrencyEstimator

PERIOD = CONCURRENCY_SECONDS


def expected(concurrency: ConcurrencyEstimator, *calls: tuple[int, float]) -> int:
    """Return the estimate after the last of these pairs of a number of calls and a time."""
    return [concurrency.with_one_more(count, when) for count, when in calls][-1]


def test_first_call_expects_no_other() -> None:
    assert expected(ConcurrencyEstimator(), (1, 1000.0)) == 1


def test_most_of_this_period_counts() -> None:
    assert expected(ConcurrencyEstimator(), (1, 0.0), (4, 0.01), (2, 0.02)) == 4


def test_most_of_the_last_period_counts_still() -> None:
    assert expected(ConcurrencyEstimator(), (4, 0.0), (1, PERIOD)) == 4
    assert expected(ConcurrencyEstimator(), (4, 0.0), (1, PERIOD), (1, 2 * PERIOD - 0.01)) == 4


@pytest.mark.parametrize("later", [2, 3, 1000, 1_000_000])
def test_what_was_longer_ago_is_forgotten(later: int) -> None:
    assert expected(ConcurrencyEstimator(), (4, 0.0), (1, PERIOD), (1, 2 * PERIOD)) == 1
    assert expected(ConcurrencyEstimator(), (4, 0.0), (1, later * PERIOD)) == 1


def test_what_was_before_a_long_batch_counts_still() -> None:
    """The worker was busy until now, so its callers are about to return."""
    concurrency = ConcurrencyEstimator()
    assert concurrency.with_one_more(4, 0.0) == 4
    now = 10 * PERIOD
    assert concurrency.with_one_more(1, now, progress=now - PERIOD / 2) == 4
    assert ConcurrencyEstimator().with_one_more(1, now, progress=now) == 1


_steps = st.lists(st.tuples(st.integers(1, 50), st.floats(0, 3)), min_size=1, max_size=20)


@given(_steps)
def test_expectation_is_what_there_was_of_late(steps: list[tuple[int, float]]) -> None:
    concurrency = ConcurrencyEstimator()
    now = 100.0
    seen: list[tuple[int, float]] = []
    for count, seconds in steps:
        now += seconds * PERIOD
        seen.append((count, now))
        found = concurrency.with_one_more(count, now)
        this_period = int(now / PERIOD)
        recent = [one for one, when in seen if int(when / PERIOD) >= this_period - 1]
        assert found == max(recent)
