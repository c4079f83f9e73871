"""Models that log in many ways, with and without a logging configuration of the model."""

import io
import logging
import logging.config
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from webargs import ValidationError, fields

LOG_FILE = "model.log"
GATE_SECONDS = 60.0

logger = logging.getLogger(__name__)


class _Rendering(logging.Formatter):
    """Formats messages that are dictionaries, like the formatter of structlog."""

    def format(self, record: logging.LogRecord) -> str:
        assert isinstance(record.msg, dict)
        return " ".join(f"{key}={value}" for key, value in record.msg.items())


def _with_console(one: logging.Logger, formatter: logging.Formatter | None = None) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    one.addHandler(handler)


def _configure_twice() -> None:
    logging.basicConfig()
    _with_console(logging.getLogger())


class _Console:
    """Has a file, like the console of the library rich."""

    file = sys.stderr


class _RichHandler(logging.Handler):
    console = _Console()

    def emit(self, record: logging.LogRecord) -> None:
        print("rich", record.getMessage(), file=self.console.file)


class _AbslHandler(logging.Handler):
    """Contains another handler with the stream, like the handler of the library absl."""

    python_handler = logging.StreamHandler()

    def emit(self, record: logging.LogRecord) -> None:
        self.python_handler.emit(record)


def _filtered(handler: logging.Handler) -> logging.Handler:
    """Make a handler mask a secret and skip warnings."""

    def mask(record: logging.LogRecord) -> bool:
        record.msg = record.msg.replace("at", "**")
        return record.levelno != logging.WARNING

    handler.addFilter(mask)
    return handler


class _LoggingStream(io.TextIOBase):
    """Logs the text that is written to it, on each flush."""

    def __init__(self) -> None:
        self._text = ""

    def write(self, text: str) -> int:
        self._text += text
        return len(text)

    def flush(self) -> None:
        text, self._text = self._text, ""
        if text.strip():
            logging.getLogger("printed").info(text.strip())


def _log_stdout() -> None:
    sys.stdout = _LoggingStream()


def _own_handler() -> None:
    logger.propagate = False
    _with_console(logger)


HOWS: dict[str, Callable[[], object]] = {
    "nothing": lambda: None,
    "basicConfig": logging.basicConfig,
    "basicConfig_twice": _configure_twice,
    "basicConfig_debug": lambda: logging.basicConfig(level=logging.DEBUG, stream=sys.stdout),
    "basicConfig_force": lambda: logging.basicConfig(force=True),
    "basicConfig_file": lambda: logging.basicConfig(filename=LOG_FILE, level=logging.INFO),
    "dictConfig": lambda: logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"console": {"class": "logging.StreamHandler", "level": "ERROR"}},
            "root": {"handlers": ["console"], "level": "INFO"},
        }
    ),
    "own_handler": _own_handler,
    "filtered": lambda: logging.basicConfig(handlers=[_filtered(logging.StreamHandler())]),
    "absl": lambda: logging.basicConfig(handlers=[_AbslHandler()]),
    "rich": lambda: logging.basicConfig(handlers=[_RichHandler()]),
    "level": lambda: logger.setLevel(logging.WARNING),
    "dictionaries": lambda: _with_console(logging.getLogger(), _Rendering()),
    "captureWarnings": lambda: logging.captureWarnings(True),
    "stdout_logged": _log_stdout,
    "no_processes": lambda: setattr(logging, "logProcesses", False),
}


def _log(token: str) -> None:
    for level in ("debug", "info", "warning", "error"):
        getattr(logger, level)("%s at %s", token, level)
    print(f"{token} printed", flush=True)


def _say(token: str, what: str) -> str:
    match what:
        case "levels":
            _log(token)
        case "dictionary":
            logger.info({"event": token, "number": 1})
        case "traceback":
            try:
                raise ValueError(token)
            except ValueError:
                logger.exception("it failed")
        case "warning":
            warnings.warn(token, stacklevel=1)
        case "bad arguments":
            logger.info("%d", token)
        case "print":
            print(token)
        case "fail":
            raise RuntimeError(token)
        case "fork":
            pid = os.fork()
            if pid == 0:
                logger.info(token)
                os._exit(0)
            os.waitpid(pid, 0)
        case "many":
            for number in range(20_000):
                logger.info("%s %d", token, number)
    return token


def _wait(gate: str) -> None:
    until = time.monotonic() + GATE_SECONDS
    while gate and not Path(gate).exists():
        if time.monotonic() > until:
            raise TimeoutError("nobody has opened the gate")
        time.sleep(0.005)


def _check(token: str) -> None:
    if token.startswith("check "):
        logger.info("checked %s", token)
    if token == "wrong":
        raise ValidationError("It is wrong.")


ARGUMENTS = {
    "token": fields.Str(load_default="token", validate=_check),
    "what": fields.Str(load_default="levels"),
    "gate": fields.Str(load_default=""),
}


class _Model:
    def get_predict_args(self) -> dict[str, Any]:
        return ARGUMENTS

    get_train_args = get_predict_args

    def warm(self) -> None:
        logger.info("warmed %s", type(self).__name__)

    def train(self, token: str, what: str, gate: str) -> str:
        if what == "after the gate":
            logger.info("%s begins", token)
        _say(token, what)
        _wait(gate)
        if what == "after the gate":
            logger.info("%s is over", token)
        return token


class Plain(_Model):
    def predict(self, token: str, what: str, gate: str) -> str:
        _say(token, what)
        _wait(gate)
        return token


class Batched(_Model):
    def predict_batch(self, calls: list[dict[str, str]]) -> list[str]:
        return [_say(call["token"], call["what"]) for call in calls]


class Async(_Model):
    async def predict(self, token: str, what: str, gate: str) -> str:
        return _say(token, what)


def __getattr__(name: str) -> Any:
    """Configure logging as the name says, and return a model, for targets such as
    `zoo.logs:basicConfig`."""
    if name not in HOWS:
        raise AttributeError(name)
    HOWS[name]()
    return Plain()
