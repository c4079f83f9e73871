"""Models that predict in batches: they record each batch, and fail if a call asks for it."""

import asyncio
import itertools
import json
import os
import pathlib
import signal
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from webargs import fields, validate

MEDIA_TYPES = ["application/json", "image/png", "text/plain"]
LIMIT_SECONDS = 120.0


def note(batch: list[dict[str, Any]], how: str) -> None:
    """Append a line with the ids of a batch to the file that its calls name."""
    line = {"pid": os.getpid(), "ids": [member["id"] for member in batch], "how": how}
    for path in {member["note"] for member in batch if member["note"]}:
        with open(path, "a") as file:
            file.write(json.dumps(line) + "\n")


def wait_for(path: str) -> None:
    """Wait until a test creates the file."""
    began = time.monotonic()
    while not os.path.exists(path) and time.monotonic() < began + LIMIT_SECONDS:
        time.sleep(0.005)


def _raise(member: dict[str, Any]) -> None:
    raise ValueError(f"member {member['id']} is bad")


def _mutate_and_raise(member: dict[str, Any]) -> None:
    member.clear()
    raise ValueError("raised after a change")


def _exit(member: dict[str, Any]) -> None:
    if member["data"] is not None:
        os.unlink(member["data"].filename)
    os._exit(3)


BEFORE: dict[str, Callable[[dict[str, Any]], object]] = {
    "raise": _raise,
    "mutate": _mutate_and_raise,
    "system-exit": lambda member: exit(f"member {member['id']} leaves"),
    "exit": _exit,
    "kill": lambda member: os.kill(os.getpid(), signal.SIGKILL),
    "hang": lambda member: time.sleep(60),
    "slow": lambda member: time.sleep(0.1),
}


def answer(member: dict[str, Any], size: int, how: str) -> Any:
    match member["do"]:
        case "exception":
            return ValueError(f"item {member['id']} is bad")
        case "http":
            from aiohttp import web  # not at the top: this import takes longer than all others

            return web.HTTPConflict(reason=f"item {member['id']} is refused")
        case "exit-item":
            return SystemExit(f"item {member['id']} leaves")
        case "object":
            return object()
    if member["accept"] == "image/png":
        return b"\x89PNG %d" % member["id"]
    if member["accept"] == "text/plain":
        path = pathlib.Path(os.environ["HOME"]) / f"result-{member['id']}.txt"
        path.write_text(f"text {member['id']}")
        return path.open()
    answered = {"id": member["id"], "size": size, "how": how, "pid": os.getpid()}
    if member["text"]:
        answered["text"] = len(member["text"])
    if member["data"] is not None:
        answered["data"] = os.path.getsize(member["data"].filename)
    return answered


def work(batch: list[dict[str, Any]], how: str) -> Any:
    note(batch, how)
    members = [dict(member) for member in batch]
    for member in members:
        if member["gate"]:
            wait_for(member["gate"])
    for member in batch:
        if member["do"] in BEFORE:
            BEFORE[member["do"]](member)
    results = [answer(member, len(batch), how) for member in members]
    if any(member["do"] == "pop" for member in members):
        batch.pop()
        return results[:-1]
    return shaped(results, {member["do"] for member in members})


def shaped(results: list[Any], wanted: set[str]) -> Any:
    """Return the wrong number of results, or another type than a list."""
    if "short" in wanted:
        return results[:-1]
    if "long" in wanted:
        return [*results, results[0]]
    for name, make in SHAPES.items():
        if name in wanted:
            return make(results)
    return results


class Columns(NamedTuple):
    label: list[Any]
    score: list[Any]


def _endless(results: list[Any]) -> Any:
    return itertools.chain(results, itertools.repeat("one too many"))


SHAPES: dict[str, Callable[[list[Any]], Any]] = {
    "none": lambda results: None,
    "tuple": tuple,
    "generator": lambda results: (one for one in results),
    "array": lambda results: import_module("numpy").array(
        [[one["id"], one["size"]] for one in results]
    ),
    "columns": lambda results: dict.fromkeys(map(str, range(len(results))), results),
    "named-tuple": lambda results: Columns(results, results),
    "set": lambda results: {one["id"] for one in results},
    "text": lambda results: "a" * len(results),
    "bytes": lambda results: b"a" * len(results),
    "map": lambda results: map(dict, results),
    "table": lambda results: import_module("pandas").DataFrame(results),
    "scalar-array": lambda results: import_module("numpy").array(5),
    "endless": lambda results: (one for one in _endless(results)),
}


def attribute(name: str) -> Any:
    """Return an attribute of the model from an environment variable, in JSON."""
    return json.loads(os.environ.get(name, "null"))


class Batched:
    """Has `predict_batch` and no `predict`."""

    max_batch_size = attribute("ZOO_BATCH_SIZE")
    max_batch_wait_ms = attribute("ZOO_BATCH_WAIT_MS")

    def get_predict_args(self) -> dict[str, Any]:
        return {
            "id": fields.Int(required=True, validate=validate.Range(min=0)),
            "do": fields.Str(load_default="echo"),
            "note": fields.Str(load_default=""),
            "gate": fields.Str(load_default=""),
            "text": fields.Str(load_default=""),
            "data": fields.Field(load_default=None, metadata={"type": "file", "location": "form"}),
            "accept": fields.Str(
                load_default="application/json", validate=validate.OneOf(MEDIA_TYPES)
            ),
        }

    def predict_batch(self, batch: list[dict[str, Any]]) -> Any:
        return work(batch, "batch")


class WithPredict(Batched):
    """Has `predict` too."""

    def predict(self, **kwargs: Any) -> Any:
        return work([kwargs], "one")[0]


class AsyncBatched(Batched):
    """Has an asynchronous `predict_batch`."""

    async def predict_batch(self, batch: list[dict[str, Any]]) -> Any:
        await asyncio.sleep(0.001)
        return work(batch, "async")
