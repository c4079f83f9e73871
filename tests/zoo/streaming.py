"""Yields the requested items, plainly or asynchronously, and records how many it has yielded."""

import asyncio
import json
import os
import pathlib
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from webargs import fields, validate

MEDIA_TYPES = ["application/json", "text/plain", "application/octet-stream"]
LIMIT_SECONDS = 120.0
TEXTS = ["", "größer", "two\nlines", "\r\n\r\n", "data: x\n\n", "\u2028\u2029\x00\x85", "😀", "\\n"]


@dataclass
class Wait:
    """A step of the script that waits for a file or some seconds, and yields nothing."""

    path: str = ""
    seconds: float = 0.0


def note(kwargs: dict[str, Any], event: str) -> None:
    if kwargs["note"]:
        with open(kwargs["note"], "a") as file:
            file.write(json.dumps(event) + "\n")


def _count(kwargs: dict[str, Any]) -> Iterator[Any]:
    for number in range(kwargs["count"]):
        yield {"n": number}


def _gated(kwargs: dict[str, Any]) -> Iterator[Any]:
    yield "first"
    yield Wait(kwargs["gate"])
    yield "second"


def _sized(kwargs: dict[str, Any]) -> Iterator[Any]:
    for number in range(kwargs["count"]):
        pathlib.Path(kwargs["counter"]).write_text(str(number + 1))
        yield f"{number:08d}".ljust(kwargs["size"], "x")


def _large(kwargs: dict[str, Any]) -> Iterator[Any]:
    for number in range(kwargs["count"]):
        yield "abcdefgh"[number] * kwargs["size"]


def _upload(kwargs: dict[str, Any]) -> Iterator[Any]:
    yield "first"
    yield Wait(kwargs["gate"])
    with open(kwargs["data"].filename) as file:
        yield file.read()


def _paced(kwargs: dict[str, Any]) -> Iterator[Any]:
    for item in _count(kwargs):
        yield Wait(seconds=kwargs["seconds"])
        yield item


def _stop(kwargs: dict[str, Any]) -> Iterator[Any]:
    os.kill(os.getpid(), signal.SIGSTOP)
    yield "never"


def _raise(error: BaseException) -> Iterator[Any]:
    raise error
    yield


def _die() -> Iterator[Any]:
    os._exit(3)
    yield


def _refuse() -> Iterator[Any]:
    from aiohttp import web  # not at the top: this import takes longer than all others

    raise web.HTTPConflict(reason="refused")


ENDS: dict[str, Callable[[dict[str, Any]], Iterator[Any]]] = {
    "": lambda kwargs: iter(()),
    "raise": lambda kwargs: _raise(ValueError("it went\nwrong")),
    "http": lambda kwargs: _refuse(),
    "system-exit": lambda kwargs: _raise(SystemExit("it leaves")),
    "object": lambda kwargs: iter([object()]),
    "number": lambda kwargs: iter([5]),
    "violation": lambda kwargs: iter([{"n": "many"}]),
    "bytes": lambda kwargs: iter([b"good", b"\xff\xfe"]),
    "die": lambda kwargs: _die(),
    "hang": lambda kwargs: iter([Wait(seconds=60)]),
    "gate": lambda kwargs: iter([Wait(kwargs["gate"])]),
}

KINDS: dict[str, Callable[[dict[str, Any]], Iterator[Any]]] = {
    "count": _count,
    "gated": _gated,
    "sized": _sized,
    "large": _large,
    "upload": _upload,
    "paced": _paced,
    "texts": lambda kwargs: iter(TEXTS),
    "odd": lambda kwargs: iter([None, 2**70, float("nan"), [1, (2,)], b"bytes", True]),
    "bytes": lambda kwargs: iter([b"\x00\xff", bytearray(b"array"), "text", "", None]),
}


def script(kwargs: dict[str, Any]) -> Iterator[Any]:
    """Return the items to yield, and the waits between them."""
    yield from KINDS[kwargs["kind"]](kwargs)
    yield from ENDS[kwargs["end"]](kwargs)


class Common:
    def get_predict_args(self) -> dict[str, Any]:
        return {
            "kind": fields.Str(load_default="count"),
            "end": fields.Str(load_default=""),
            "close": fields.Str(load_default=""),
            "count": fields.Int(load_default=3),
            "size": fields.Int(load_default=0),
            "seconds": fields.Float(load_default=0.0),
            "note": fields.Str(load_default=""),
            "gate": fields.Str(load_default=""),
            "counter": fields.Str(load_default=""),
            "data": fields.Field(load_default=None, metadata={"type": "file", "location": "form"}),
            "accept": fields.Str(
                load_default="application/json", validate=validate.OneOf(MEDIA_TYPES)
            ),
        }


def _ended(kwargs: dict[str, Any]) -> None:
    note(kwargs, "finally")
    if kwargs["close"] == "raise":
        raise ValueError("raised at the end")
    if kwargs["close"] == "exit":
        raise SystemExit("left at the end")


class Plain(Common):
    def predict(self, **kwargs: Any) -> Iterator[Any]:
        note(kwargs, "begin")
        try:
            for step in script(kwargs):
                if not isinstance(step, Wait):
                    yield step
                    continue
                began = time.monotonic()
                while not _over(step, began):
                    time.sleep(0.005)
        finally:
            _ended(kwargs)
            if kwargs["close"] == "yield":
                yield "one more"


class Async(Common):
    async def predict(self, **kwargs: Any) -> AsyncIterator[Any]:
        note(kwargs, "begin")
        try:
            for step in script(kwargs):
                if not isinstance(step, Wait):
                    yield step
                    continue
                began = time.monotonic()
                while not _over(step, began):
                    await self._wait(kwargs)
        finally:
            await asyncio.sleep(0)
            _ended(kwargs)
            if kwargs["close"] == "yield":
                yield "one more"

    async def _wait(self, kwargs: dict[str, Any]) -> None:
        try:
            await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            note(kwargs, "cancelled")
            if kwargs["close"] != "swallow":
                raise


def _over(wait: Wait, began: float) -> bool:
    if wait.path:
        return os.path.exists(wait.path) or time.monotonic() > began + LIMIT_SECONDS
    return time.monotonic() > began + wait.seconds


class Mixed(Async):
    """Has a plain `predict` that returns an asynchronous generator."""

    def predict(self, **kwargs: Any) -> AsyncIterator[Any]:
        return super().predict(**kwargs)


class WithSchema(Plain):
    schema: ClassVar = {"n": fields.Int(required=True)}


class WithHeader(Plain):
    """Has an argument in a header, and no choice of media types."""

    def get_predict_args(self) -> dict[str, Any]:
        token = fields.Str(load_default="", data_key="X-Token", metadata={"location": "headers"})
        given = super().get_predict_args()
        del given["accept"]
        return given | {"token": token}

    def predict(self, **kwargs: Any) -> Iterator[Any]:
        yield kwargs["token"]


class Bare:
    """Has no arguments."""

    def predict(self) -> Iterator[Any]:
        yield 1
        yield 2
