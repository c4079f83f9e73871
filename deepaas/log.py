"""Logging of the server and of its workers: one line a record, to standard output or a file."""

from __future__ import annotations

import datetime
import json
import logging
import sys
import traceback
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, TextIO

import orjson

if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[TextIO]
else:
    _StreamHandler = logging.StreamHandler

FORMAT = "%(asctime)s.%(msecs)03d %(process)d %(levelname)s %(name)s %(message)s"
DATE_FORMAT = "%Y-%m-%d %H:%M:%S"


@dataclass(frozen=True)
class LogOptions:
    """How to log; travels to the workers as plain data."""

    level: str = "INFO"
    file: str = ""
    json: bool = False

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


class LineFormatter(logging.Formatter):
    """One line a record; the time of day is made anew only when the second has changed."""

    def __init__(self) -> None:
        super().__init__(FORMAT, DATE_FORMAT)
        self._second = -1
        self._time = ""

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        return line if line.isascii() else line.encode("utf-8", "backslashreplace").decode()

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        second = int(record.created)
        if second != self._second:
            self._second = second
            self._time = super().formatTime(record, datefmt)
        return self._time


class JSONFormatter(logging.Formatter):
    """One JSON object a line; asctime is ISO 8601 in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
        entry: dict[str, object] = {
            "asctime": time.isoformat(timespec="milliseconds"),
            "process": record.process,
            "levelname": record.levelname,
            "name": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        try:
            return orjson.dumps(entry, default=repr).decode()
        except TypeError:  # a text with lone surrogates
            return json.dumps(entry, default=repr)


class StdoutHandler(_StreamHandler):
    """Writes to what sys.stdout is at the time: a model may close it, and the worker mends it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stdout

    @stream.setter
    def stream(self, value: TextIO) -> None:
        raise AttributeError("it is always sys.stdout")

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], BrokenPipeError):  # nobody reads it any more
            super().handleError(record)


class Tail:
    """The newest `size` bytes of what was written to it."""

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


def setup(options: LogOptions, tail: Tail | None = None) -> None:
    """Send this package's records to where `options` says, and to `tail`.

    Raises OSError if the log file cannot be opened.
    """
    handlers: list[logging.Handler] = []
    if options.file:
        handlers.append(
            logging.FileHandler(options.file, encoding="utf-8", errors="backslashreplace")
        )
    else:
        handlers.append(StdoutHandler())
    if tail is not None:
        handlers.append(TailHandler(tail))
    formatter = JSONFormatter() if options.json else LineFormatter()
    for handler in handlers:
        handler.setFormatter(formatter)
    logger = logging.getLogger("deepaas")
    logger.handlers[:] = handlers
    logger.setLevel(options.level)
    logger.propagate = False
