"""Asynchronous models that record the start and the end of each call, and do what a call asks."""

import asyncio
import contextvars
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from webargs import fields

LIMIT_SECONDS = 120.0
CURRENT: contextvars.ContextVar[int] = contextvars.ContextVar("CURRENT", default=-1)


def note(kwargs: dict[str, Any], event: str) -> None:
    if kwargs["note"]:
        with open(kwargs["note"], "a") as file:
            file.write(json.dumps([event, kwargs["id"], os.getpid()]) + "\n")


def _is_open(gate: str, began: float) -> bool:
    """Tell whether a test has created the file, or the time limit is over."""
    return os.path.exists(gate) or time.monotonic() > began + LIMIT_SECONDS


async def wait_for(gate: str) -> None:
    began = time.monotonic()
    while not _is_open(gate, began):
        await asyncio.sleep(0.005)


async def _stubborn(kwargs: dict[str, Any]) -> None:
    """Run until the file exists, in spite of cancellation."""
    began = time.monotonic()
    while not _is_open(kwargs["gate"], began):
        await _sleep_stubbornly(kwargs)


async def _sleep_stubbornly(kwargs: dict[str, Any]) -> None:
    try:
        await asyncio.sleep(0.05)
    except asyncio.CancelledError:
        note(kwargs, "swallowed")


async def _leave() -> None:
    sys.exit("a task leaves")


def _count(number: int) -> Iterator[int]:
    yield from range(number)


async def _count_slowly(number: int) -> AsyncIterator[int]:
    for item in range(number):
        await asyncio.sleep(0)
        yield item


async def act(kwargs: dict[str, Any]) -> None:
    match kwargs["do"]:
        case "raise":
            raise ValueError(f"call {kwargs['id']} is bad")
        case "http":
            from aiohttp import web  # not at the top: this import takes longer than all others

            raise web.HTTPConflict(reason=f"call {kwargs['id']} is refused")
        case "system-exit":
            sys.exit(f"call {kwargs['id']} leaves")
        case "keyboard":
            raise KeyboardInterrupt
        case "cancelled":
            raise asyncio.CancelledError
        case "stop-iteration":
            raise StopIteration
        case "timeout":
            await asyncio.wait_for(asyncio.sleep(60), 0.01)
        case "task-leaves":
            await asyncio.create_task(_leave())
        case "task-raises":
            await asyncio.gather(asyncio.sleep(0), asyncio.create_task(asyncio.sleep(-1, 1)))
            raise ExceptionGroupLike([ValueError("in a group")])
        case "exit":
            os._exit(3)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "block":
            time.sleep(60)  # noqa: ASYNC251 (it blocks the event loop)
        case "stubborn":
            await _stubborn(kwargs)
        case "close-stdout":
            sys.stdout.close()


class ExceptionGroupLike(Exception):
    """Has the attribute `exceptions`, like the exception groups of newer Python versions."""


class Async:
    """An asynchronous model; ZOO_CONCURRENCY contains its max_concurrency in JSON."""

    max_concurrency = json.loads(os.environ.get("ZOO_CONCURRENCY", "null"))

    def __init__(self) -> None:
        self.running = 0
        self.most = 0

    def get_predict_args(self) -> dict[str, Any]:
        return {
            "id": fields.Int(required=True),
            "do": fields.Str(load_default="echo"),
            "note": fields.Str(load_default=""),
            "gate": fields.Str(load_default=""),
            "text": fields.Str(load_default=""),
            "data": fields.Field(load_default=None, metadata={"type": "file", "location": "form"}),
        }

    async def predict(self, **kwargs: Any) -> Any:
        self.running += 1
        self.most = max(self.most, self.running)
        note(kwargs, "begin")
        CURRENT.set(kwargs["id"])
        try:
            await asyncio.sleep(0)
            if kwargs["do"] != "stubborn" and kwargs["gate"]:
                await wait_for(kwargs["gate"])
            await act(kwargs)
            note(kwargs, "end")
        except asyncio.CancelledError:
            note(kwargs, "cancelled")
            raise
        finally:
            self.running -= 1
            note(kwargs, "finally")
        return self.answer(kwargs)

    def answer(self, kwargs: dict[str, Any]) -> Any:
        match kwargs["do"]:
            case "generator":
                return _count(3)
            case "async-generator":
                return _count_slowly(3)
            case "object":
                return object()
        answered = {"id": kwargs["id"], "pid": os.getpid(), "most": self.most}
        answered["current"] = CURRENT.get()
        if kwargs["text"]:
            answered["text"] = len(kwargs["text"])
        if kwargs["data"] is not None:
            with open(kwargs["data"].filename) as file:
                answered["data"] = file.read()
        return answered


class Warmed(Async):
    """Has an asynchronous `warm`, which leaves objects of the event loop."""

    async def warm(self) -> None:
        await asyncio.sleep(0)
        self.loop = asyncio.get_running_loop()
        self.task = asyncio.create_task(self._tick())
        self.ticks = 0

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(0.001)
            self.ticks += 1

    async def predict(self, **kwargs: Any) -> Any:
        before = self.ticks
        while self.ticks == before:
            await asyncio.sleep(0.001)
        return {"same loop": self.loop is asyncio.get_running_loop()}


class WarmFails(Async):
    async def warm(self) -> None:
        await asyncio.sleep(0)
        raise RuntimeError("too cold to warm")


class Returned(Async):
    """Has a plain `predict` that returns a coroutine, so its calls run one at a time."""

    def predict(self, **kwargs: Any) -> Any:
        return super().predict(**kwargs)
