"""Logging of the server and its workers: one line per record, to standard output or a file.

A worker's log is in the same process as a model, which may configure `logging`: disable it, clear
the handlers of all loggers, replace or close sys.stdout. The records of this package, which include
the tracebacks of failures, must be written nevertheless. So modules that run in the process of a
model use `get_logger`, and the handler has a separate descriptor. `model_log` handles the records
of the model.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import logging
import os
import reprlib
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, TypeAlias

import orjson

from deepaas import stdio

ExceptionInfo: TypeAlias = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)

NAMES = "deepaas_names"
"""The attribute of a model's record that holds the names of the model and the process."""

FORMAT = "%(asctime)s.%(msecs)03d %(process)d %(levelname)s %(name)s %(message)s"
DATE_FORMAT = "%Y-%m-%d %H:%M:%S"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

_LEVELS = {level: logging.getLevelName(level) for level in (10, 20, 30, 40, 50)}
"""The names of the levels, saved before a model can change them."""


_CALLS = "deepaas_calls"


def calls(text: str) -> dict[str, str]:
    """Return the `extra` of a record that ends with a traceback from another process."""
    return {_CALLS: "\n" + text} if text else {}


@dataclass(frozen=True)
class LogOptions:
    """The logging options; sent to the workers as plain data."""

    level: str = "INFO"
    file: str = ""
    json: bool = False

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


class LogLines:
    """Messages of one record, each written on a separate line."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def __str__(self) -> str:
        return "\n".join(self.lines)


class LineFormatter(logging.Formatter):
    """One line per record. The time is formatted again only when the second changes."""

    def __init__(self) -> None:
        super().__init__(FORMAT, DATE_FORMAT)
        self.converter = time.localtime  # a model may replace the default of all formatters
        self._second = -1
        self._time = ""

    def format(self, record: logging.LogRecord) -> str:
        if isinstance(record.msg, LogLines):
            record.message = ""
            record.asctime = self.formatTime(record, self.datefmt)
            start = self.formatMessage(record)
            line = "\n".join([start + message for message in record.msg.lines])
        else:
            line = super().format(record)
            line += getattr(record, _CALLS, "")
        return line if line.isascii() else line.encode("utf-8", "backslashreplace").decode()

    def formatMessage(self, record: logging.LogRecord) -> str:
        names = vars(record).get(NAMES)
        if names:
            record.message = f"{_label(names)}: {record.message}"
        return super().formatMessage(record)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        second = int(record.created)
        if second != self._second:
            self._second = second
            self._time = super().formatTime(record, datefmt)
        return self._time

    def formatException(self, ei: ExceptionInfo) -> str:
        return _traceback(ei).removesuffix("\n")


class JSONFormatter(logging.Formatter):
    """One JSON object per line; asctime is ISO 8601 in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
        entry: dict[str, object] = {
            "asctime": time.isoformat(timespec="milliseconds"),
            "process": record.process,
            "levelname": record.levelname,
            "name": record.name,
            "message": "",
            **vars(record).get(NAMES, {}),
        }
        if record.exc_info:
            entry["traceback"] = _traceback(record.exc_info)
        elif hasattr(record, _CALLS):
            entry["traceback"] = getattr(record, _CALLS).lstrip("\n")
        message: object = record.msg
        messages = message.lines if isinstance(message, LogLines) else [record.getMessage()]
        return "\n".join([_json({**entry, "message": message}) for message in messages])


def _label(names: Mapping[str, str]) -> str:
    """Return the names of a model and its process as one text, such as "digits[0]"."""
    if "worker" in names:
        return names["worker"]
    return " ".join([names["model"], *(f"{k} {v}" for k, v in names.items() if k != "model")])


def _json(entry: dict[str, object]) -> str:
    try:
        return orjson.dumps(entry, default=repr).decode()
    except TypeError:  # a text with lone surrogates
        return json.dumps(entry, default=repr)


def _traceback(info: ExceptionInfo) -> str:
    """Return the traceback as text, even for an exception that `traceback` cannot format."""
    try:
        return "".join(traceback.format_exception(*info))
    except Exception:  # for example, a SyntaxError with attributes of wrong types
        frames = "".join(traceback.format_tb(info[2]))
        return f"Traceback (most recent call last):\n{frames}{_repr.repr(info[1])}\n"


_repr = reprlib.Repr()  # never raises
_repr.maxother = 1000


class LineHandler(logging.Handler):
    """Writes each record, with one call, to a descriptor that nothing else uses.

    The descriptor is a file, or a duplicate of standard output. A model can change the descriptors
    0 to 2, sys.stdout, and the handlers of `logging` (flush and close) without affecting it. A
    record that cannot be written is lost; only the first such error is reported, on standard error.
    """

    def __init__(self, path: str = "") -> None:
        super().__init__()
        self._path = path
        self._fd = -1
        self._stdout = None if path else sys.stdout
        self._has_partial_line = False  # the last line is incomplete
        self._is_flushing = False
        self._has_reported = False

    def open(self) -> None:
        """Open the descriptor if it is not open. Raises OSError."""
        if self._fd < 0 and self._path:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        elif self._fd < 0:
            self._fd = os.dup(1)

    def let_go(self) -> None:
        """Close the descriptor. `close` must not: `logging.config` calls it for all handlers."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        except Exception:
            self.handleError(record)
            return
        self._flush_stdout()
        self._write_lines(line)

    def pass_on(self, lines: bytes) -> None:
        """Write complete lines that another process formatted."""
        with self.lock or contextlib.nullcontext():
            self._write_lines(lines)

    def _flush_stdout(self) -> None:
        """Flush printed text, so that it precedes the record in the output."""
        if self._stdout is None or self._is_flushing:
            return
        self._is_flushing = True  # flushing a stream of the model may log, and so call this again
        try:
            stdio.flush(self._stdout)
            if sys.stdout is not self._stdout:
                stdio.flush(sys.stdout)
        finally:
            self._is_flushing = False

    def _write_lines(self, lines: bytes) -> None:
        try:
            self.open()
            self._write(lines)
        except OSError as error:
            self._report(error)

    def _write(self, line: bytes) -> None:
        left = memoryview(b"\n" + line if self._has_partial_line else line)
        while left:
            written = stdio.write_some(self._fd, left)
            left = left[written:]
            self._has_partial_line = bool(left)

    def _report(self, error: OSError) -> None:
        if self._has_reported or isinstance(error, BrokenPipeError):  # the reader has exited
            return
        self._has_reported = True
        text = f"deepaas: the log cannot be written: {error.strerror}: {self._path or 'stdout'}\n"
        try:
            os.write(2, text.encode("utf-8", "backslashreplace"))
        except OSError:  # there is no other place to report it
            pass


def formatter_of(options: LogOptions) -> logging.Formatter:
    """Return the formatter for these options."""
    return JSONFormatter() if options.json else LineFormatter()


class Tail:
    """Keeps the newest `size` bytes that were written to it."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._data = bytearray()

    def write(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > 2 * self._size:
            del self._data[: -self._size]

    def text(self) -> str:
        return self._data[-self._size :].decode(errors="replace")


class TailHandler(logging.Handler):
    """Writes records to a Tail."""

    def __init__(self, tail: Tail) -> None:
        super().__init__()
        self._tail = tail

    def emit(self, record: logging.LogRecord) -> None:
        self._tail.write(self.format(record).encode(errors="backslashreplace") + b"\n")

    def pass_on(self, lines: bytes) -> None:
        """Write complete lines that another process formatted."""
        self._tail.write(lines)


class Logger(logging.Logger):
    """A logger whose records do not depend on the model's configuration of `logging`."""

    callHandlers = logging.Logger.callHandlers  # `model_log` replaces it in logging.Logger

    def makeRecord(
        self,
        name: str,
        level: int,
        fn: str,
        lno: int,
        msg: object,
        args: Any,
        exc_info: Any,
        func: str | None = None,
        extra: Mapping[str, object] | None = None,
        sinfo: str | None = None,
    ) -> logging.LogRecord:
        record = logging.LogRecord(name, level, fn, lno, msg, args, exc_info, func, sinfo)
        record.levelname = _LEVELS.get(level, record.levelname)
        record.process = os.getpid()
        return record


_top = Logger("deepaas")
_top.propagate = False
_loggers = logging.Manager(_top)  # type: ignore[arg-type]
_loggers.loggerClass = Logger
_top.manager = _loggers


def get_logger(name: str) -> logging.Logger:
    """Return a logger for a module that runs in the process of a model; `name` begins with
    "deepaas.".

    `logging` does not know the logger, so `logging.config` and `logging.disable` do not change it.
    """
    return _loggers.getLogger(name)


def handle(record: logging.LogRecord) -> None:
    """Write a record to the handlers of this package, whatever its level and logger."""
    for handler in _top.handlers:
        handler.handle(record)


def pass_on(lines: bytes) -> None:
    """Write complete lines that another process formatted to the handlers of this package."""
    for handler in _top.handlers:
        if isinstance(handler, LineHandler | TailHandler):
            handler.pass_on(lines)


def setup(options: LogOptions, tail: Tail | None = None, *, must_open: bool = True) -> None:
    """Send the records of this package to the destination in `options`, and to `tail`.

    Raises OSError if the log file cannot be opened, except because the disk is full. If `must_open`
    is false, no error is raised. If the file is not open, each record tries to open it again.
    """
    handler = LineHandler(options.file)
    try:
        handler.open()
    except OSError as error:
        if must_open and error.errno not in NO_ROOM:
            raise
    handlers: list[logging.Handler] = [handler]
    if tail is not None:
        handlers.append(TailHandler(tail))
    for one in handlers:
        one.setFormatter(formatter_of(options))
    for before in _top.handlers:
        if isinstance(before, LineHandler):
            before.let_go()
    for logger in (_top, logging.getLogger("deepaas")):
        logger.handlers[:] = handlers
        logger.setLevel(options.level)
        logger.propagate = False
