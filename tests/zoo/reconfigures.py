"""Changes logging or the standard streams as requested, and raises afterwards."""

import contextlib
import io
import logging
import logging.config
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from webargs import fields


def _configure(**loggers: Any) -> None:
    logging.config.dictConfig({"version": 1, **loggers})


def _configure_from_file() -> None:
    sections = ("[loggers]", "keys=root", "[handlers]", "keys=", "[formatters]", "keys=")
    root = ("[logger_root]", "level=ERROR", "handlers=")
    logging.config.fileConfig(io.StringIO("\n".join([*sections, *root])))


def _silence_all() -> None:
    for one in [logging.getLogger(), *logging.root.manager.loggerDict.values()]:
        if isinstance(one, logging.Logger):
            one.handlers.clear()
            one.setLevel(logging.CRITICAL + 1)
            one.propagate = False
            one.disabled = True


class _Silent(logging.Logger):
    def handle(self, record: logging.LogRecord) -> None:
        pass


def _fail(*args: Any, **kwargs: Any) -> Any:
    raise ZeroDivisionError("raised on purpose")


class _Failing:
    write = flush = fileno = isatty = _fail


def _set_stdout(stream: Any) -> None:
    sys.stdout = stream


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _discard(*descriptors: int) -> None:
    with open(os.devnull, "w") as devnull:
        for descriptor in descriptors:
            os.dup2(devnull.fileno(), descriptor)


HOWS: dict[str, Callable[[], object]] = {
    "nothing": lambda: None,
    "print": lambda: sys.stdout.write("printed before it fails\n"),  # in one piece
    "dictConfig": _configure,
    "dictConfig of deepaas": lambda: _configure(
        loggers={"deepaas": {"level": "CRITICAL", "handlers": []}}
    ),
    "fileConfig": _configure_from_file,
    "basicConfig": lambda: logging.basicConfig(force=True, handlers=[logging.NullHandler()]),
    "disable errors": lambda: logging.disable(logging.ERROR),
    "disable all": logging.disable,
    "clear root": lambda: logging.getLogger().handlers.clear(),
    "silence all": _silence_all,
    "forget all": lambda: logging.root.manager.loggerDict.clear(),
    "shutdown": logging.shutdown,
    "raiseExceptions": lambda: setattr(logging, "raiseExceptions", False),
    "setLoggerClass": lambda: logging.setLoggerClass(_Silent),
    "setLogRecordFactory": lambda: logging.setLogRecordFactory(_fail),
    "logProcesses": lambda: setattr(logging, "logProcesses", False),
    "addLevelName": lambda: logging.addLevelName(logging.ERROR, "\x1b[31mbad\x1b[0m"),
    "stdout to devnull": lambda: _set_stdout(open(os.devnull, "w")),  # noqa: SIM115
    "stdout None": lambda: _set_stdout(None),
    "stdout that fails": lambda: _set_stdout(_Failing()),
    "stdout closed": lambda: sys.stdout.close(),
    "stdout detached": lambda: sys.stdout.detach(),  # type: ignore[union-attr]
    "stdout wrapped": lambda: _set_stdout(
        io.TextIOWrapper(sys.stdout.detach(), "latin-1")  # type: ignore[union-attr]
    ),
    "stdout redirected": lambda: contextlib.redirect_stdout(io.StringIO()).__enter__(),
    "close 1": lambda: _close(1),
    "close 1 and 2": lambda: _close(1, 2),
    "dup2 1": lambda: _discard(1),
    "dup2 1 and 2": lambda: _discard(1, 2),
}


class FailedOnPurposeError(Exception):
    pass


def _do(how: str, token: str) -> None:
    HOWS[how]()
    raise FailedOnPurposeError(f"<{token}>")


ARGUMENTS = {"how": fields.Str(load_default="nothing"), "token": fields.Str(load_default="")}


class _Model:
    def get_predict_args(self) -> dict[str, Any]:
        return ARGUMENTS

    get_train_args = get_predict_args

    def train(self, how: str, token: str) -> None:
        _do(how, token)


class Plain(_Model):
    def predict(self, how: str, token: str) -> None:
        _do(how, token)


class Batched(_Model):
    def predict_batch(self, calls: list[dict[str, str]]) -> list[None]:
        for call in calls:
            _do(**call)
        return [None] * len(calls)


class Async(_Model):
    async def predict(self, how: str, token: str) -> None:
        _do(how, token)


class Streamed(_Model):
    def predict(self, how: str, token: str) -> Iterator[int]:
        yield 1
        _do(how, token)


class AsyncStreamed(_Model):
    async def predict(self, how: str, token: str) -> AsyncIterator[int]:
        yield 1
        _do(how, token)


def __getattr__(name: str) -> Any:
    """Return a model, or raise, for targets such as `zoo.reconfigures:loaded_stdout_None`."""
    verb, _, rest = name.partition("_")
    how = rest.replace("_", " ")
    if verb not in ("loaded", "failing") or how not in HOWS:
        raise AttributeError(name)
    if verb == "failing":
        _do(how, f"failing {how}")
    HOWS[how]()
    return Plain()
