"""How many calls a worker has at once: how long a batch waits for others depends on it."""

from __future__ import annotations

CONCURRENCY_SECONDS = 0.25


class ConcurrencyEstimator:
    """Counts how many calls a worker recently had at once. As many may soon come together again."""

    def __init__(self) -> None:
        self._period = 0
        self._most = 0
        self._before = 0

    def with_one_more(self, calls: int, now: float, progress: float = 0.0) -> int:
        """Note that there are `calls` now; the most there were in this period and the one before.

        `progress` is when the worker last answered: a period without calls or answers is forgotten.
        """
        period = int(now / CONCURRENCY_SECONDS)
        if period != self._period:
            busy_until = max(self._period, int(progress / CONCURRENCY_SECONDS))
            self._before = self._most if period - busy_until <= 1 else 0
            self._period = period
            self._most = 0
        self._most = max(self._most, calls)
        return max(self._before, self._most)
