"""Raises odd exceptions: without text, not picklable, or endless."""

import asyncio
import functools
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from aiohttp import web
from webargs import fields


class TextFails(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class TextExits(Exception):
    def __str__(self) -> str:
        sys.exit("while the text was made")


class TextIsNone(Exception):
    def __str__(self) -> str:
        return None  # type: ignore[return-value]


class AttributesFail(Exception):
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no attribute {name}")


class AttributesAreTrue(Exception):
    """Has every attribute, like a mock, and each of them is true."""

    def __getattr__(self, name: str) -> Any:
        return True


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("not to be pickled")
        self.lock = threading.Lock()
        self.function = lambda: None


class OwnBase(BaseException):
    pass


def get_predict_args() -> dict[str, Any]:
    return {"kind": fields.Str(missing="none")}


def _raise(error: BaseException) -> Any:
    raise error


def _recursion() -> Any:
    return _recursion()


def _long_chain() -> None:
    error: BaseException = ValueError("the first")
    for number in range(500):
        following = ValueError(f"number {number}")
        following.__cause__ = error
        error = following
    raise error


def _chain_in_a_circle() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    raise first


def _raising(make: Callable[[], BaseException]) -> Callable[[], Any]:
    return lambda: _raise(make())


KINDS: dict[str, Callable[[], Any]] = {
    "none": os.getpid,
    "text-fails": _raising(TextFails),
    "text-exits": _raising(TextExits),
    "text-none": _raising(TextIsNone),
    "attributes-fail": _raising(AttributesFail),
    "attributes-true": _raising(AttributesAreTrue),
    "unpicklable": _raising(Unpicklable),
    "base": _raising(functools.partial(OwnBase, "own base")),
    "generator-exit": _raising(GeneratorExit),
    "cancelled": _raising(asyncio.CancelledError),
    "timeout": _raising(functools.partial(TimeoutError, "too late")),
    "connection": _raising(functools.partial(BrokenPipeError, 32, "Broken pipe")),
    "eof": _raising(EOFError),
    "memory": lambda: bytearray(2**60),
    "recursion": _recursion,
    "stop-iteration": lambda: next(iter([])),
    "stop-async": _raising(StopAsyncIteration),
    "keyboard": _raising(KeyboardInterrupt),
    "exit": lambda: sys.exit("leaving"),
    "exit-none": lambda: sys.exit(),
    "exit-0": lambda: sys.exit(0),
    "exit-object": lambda: _raise(SystemExit(object())),
    "import": lambda: __import__("no_such_module"),
    "assertion": _raising(AssertionError),
    "surrogate": _raising(functools.partial(ValueError, "lone \ud800 surrogate")),
    "control": _raising(functools.partial(ValueError, "a\x00b\x1b[31mc\r\nX-Evil: d")),
    "long": _raising(functools.partial(ValueError, "long " * 1_000_000)),
    "long-chain": _long_chain,
    "circle": _chain_in_a_circle,
    "http-header": lambda: _raise(web.HTTPBadRequest(headers={"X-Own": "own"}, reason="headed")),
    "http-redirect": lambda: _raise(web.HTTPFound("/elsewhere")),
    "http-no-content": lambda: _raise(web.HTTPNoContent()),
    "http-not-modified": lambda: _raise(web.HTTPNotModified()),
    "http-ok": lambda: _raise(web.HTTPOk(text="fine")),
    "http-405": lambda: _raise(web.HTTPMethodNotAllowed("PUT", ["GET"])),
    "http-413": lambda: _raise(web.HTTPRequestEntityTooLarge(1, 2)),
}


def predict(**kwargs: Any) -> Any:
    return KINDS[kwargs["kind"]]()
