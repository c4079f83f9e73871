"""Times and durations as records show them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone


def local_text(seconds: float) -> str:
    """A time, in seconds since 1970, as the reference release writes it: in the time zone of the
    server. There are always microseconds."""
    return datetime.fromtimestamp(seconds).isoformat(" ", "microseconds")


def utc_text(seconds: float) -> str:
    """A time, in seconds since 1970, in the form ISO 8601 in UTC, such as
    2026-11-25T18:32:50.938554Z. Texts of this form sort in the order of time."""
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def seconds_of(local: str) -> float:
    """The seconds since 1970 of a text that `local_text` has made."""
    return datetime.fromisoformat(local).timestamp()


def duration_text(seconds: float) -> str:
    """A duration, such as 0:00:03.500000."""
    return str(timedelta(seconds=max(0.0, seconds)))
