"""The output of a training: a log in segments. The oldest ones are removed when it grows too large.

A position in the log is an absolute offset: the number of bytes written before it, including
removed ones. A segment is a file named by the offset of its first byte.
"""

from __future__ import annotations

import bisect
import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

MAX_LINE = 64 * 1024
"""Bytes; a longer line is split."""

SEGMENTS = 4
"""How many segments a log of the maximum size has."""

_TRIES = 100
_DIGITS = 20
_NAME = re.compile(rf"[0-9]{{{_DIGITS}}}")


def _name(start: int) -> str:
    return f"{start:0{_DIGITS}}"


def _segments(directory: Path) -> list[int]:
    """Return the offsets of the segments, sorted."""
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(int(name) for name in names if _NAME.fullmatch(name))


def _length(directory: Path, start: int) -> int | None:
    """Return the size of a segment in bytes; None if it does not exist."""
    try:
        return os.stat(directory / _name(start)).st_size
    except FileNotFoundError:
        return None


class LogWriter:
    """Appends to the log in `directory`, which it creates. There must be no other writer.

    The log never has more than `size` bytes; 0 means no limit. An existing log is continued. No
    method raises OSError: bytes that cannot be written are counted, and a line in the log reports
    them as soon as writing works again.
    """

    def __init__(self, directory: Path, size: int) -> None:
        self._directory = directory
        self._size = size
        self._most = max(1, size // SEGMENTS)  # bytes of a segment
        self._fd = -1
        self._start = 0  # of the last segment
        self._length = 0  # of the last segment
        self._older: list[tuple[int, int]] = []  # start and length of those before it
        self._total = 0
        self._ends_line = True
        self._lost = 0
        self._reason = ""
        self._notice = b""  # the unwritten rest of the line about lost bytes

    def write(self, data: bytes) -> None:
        written = self._append(data) if self._report_loss() else 0
        self._lost += len(data) - written

    def close(self) -> None:
        """Close the log. Nothing may be written afterwards."""
        self._report_loss()
        self._close_segment()

    def _report_loss(self) -> bool:
        """Write how many bytes were lost; return whether all of that was written."""
        while self._lost or self._notice:
            lost = 0
            if not self._notice:
                self._notice, lost, self._lost = self._loss_line(), self._lost, 0
            written = self._append(self._notice)
            if lost and not written:
                self._notice, self._lost = b"", lost  # counted again with the next loss
                return False
            self._notice = self._notice[written:]
            if self._notice:
                return False
        return True

    def _loss_line(self) -> bytes:
        line = f"[{self._lost} bytes of output were lost: {self._reason}]\n".encode()
        return line if self._ends_line else b"\n" + line

    def _append(self, data: bytes) -> int:
        """Write as much of `data` as possible and return the number of bytes."""
        view = memoryview(data)
        written = 0
        try:
            if self._fd < 0:
                self._open_last()
            while written < len(data):
                written += self._write_piece(view[written:])
        except OSError as error:
            self._reason = error.strerror or type(error).__name__
        if written:
            self._ends_line = data[written - 1] == 0x0A
        return written

    def _write_piece(self, view: memoryview) -> int:
        """Write as much as fits into the last segment, or into a new one if that is full."""
        count = len(view)
        if self._size:
            if self._length >= self._most:
                self._open_next()
            count = min(count, self._most - self._length)
            self._make_room(count)
        written = os.write(self._fd, view[:count])
        self._length += written
        self._total += written
        return written

    def _make_room(self, count: int) -> None:
        while self._older and self._total + count > self._size:
            start, length = self._older[0]
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._directory / _name(start))
            del self._older[0]
            self._total -= length

    def _open_last(self) -> None:
        """Open the last segment, or create the first."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        starts = _segments(self._directory) or [0]
        fd = self._open(starts[-1])
        self._fd, self._start = fd, starts[-1]
        self._length = os.fstat(fd).st_size
        older = [(start, _length(self._directory, start)) for start in starts[:-1]]
        self._older = [(start, length or 0) for start, length in older]
        self._total = self._length + sum(length for _, length in self._older)
        if self._length:
            self._ends_line = os.pread(fd, 1, self._length - 1) == b"\n"

    def _open_next(self) -> None:
        # Before the oldest is removed: readers must always find the end of the log.
        fd = self._open(self._start + self._length)
        self._close_segment()
        self._older.append((self._start, self._length))
        self._fd, self._start, self._length = fd, self._start + self._length, 0

    def _open(self, start: int) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        return os.open(self._directory / _name(start), flags, 0o600)

    def _close_segment(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):  # for example, on a network file system
                os.close(fd)


class LogReader:
    """Reads the log in `directory` while it is written. No file stays open between calls."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def first(self) -> int:
        """The offset of the oldest byte in the log."""
        return next(iter(_segments(self._directory)), 0)

    @property
    def end(self) -> int:
        """The offset after the newest byte in the log."""
        for _ in range(_TRIES):
            starts = _segments(self._directory)
            length = _length(self._directory, starts[-1]) if starts else 0
            if length is not None:  # else it was removed meanwhile: list the segments again
                return starts[-1] + length if starts else 0
        return starts[-1]

    def read(self, offset: int, most: int) -> tuple[int, bytes]:
        """Return an offset and up to `most` bytes there: at `offset`, or the oldest bytes after it.

        There are no bytes only at the end of the log, or beyond it. Raises OSError if the log
        exists and cannot be read.
        """
        target = -1
        for _ in range(_TRIES):
            starts = _segments(self._directory)
            found = self._read(starts, offset, most)
            # A listing made while files are created and removed may miss one in the middle:
            # accept data behind a gap only if it is found twice.
            if found is not None and found[0] in (offset, target):
                return found
            target = found[0] if found is not None else target
        return offset, b""

    def _read(self, starts: Sequence[int], offset: int, most: int) -> tuple[int, bytes] | None:
        """Return the same from the segments that begin at `starts`; None if one was removed
        meanwhile."""
        index = max(0, bisect.bisect_right(starts, offset) - 1)
        for number in range(index, len(starts)):
            start = starts[number]
            offset = max(offset, start)
            is_last = number + 1 == len(starts)
            count = most if is_last else min(most, starts[number + 1] - offset)
            data = self._read_segment(start, offset, count)
            if data is None:
                return None
            if data:
                return offset, data
        return offset, b""

    def _read_segment(self, start: int, offset: int, count: int) -> bytes | None:
        try:
            fd = os.open(self._directory / _name(start), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            return os.pread(fd, count, offset - start)
        finally:
            os.close(fd)


class Lines:
    r"""Splits bytes that come in pieces into lines. A line ends with \n, \r\n or \r.

    If the last byte so far is a \r, its line is returned only with the next bytes, as a \n would
    belong to it. So a reader that starts again at a returned offset gets exactly the lines after
    it.
    """

    def __init__(self) -> None:
        self._held = b""  # the beginning of the next line; may end with \r
        self._end = 0  # the offset after it

    def feed(self, offset: int, data: bytes) -> list[tuple[int, str]]:
        """Return the lines that `data`, at `offset`, completes, each after the offset behind it.

        If bytes before `offset` are missing, the unfinished line before them counts as a line.
        """
        if not data:
            return []
        lines: list[tuple[int, str]] = []
        if offset != self._end and (rest := self.rest()) is not None:
            lines.append(rest)
        position = offset - len(self._held)
        data = self._held + data
        self._end = position + len(data)
        pieces = data.splitlines(keepends=True)
        self._held = b"" if pieces[-1].endswith(b"\n") else pieces.pop()
        for piece in pieces:
            position = _add(lines, position, piece)
        while len(self._held) > MAX_LINE and not _is_ended(self._held):
            size = _cut(self._held)
            position += size
            lines.append((position, _text(self._held[:size])))
            self._held = self._held[size:]
        return lines

    def rest(self) -> tuple[int, str] | None:
        """Return the unfinished last line with the offset after it, or None, and forget it."""
        held, self._held = self._held, b""
        return (self._end, _text(held)) if held else None


def _add(lines: list[tuple[int, str]], position: int, line: bytes) -> int:
    """Append the complete line at `position` to `lines`; return the offset after it."""
    text = line.rstrip(b"\r\n")
    while len(text) > MAX_LINE:
        size = _cut(text)
        position += size
        lines.append((position, _text(text[:size])))
        text, line = text[size:], line[size:]
    position += len(line)
    lines.append((position, _text(text)))
    return position


def _is_ended(line: bytes) -> bool:
    return line.endswith(b"\r") and len(line) <= MAX_LINE + 1


def _cut(line: bytes) -> int:
    """Return the size of the first piece of a line that is too long; no character is split."""
    for size in range(MAX_LINE, MAX_LINE - 4, -1):
        if line[size] & 0xC0 != 0x80:  # a character begins here
            return size
    return MAX_LINE


def _text(line: bytes) -> str:
    return line.rstrip(b"\r\n").decode("utf-8", "replace")
