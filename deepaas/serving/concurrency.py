"""Estimates how many calls a worker has at once; a batch waits for that many."""

from __future__ import annotations

CONCURRENCY_SECONDS = 0.25


class ConcurrencyEstimator:
    """Counts how many calls a worker recently had at once. As many may soon come together again."""

    def __init__(self) -> None:
        self._period = 0
        self._most = 0
        self._before = 0

    def with_one_more(self, calls: int, now: float, progress: float = 0.0) -> int:
        """Count `calls` calls now, and return the maximum of this period and the one before.

        `progress` is when the worker last answered: after a period without calls or answers, the
        counts start anew.
        """
        period = int(now / CONCURRENCY_SECONDS)
        if period != self._period:
            busy_until = max(self._period, int(progress / CONCURRENCY_SECONDS))
            self._before = self._most if period - busy_until <= 1 else 0
            self._period = period
            self._most = 0
        self._most = max(self._most, calls)
        return max(self._before, self._most)
