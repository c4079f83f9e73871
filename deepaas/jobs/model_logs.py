"""What the model of a training logs, on its way to the log of the server.

The training writes lines to a small log of their own beside its output, and the server that sees to
the training passes them on. So the lines reach the server that there is, also when it is another
one than before, and a server that is busy or gone holds up no training. Lines that no server has
passed on in time are in the output of the training alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

from deepaas import log
from deepaas.jobs.logs import LogReader, LogWriter
from deepaas.jobs.spec import JobDirectory

logger = logging.getLogger("deepaas.training")

SIZE = 1024 * 1024
"""Bytes of lines that may wait for a server."""

MOST_AT_ONCE = 256 * 1024
"""Bytes of a training that are passed on at once, so that it does not hold up the server."""


class ModelLogHandler(logging.Handler):
    """Writes the records of a training for the server."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._writer = LogWriter(directory, SIZE)
        self._pid = os.getpid()

    def emit(self, record: logging.LogRecord) -> None:
        if os.getpid() != self._pid:
            return  # there may be one writer alone; the output has what forked children log
        try:
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        except Exception:
            self.handleError(record)
            return
        self._writer.write(line)


class ModelLogs:
    """The lines of the trainings that one server sees to, which it passes on to its log."""

    def __init__(self, place_of: Callable[[str], JobDirectory]) -> None:
        self._place_of = place_of
        self._followed: dict[str, _Lines] = {}

    def follow(self, uuid: str, *, from_end: bool = False) -> None:
        """Pass on the lines of a training from now on; with `from_end` only those that come."""
        self._followed[uuid] = _Lines(uuid, self._place_of(uuid).model_log, from_end=from_end)

    def pass_on(self) -> None:
        """Pass on what has come since this was called before."""
        for lines in self._followed.values():
            with contextlib.suppress(OSError):  # such as of too many open files: the next time
                lines.pass_on()

    def end(self, uuid: str) -> None:
        """Pass on what is left of a training that has ended."""
        lines = self._followed.pop(uuid, None)
        if lines is not None:
            with contextlib.suppress(OSError):
                while lines.pass_on():
                    pass

    def end_all(self) -> None:
        for uuid in list(self._followed):
            self.end(uuid)


class _Lines:
    """The lines of one training, as far as they have not been passed on."""

    def __init__(self, uuid: str, directory: Path, *, from_end: bool) -> None:
        self._uuid = uuid
        self._reader = LogReader(directory)
        self._offset = self._reader.end if from_end else 0
        self._rest = b""  # the beginning of a line

    def pass_on(self) -> bool:
        """Pass on what has come, or the oldest part of that; whether there may be more."""
        left = MOST_AT_ONCE
        while left > 0:
            offset, data = self._reader.read(self._offset, left)
            if not data:
                return False
            left -= len(data)
            lost = offset - self._offset
            self._offset = offset + len(data)
            if lost > 0:
                logger.warning("%d bytes that %s logged are in its output alone", lost, self._uuid)
                self._rest, data = b"", data[data.find(b"\n") + 1 :]
            lines, end, self._rest = (self._rest + data).rpartition(b"\n")
            if end:
                log.pass_on(lines + end)
        return True
