"""Responses that the server holds in memory for clients that do not read them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

logger = logging.getLogger("deepaas.api")

LOG_SECONDS = 10.0
"""The minimum time between two lines of the log."""

KEPT = 7 / 8
"""The share of the limit that stays held after connections were closed: checks take time."""

PIECE = 64 * 1024
"""Bytes of a response that are written at a time: memory holds a piece until all of it is sent."""


class Watched:
    """A connection that may hold unsent responses."""

    __slots__ = ()

    def note_unsent(self) -> None:
        """Count the bytes that are held for the connection now."""
        raise NotImplementedError


def write_in_pieces(write: Callable[[bytes], object], data: bytes) -> None:
    for start in range(0, len(data), PIECE):
        write(data[start : start + PIECE])


class Stalled(Protocol):
    """A connection whose client does not read as fast as the server writes."""

    def unsent(self) -> int:
        """Return how many bytes are held for it."""
        ...

    def cut(self) -> None:
        """Close it at once, and drop the bytes that are held for it."""
        ...


class Unsent:
    """The connections whose clients do not read, and the bytes that are held for them.

    If these are more than `most` (0 is no limit), the connections whose clients have read nothing
    for the longest time are closed.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._sizes: dict[Stalled, int] = {}  # the longest stalled connections come first
        self._total = 0
        self._logged = float("-inf")

    @property
    def total(self) -> int:
        """The bytes that were held at the last check."""
        return self._total

    def add(self, connection: Stalled) -> None:
        """Count a connection whose client has stopped reading, or for which more is held."""
        if not self._most:
            return
        size = connection.unsent()
        self._total += size - self._sizes.get(connection, 0)
        self._sizes[connection] = size
        if self._total > self._most:
            self._make_room()

    def remove(self, connection: Stalled) -> None:
        """Forget a connection whose client has read, or that is closed."""
        self._total -= self._sizes.pop(connection, 0)

    def _make_room(self) -> None:
        for connection, before in list(self._sizes.items()):
            size = connection.unsent()
            if size != before:
                self.remove(connection)
                self._sizes[connection] = size
                self._total += size
        if self._total <= self._most:
            return
        count = size = 0
        while self._sizes and self._total > self._most * KEPT:
            connection, held = next(iter(self._sizes.items()))
            self.remove(connection)
            connection.cut()
            count, size = count + 1, size + held
        self._log(count, size)

    def _log(self, count: int, size: int) -> None:
        now = time.monotonic()
        if now - self._logged >= LOG_SECONDS:
            self._logged = now
            logger.warning(
                "Closed %d connection(s) whose clients do not read their responses, and dropped %d "
                "bytes: more than --max-unsent (%d bytes) were held in memory",
                count,
                size,
                self._most,
            )
