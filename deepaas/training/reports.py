"""The reports of a training: one line of JSON each, in a file of limited size."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import math
import os
import reprlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

REPORTS = "DEEPAAS_TRAINING_REPORTS"
"""The environment variable with the path of the file."""

REPORTS_SIZE = "DEEPAAS_TRAINING_REPORTS_SIZE"
"""The environment variable with the maximum size of the file in bytes."""

DIRECTORY = "DEEPAAS_TRAINING_DIR"
"""The environment variable with the directory for files to keep."""

DEFAULT_SIZE = 1024 * 1024
MAX_METRICS = 100  # per report
MAX_TEXT = 200  # characters
MAX_READ = 64 * 1024 * 1024
"""Maximum bytes of a file that are read: the newest ones."""

MAX_SEARCHED = 64 * 1024
"""Bytes at the end of a file in which the latest progress is searched first."""

LOCK_SECONDS = 2.0
"""Maximum time that a report waits for the lock. A longer wait means that the holder is suspended,
or is the reporting thread itself: a signal handler interrupted a report."""

_MAX_OPENED = 100
_MAX_EXCESS = 256 * 1024
_MAX_BITS = 1024  # of an integer, like a float's range; a larger integer becomes null
_PLAIN = (float, int, str, bool, type(None))
_CONTAINERS = (list, tuple, dict, set, frozenset, bytes, bytearray)
_short = reprlib.Repr()
_short.maxother = _short.maxstring = MAX_TEXT


def report(progress: float | None = None, **metrics: float | int | str) -> None:
    """Report the progress of the training; outside of a training, do nothing.

    `progress` is between 0 and 1. The metrics are numbers or short texts, with any names except
    "time": `report(progress=0.4, epoch=3, loss=0.12)`. Can be called from any thread and any child
    process. Takes some microseconds, and never raises. If there are too many reports, older ones
    are dropped.
    """
    path = os.environ.get(REPORTS)
    if not path:
        return
    try:
        _append(path, _line(progress, metrics))
    except Exception:  # noqa: S110  # a training must not fail because a report fails
        pass


def directory() -> Path:
    """Return the directory for files to keep and to offer for download.

    Outside of a training, this is the working directory.
    """
    path = os.environ.get(DIRECTORY)
    return Path(path) if path else Path.cwd()


def read_reports(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return all reports in a file, oldest first; [] if the file does not exist.

    Each report has "time" (seconds since 1970), its metrics, and optionally "progress". Raises
    OSError if the file cannot be read.
    """
    return [parsed for line in _tail(path, MAX_READ) if (parsed := _parse(line)) is not None]


def last_report(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the newest report in a file, with the latest reported progress; {} without reports.

    Reads only the end of the file, if possible. Raises OSError if the file cannot be read.
    """
    for most in (MAX_SEARCHED, MAX_READ):  # the newest may not be within MAX_SEARCHED
        lines = reversed(_tail(path, most))
        reports = (parsed for line in lines if (parsed := _parse(line)) is not None)
        if (last := next(reports, None)) is not None:
            for one in itertools.chain([last], reports):
                if type(one.get("progress")) in (int, float):
                    return {**last, "progress": one["progress"]}
            return {name: value for name, value in last.items() if name != "progress"}
    return {}


# --- a report as a line ----------------------------------------------------------------------


def _line(progress: Any, metrics: Mapping[str, Any]) -> bytes:
    values: dict[str, Any] = {"time": round(time.time(), 3)}
    if progress is not None:
        number = _number(_plain(progress))
        if number is not None:
            values["progress"] = min(max(number, 0.0), 1.0)
    for name, value in metrics.items():
        if len(values) > MAX_METRICS:
            break
        values.setdefault(name[:MAX_TEXT], _plain(value))
    text = json.dumps(values, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "replace") + b"\n"


def _plain(value: Any) -> float | int | str | None:
    """Return a value as a number or a text that JSON can represent, or None."""
    plain: float | int | str | None = value if type(value) in _PLAIN else _simpler(value)
    if type(plain) is str:
        return plain[:MAX_TEXT]
    if type(plain) is float:
        return _number(plain)
    if type(plain) is int and plain.bit_length() > _MAX_BITS:
        return None
    return plain


def _simpler(value: Any) -> float | int | str:
    """Return a number or text for a value of another type, such as a numpy scalar or a tensor."""
    with contextlib.suppress(Exception):
        if isinstance(value, int):
            return int.__int__(value)
        if isinstance(value, float):
            return float.__float__(value)
        if isinstance(value, str):
            return str.__str__(value)
    with contextlib.suppress(Exception):
        item = value.item()
        if type(item) in (bool, int, float, str):
            simple: float | int | str = item
            return simple
    number = None if isinstance(value, _CONTAINERS) else _float(value)
    return _describe(value) if number is None else number


def _number(value: Any) -> float | None:
    """Return the value as a finite float, or None."""
    number = _float(value)
    return number if number is not None and math.isfinite(number) else None


def _float(value: Any) -> float | None:
    with contextlib.suppress(Exception):
        return float(value)
    return None


def _describe(value: Any) -> str:
    with contextlib.suppress(Exception):
        if isinstance(value, _CONTAINERS):
            return _short.repr(value)  # visits only the first items of a large one
        return str.__str__(str(value))
    return f"<{type(value).__name__}>"


# --- the file --------------------------------------------------------------------------------


def _append(path: str, line: bytes) -> None:
    """Append a line, and thin the file if it has become too large. Raises OSError."""
    for _ in range(_MAX_OPENED):
        with _opened(path) as fd:
            _lock(fd, fcntl.LOCK_SH)
            size = _size_in_place(fd)
            if size < 0:
                continue
            most = _max_size()
            if size <= 2 * most + _MAX_EXCESS:  # a larger file could not be thinned
                # A full disk, or a process that is writing now, leaves an incomplete line. In the
                # second case, the extra newline results in a blank line.
                is_torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
                os.write(fd, b"\n" + line if is_torn else line)
            if size + len(line) > most:
                _lock(fd, fcntl.LOCK_EX)
                if _size_in_place(fd) > most:  # else another process has thinned it
                    _thin(path, fd, most)
            return


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield fd
    finally:
        # Closing does not unlock if the process has forked meanwhile.
        fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


def _lock(fd: int, how: int) -> None:
    """Acquire the lock. Raises BlockingIOError after LOCK_SECONDS."""
    ends = 0.0
    while not _try_lock(fd, how):
        now = time.monotonic()
        ends = ends or now + LOCK_SECONDS
        if now > ends:
            raise BlockingIOError(f"descriptor {fd} is locked")
        time.sleep(0.001)


def _try_lock(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _size_in_place(fd: int) -> int:
    """Return the size of the file in bytes; -1 if another file has replaced it."""
    status = os.fstat(fd)
    return status.st_size if status.st_nlink else -1


def _max_size() -> int:
    try:
        return max(0, int(os.environ[REPORTS_SIZE]))
    except (KeyError, ValueError):
        return DEFAULT_SIZE


def _thin(path: str, fd: int, most: int) -> None:
    """Drop half of the lines, repeatedly, until the file has at most `most` bytes."""
    data = os.pread(fd, os.fstat(fd).st_size, 0)
    lines = [line + b"\n" for line in data.split(b"\n") if line]
    while len(lines) > 1 and sum(map(len, lines)) > most:
        lines = _half(lines)
    fresh = f"{path}.new"  # no other process uses it: this one holds the exclusive lock on `path`
    try:
        with open(fresh, "wb", opener=_private) as file:
            file.writelines(lines)
        os.rename(fresh, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _half(lines: Sequence[bytes]) -> list[bytes]:
    """Return every second line of each kind, and the newest of each.

    If different kinds of reports alternate, such as training and validation, both kinds remain.
    """
    counts: dict[object, int] = {}
    kept = []
    for line in reversed(lines):
        kind = _kind(line)
        counts[kind] = counts.get(kind, 0) + 1
        if counts[kind] % 2:
            kept.append(line)
    if len(kept) > len(lines) * 3 // 4:  # almost every line is of a different kind
        kept = list(lines[::-2])
    return kept[::-1]


def _kind(line: bytes) -> object:
    """Return the names in a report, and its texts."""
    values = _parse(line) or {}
    return tuple((name, isinstance(item, str) and item) for name, item in values.items())


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _tail(path: str | os.PathLike[str], most: int) -> list[bytes]:
    """Return the complete lines in the last `most` bytes of a file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return []
    try:
        begin = max(0, os.fstat(fd).st_size - most)
        lines = os.pread(fd, most, begin).split(b"\n")
    finally:
        os.close(fd)
    return lines[1:-1] if begin else lines[:-1]
