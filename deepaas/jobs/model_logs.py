"""Passes the log lines of the models in trainings to the log of the server.

A training writes its lines to a small separate log beside its output, and its server passes them
on. So the lines reach the current server even if an earlier one started the training, and a busy or
dead server does not block a training. Lines that no server passes on in time are only in the output
of the training.
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
"""Bytes of lines that can wait for a server."""

MOST_AT_ONCE = 256 * 1024
"""Bytes of one training that are passed on at once, so that it does not block the server."""


class ModelLogHandler(logging.Handler):
    """Writes the log records of a training for the server."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._writer = LogWriter(directory, SIZE)
        self._pid = os.getpid()

    def emit(self, record: logging.LogRecord) -> None:
        if os.getpid() != self._pid:
            return  # only one writer is allowed; records of forked children are in the output
        try:
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        except Exception:
            self.handleError(record)
            return
        self._writer.write(line)


class ModelLogs:
    """Passes the log lines of the trainings of one server to its log."""

    def __init__(self, place_of: Callable[[str], JobDirectory]) -> None:
        self._place_of = place_of
        self._followed: dict[str, _Lines] = {}

    def follow(self, uuid: str, *, from_end: bool = False) -> None:
        """Pass on the lines of a training from now on; with `from_end`, only new ones."""
        self._followed[uuid] = _Lines(uuid, self._place_of(uuid).model_log, from_end=from_end)

    def pass_on(self) -> None:
        """Pass on the lines that were written since the last call."""
        for lines in self._followed.values():
            with contextlib.suppress(OSError):  # such as too many open files: retry next time
                lines.pass_on()

    def end(self, uuid: str) -> None:
        """Pass on the remaining lines of a training that has ended."""
        lines = self._followed.pop(uuid, None)
        if lines is not None:
            with contextlib.suppress(OSError):
                while lines.pass_on():
                    pass

    def end_all(self) -> None:
        for uuid in list(self._followed):
            self.end(uuid)


class _Lines:
    """The lines of one training that have not been passed on."""

    def __init__(self, uuid: str, directory: Path, *, from_end: bool) -> None:
        self._uuid = uuid
        self._reader = LogReader(directory)
        self._offset = self._reader.end if from_end else 0
        self._rest = b""  # the beginning of an incomplete line

    def pass_on(self) -> bool:
        """Pass on new lines, up to MOST_AT_ONCE bytes; return whether there may be more."""
        left = MOST_AT_ONCE
        while left > 0:
            offset, data = self._reader.read(self._offset, left)
            if not data:
                return False
            left -= len(data)
            lost = offset - self._offset
            self._offset = offset + len(data)
            if lost > 0:
                logger.warning("%d bytes that %s logged are only in its output", lost, self._uuid)
                self._rest, data = b"", data[data.find(b"\n") + 1 :]
            lines, end, self._rest = (self._rest + data).rpartition(b"\n")
            if end:
                log.pass_on(lines + end)
        return True
