"""Write the records that a model logs with `logging` to the log of the server.

If the model configures nothing, its records of the server's level and above are logged. If it calls
`logging.basicConfig`, or adds handlers, the records that its handlers would write to the console
are logged. These handlers do not write anything themselves, because each line would appear twice.
Handlers that write elsewhere, such as to a file, are called as usual.

All records pass through `logging.Logger.callHandlers`, whatever a model configures, so this method
is replaced in the processes of models. The loggers of `deepaas.log` keep the original.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import operator
import os
from collections.abc import Callable, Mapping

from deepaas import stdio
from deepaas.log import NAMES

Write = Callable[[logging.LogRecord], object]

_STREAMS = [
    operator.attrgetter(place) for place in ("stream", "console.file", "python_handler.stream")
]
"""The attributes that hold a handler's stream: in logging, rich and absl."""


class ModelLog:
    """Passes the records of the model in this process to `to_server`.

    `names` identify the model and the process. In a training, console output is stored as its
    output. There the model's handlers are called as usual, and `to_output` receives the records
    that none of them has written to the console.
    """

    def __init__(
        self, names: Mapping[str, str], to_server: Write, to_output: Write | None = None
    ) -> None:
        self._names = dict(names)
        self._to_server = to_server
        self._to_output = to_output
        self._level = logging.NOTSET
        # The model may redirect these descriptors later.
        self._console = [os.fstat(fd) for fd in stdio.OUTPUTS.values()]

    def begin(self, level: str) -> None:
        """Start to process all records: those of `level` and above, unless the model sets another
        level."""
        self._level = getattr(logging, level)
        logging.getLogger().setLevel(level)

        def call_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
            self.call_handlers(logger, record)

        logging.Logger.callHandlers = call_handlers  # type: ignore[method-assign,assignment]

    def call_handlers(self, logger: logging.Logger, record: logging.LogRecord) -> None:
        """Call the handlers of a logger and of its parents with a record."""
        handlers, reaches_root = _handlers_of(logger)
        has_console = False
        shown: logging.LogRecord | None = None
        shown_by: logging.Handler | None = None
        for handler in handlers:
            is_console = self._writes_to_console(handler)
            has_console |= is_console
            if record.levelno < handler.level:
                continue
            if not is_console:
                handler.handle(record)
            elif filtered := self._show(handler, record):
                # From Python 3.12 on a filter may return another record.
                shown = filtered if isinstance(filtered, logging.LogRecord) else record
                shown_by = handler
        if shown is not None:
            self._pass_on(shown, shown_by)
        elif not has_console and (reaches_root or not handlers) and record.levelno >= self._level:
            self._pass_on(record, None)

    def _show(self, handler: logging.Handler, record: logging.LogRecord) -> object:
        """Return whether a handler accepts a record for the console; in a training, write it."""
        return handler.filter(record) if self._to_output is None else handler.handle(record)

    def _writes_to_console(self, handler: logging.Handler) -> bool:
        for get_stream in _STREAMS:
            with contextlib.suppress(Exception):  # the handler has no such stream
                status = os.fstat(get_stream(handler).fileno())
                return any(os.path.samestat(status, one) for one in self._console)
        return False

    def _pass_on(self, record: logging.LogRecord, shown_by: logging.Handler | None) -> None:
        named = copy.copy(record)
        named.process = os.getpid()  # a model may have set logging.logProcesses to False
        setattr(named, NAMES, self._names)
        if not isinstance(record.msg, str) and shown_by is not None:
            _set_text(named, shown_by)
        if self._to_output is not None and shown_by is None:
            self._to_output(named)
        self._to_server(named)


def _handlers_of(logger: logging.Logger) -> tuple[list[logging.Handler], bool]:
    """Return the handlers for the records of a logger, and whether the root's are among them."""
    handlers = list(logger.handlers)
    while logger.propagate and logger.parent is not None:
        logger = logger.parent
        handlers += logger.handlers
    return handlers, logger.parent is None


def _set_text(record: logging.LogRecord, handler: logging.Handler) -> None:
    """Replace the message of a record by the text that a handler makes of it.

    Only the handler may know how to format a message that is not text: in structlog it is a
    dictionary.
    """
    with contextlib.suppress(Exception):  # the formatter is the model's
        record.msg, record.args = handler.format(record), ()
        record.exc_info = record.exc_text = record.stack_info = None
