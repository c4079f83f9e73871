"""Keep standard input, output and error open, and prevent failures because of them.

A server may be started while some of them are closed or refer to a full device. A model may close
or replace them. No request fails because of that: output that cannot be written is lost, and no
error is raised.
"""

from __future__ import annotations

import io
import os
import select
import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

OUTPUTS = {"stdout": 1, "stderr": 2}
"""The names in `sys` of the output streams, and their descriptors."""


def open_missing() -> None:
    """Open /dev/null for each of the descriptors 0, 1 and 2 that is closed.

    Otherwise the next file or socket that this process opens would get that number, and printed
    text would be written to it. Call this before the process opens anything.
    """
    for fd in (0, 1, 2):
        if not _is_open(fd):
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is fd
            os.set_inheritable(fd, True)


def forgive(*, line_buffering: bool = False) -> None:
    """Replace sys.stdout and sys.stderr by streams that raise no error when they cannot write.

    With `line_buffering`, each line is written at once. Otherwise the buffering does not change.
    """
    for name, fd in OUTPUTS.items():
        before: Any = getattr(sys, name)  # None if the descriptor was closed at the start
        flush(before)
        stream = _open_stream(
            fd,
            encoding=getattr(before, "encoding", None) or "utf-8",
            line_buffering=line_buffering or getattr(before, "line_buffering", False),
            write_through=getattr(before, "write_through", False),
        )
        _replace(name, stream)


def flush(stream: Any) -> None:
    """Flush a stream, and ignore errors. The stream may be any object."""
    try:
        stream.flush()
    except Exception:  # noqa: S110  # a model may have closed it, or replaced it by something else
        pass


def write_all(fd: int, data: ReadableBuffer) -> None:
    """Write all of `data`; wait while a non-blocking descriptor cannot accept more.

    Raises OSError if it cannot be written.
    """
    left = memoryview(data).cast("B")
    while left:
        left = left[write_some(fd, left) :]


def write_some(fd: int, data: memoryview) -> int:
    """Write the beginning of `data`, as `write_all` does; return the number of bytes written."""
    try:
        return os.write(fd, data)
    except BlockingIOError:  # another process has set O_NONBLOCK on the shared file
        room = select.poll()
        room.register(fd, select.POLLOUT)
        room.poll()
        return 0


class StandardStreams:
    """A copy of stdout and stderr, used to restore them after a model has closed them."""

    def __init__(self) -> None:
        self._saved = {fd: os.dup(fd) for fd in OUTPUTS.values()}
        self._streams: dict[str, TextIO] = {name: getattr(sys, name) for name in OUTPUTS}

    def restore(self) -> None:
        """Reopen the streams that a model has closed. Streams that it has replaced stay."""
        if self._are_open():  # the usual case
            return
        self._reopen()
        for name in OUTPUTS:
            current = getattr(sys, name, None)
            if current is not None and not _is_usable(current):
                _replace(name, self._stream(name))

    def end(self) -> None:
        """Flush buffered output, and restore the streams before the interpreter exits.

        The interpreter flushes sys.stdout and sys.stderr at exit, and an error in a stream that a
        model has set would change the exit code.
        """
        self._reopen()
        for name in OUTPUTS:
            flush(getattr(sys, name, None))
            stream = self._stream(name)
            flush(stream)
            setattr(sys, name, stream)

    def _are_open(self) -> bool:
        try:
            for fd in self._saved:
                os.get_inheritable(fd)  # fails if it is closed, and is faster than fstat
            return sys.stdout.closed is False and sys.stderr.closed is False
        except Exception:  # a model may set anything
            return False

    def _reopen(self) -> None:
        for fd, saved in self._saved.items():
            if not _is_open(fd):
                os.dup2(saved, fd)

    def _stream(self, name: str) -> TextIO:
        """Return the original stream, or a new one if the model has closed it."""
        if not _is_usable(self._streams[name]):
            self._streams[name] = _open_stream(OUTPUTS[name], line_buffering=True)
        return self._streams[name]


class ForgivingFile(io.FileIO):
    """A file that reports all data as written. Data that cannot be written is lost."""

    def write(self, data: ReadableBuffer, /) -> int:
        fd = self.fileno()  # raises ValueError if this is closed, like any file
        try:
            write_all(fd, data)
        except OSError:
            pass
        return memoryview(data).nbytes


def _open_stream(
    fd: int, *, encoding: str = "utf-8", line_buffering: bool, write_through: bool = False
) -> TextIO:
    """Return a text stream like the interpreter's standard streams, over a ForgivingFile."""
    raw = ForgivingFile(fd, "wb", closefd=False)
    raw.name = next(f"<{name}>" for name, number in OUTPUTS.items() if number == fd)
    stream = io.TextIOWrapper(
        raw if write_through else io.BufferedWriter(raw),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=line_buffering,
        write_through=write_through,
    )
    stream.mode = "w"  # type: ignore[misc]
    return stream


def _replace(name: str, stream: TextIO) -> None:
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)  # some code restores sys.stdout from sys.__stdout__


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _is_usable(stream: Any) -> bool:
    """Return whether a stream is neither closed nor detached from its buffer."""
    try:
        return not stream.closed
    except ValueError:  # the stream is detached
        return False
    except Exception:  # a model may set anything that has a method `write`
        return True
