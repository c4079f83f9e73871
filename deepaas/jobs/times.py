"""Times and durations as records show them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone


def local_text(seconds: float) -> str:
    """Return a time, in seconds since 1970, as the reference release writes it.

    It is in the time zone of the server and always has microseconds.
    """
    return datetime.fromtimestamp(seconds).isoformat(" ", "microseconds")


def utc_text(seconds: float) -> str:
    """Return a time, in seconds since 1970, as ISO 8601 in UTC.

    An example is 2026-11-25T18:32:50.938554Z. Texts of this form sort by time.
    """
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def seconds_of(local: str) -> float:
    """Return the seconds since 1970 of a text that `local_text` returned."""
    return datetime.fromisoformat(local).timestamp()


def duration_text(seconds: float) -> str:
    """Return a duration as text, such as 0:00:03.500000."""
    return str(timedelta(seconds=max(0.0, seconds)))
