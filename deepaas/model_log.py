"""What a model logs with `logging`, in the log of the server.

A model may configure nothing: then its records of the server's level and above are logged. It may
also call `logging.basicConfig`, or set handlers of its own: then those records are logged that its
handlers would write to the console. These handlers themselves write nothing, as each line would be
there twice. Handlers that write to other places, such as a file, are called as ever.

All records pass through `logging.Logger.callHandlers`, whatever a model configures. So that method
is replaced, in the processes of models alone. The loggers of `deepaas.log` keep the original.
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
"""Where handlers have their streams: those of logging, and of the libraries rich and absl."""


class ModelLog:
    """Takes what the model in this process logs, and passes it on to `to_server`.

    `names` tell which process of which model it is. In a training the console is its output, which
    is kept. So there the model's handlers are called as ever, and `to_output` gets the records that
    none of them has written to the console.
    """

    def __init__(
        self, names: Mapping[str, str], to_server: Write, to_output: Write | None = None
    ) -> None:
        self._names = dict(names)
        self._to_server = to_server
        self._to_output = to_output
        self._level = logging.NOTSET
        # As they are now: a model may lead the descriptors to another place.
        self._console = [os.fstat(fd) for fd in stdio.OUTPUTS.values()]

    def begin(self, level: str) -> None:
        """Take all records from now on, those of `level` and above unless the model says else."""
        self._level = getattr(logging, level)
        logging.getLogger().setLevel(level)

        def call_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
            self.call_handlers(logger, record)

        logging.Logger.callHandlers = call_handlers  # type: ignore[method-assign,assignment]

    def call_handlers(self, logger: logging.Logger, record: logging.LogRecord) -> None:
        """Call the handlers of a logger, and those of the loggers above it, with a record."""
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
        """Whether a handler wants to write a record to the console; in a training it does."""
        return handler.filter(record) if self._to_output is None else handler.handle(record)

    def _writes_to_console(self, handler: logging.Handler) -> bool:
        for get_stream in _STREAMS:
            with contextlib.suppress(Exception):  # the handler has no such stream
                status = os.fstat(get_stream(handler).fileno())
                return any(os.path.samestat(status, one) for one in self._console)
        return False

    def _pass_on(self, record: logging.LogRecord, shown_by: logging.Handler | None) -> None:
        named = copy.copy(record)
        named.process = os.getpid()  # which a model can have left out
        setattr(named, NAMES, self._names)
        if not isinstance(record.msg, str) and shown_by is not None:
            _set_text(named, shown_by)
        if self._to_output is not None and shown_by is None:
            self._to_output(named)
        self._to_server(named)


def _handlers_of(logger: logging.Logger) -> tuple[list[logging.Handler], bool]:
    """The handlers that get the records of a logger; whether those of the root are among them."""
    handlers = list(logger.handlers)
    while logger.propagate and logger.parent is not None:
        logger = logger.parent
        handlers += logger.handlers
    return handlers, logger.parent is None


def _set_text(record: logging.LogRecord, handler: logging.Handler) -> None:
    """Let a record have the text that a handler makes of it, as only that may know how to show a
    message that is no text: for the library structlog that is a dictionary."""
    with contextlib.suppress(Exception):  # the formatter is the model's
        record.msg, record.args = handler.format(record), ()
        record.exc_info = record.exc_text = record.stack_info = None
