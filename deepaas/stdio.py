"""Standard input, output and error of a process: they are open, and no reason for a failure.

A server may be started while some of them are closed, or while they lead to a full device. A model
may close or replace them. No request fails because of that: what cannot be written is lost, and no
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
"""The names in `sys` of the streams for output, and their descriptors."""


def open_missing() -> None:
    """Open /dev/null as each of the descriptors 0, 1 and 2 that is closed.

    Otherwise the next file or socket that this process opens would get that number, and what is
    printed would be written into it. To be called before this process opens anything.
    """
    for fd in (0, 1, 2):
        if not _is_open(fd):
            os.open(os.devnull, os.O_RDWR)  # which takes the lowest number that is free
            os.set_inheritable(fd, True)


def forgive(*, line_buffering: bool = False) -> None:
    """Replace sys.stdout and sys.stderr by streams that raise no error when they cannot write.

    With `line_buffering` each line is written at once. Otherwise they are buffered as before.
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
    """Write what is buffered in a stream, if it can be written. The stream may be anything."""
    try:
        stream.flush()
    except Exception:  # noqa: S110  # a model may have closed it, or replaced it by something else
        pass


def write_all(fd: int, data: ReadableBuffer) -> None:
    """Write all of `data`, and wait while a descriptor that does not block has no room for it.

    Raises OSError if it cannot be written.
    """
    left = memoryview(data).cast("B")
    while left:
        left = left[write_some(fd, left) :]


def write_some(fd: int, data: memoryview) -> int:
    """Write the beginning of `data`, as `write_all` does; how many bytes that was."""
    try:
        return os.write(fd, data)
    except BlockingIOError:  # another process has set O_NONBLOCK for what they share
        room = select.poll()
        room.register(fd, select.POLLOUT)
        room.poll()
        return 0


class StandardStreams:
    """stdout and stderr as they are when this is made, for a model that closes them later."""

    def __init__(self) -> None:
        self._saved = {fd: os.dup(fd) for fd in OUTPUTS.values()}
        self._streams: dict[str, TextIO] = {name: getattr(sys, name) for name in OUTPUTS}

    def restore(self) -> None:
        """Open again what a model has closed. Another stream that it has set stays in place."""
        if self._are_open():  # as after nearly every call
            return
        self._reopen()
        for name in OUTPUTS:
            current = getattr(sys, name, None)
            if current is not None and not _is_usable(current):
                _replace(name, self._stream(name))

    def end(self) -> None:
        """Write what is buffered, and set the streams that this process ends with.

        The interpreter flushes sys.stdout and sys.stderr when it ends, and an error in a stream
        that a model has set would become the exit code.
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
                os.fstat(fd)
            return sys.stdout.closed is False and sys.stderr.closed is False
        except Exception:  # a model may set anything
            return False

    def _reopen(self) -> None:
        for fd, saved in self._saved.items():
            if not _is_open(fd):
                os.dup2(saved, fd)

    def _stream(self, name: str) -> TextIO:
        """The stream as it was, or a new one if the model has closed that."""
        if not _is_usable(self._streams[name]):
            self._streams[name] = _open_stream(OUTPUTS[name], line_buffering=True)
        return self._streams[name]


class ForgivingFile(io.FileIO):
    """A file that reports everything as written. What cannot be written is lost."""

    def write(self, data: ReadableBuffer, /) -> int:
        fd = self.fileno()  # raises ValueError if this is closed, as any file does
        try:
            write_all(fd, data)
        except OSError:
            pass
        return memoryview(data).nbytes


def _open_stream(
    fd: int, *, encoding: str = "utf-8", line_buffering: bool, write_through: bool = False
) -> TextIO:
    """A text stream as the interpreter makes it for a standard stream, over a ForgivingFile."""
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
    setattr(sys, f"__{name}__", stream)  # by which some code undoes its own replacement


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _is_usable(stream: Any) -> bool:
    """Whether a stream is neither closed nor detached from its buffer."""
    try:
        return not stream.closed
    except ValueError:  # what a detached stream raises
        return False
    except Exception:  # a model may set anything that has a method `write`
        return True
