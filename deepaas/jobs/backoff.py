"""The delays between attempts at something that fails."""

from __future__ import annotations

import time

FIRST_SECONDS = 1.0
LAST_SECONDS = 10.0


class Backoff:
    """Says when the next attempt is due: after 1, 2, 4, 8 and then every 10 seconds."""

    def __init__(self) -> None:
        self.due = 0.0
        """The time of the next attempt, on the monotonic clock."""
        self._seconds = FIRST_SECONDS

    def __repr__(self) -> str:
        return f"<Backoff: due at {self.due:.1f}>"

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self.due

    def fail(self) -> None:
        """Note that an attempt has failed."""
        self.due = time.monotonic() + self._seconds
        self._seconds = min(2 * self._seconds, LAST_SECONDS)

    def hurry(self) -> None:
        """Make the next attempt due now."""
        self.due = 0.0

    def reset(self) -> None:
        """Note that an attempt has succeeded."""
        self.due, self._seconds = 0.0, FIRST_SECONDS
