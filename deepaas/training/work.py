"""Calls the model in the process of a training, and makes something of what it returns."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
from collections.abc import Awaitable, Generator, Mapping
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, BinaryIO

from deepaas.model.v2.calling import calling_of
from deepaas.model.v2.exchange import Call, Reply
from deepaas.model.v2.results import (
    ResultSchema,
    UnusableResultError,
    encode,
    encode_item,
    to_json,
    to_plain,
)
from deepaas.model.v2.streams import stream_type
from deepaas.model.v2.wrapper import ModelWrapper
from deepaas.training.plan import Workplace
from deepaas.training.request import write_private
from deepaas.training.store import Ending

logger = logging.getLogger("deepaas.training")

OUTPUT = "output.json"
"""The artefact that has what train returned, if it is too large for the record."""


class Work:
    """A model to be called, where its files go, and the most bytes of a result in the record."""

    def __init__(self, model: ModelWrapper, place: Workplace, result_size: int) -> None:
        self.model = model
        self.place = place
        self.result_size = result_size
        self._loop: asyncio.AbstractEventLoop | None = None

    def wait_for(self, awaitable: Awaitable[Any]) -> Any:
        """The result of an awaitable, on the one event loop that there is for all of them."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        return self._loop.run_until_complete(awaitable)

    def finish(self, value: Any) -> Any:
        """What a coroutine ends with, an async generator as a plain one, anything else as it is."""
        if type(value) is CoroutineType:
            value = self.wait_for(value)
        return self._steps(value) if type(value) is AsyncGeneratorType else value

    def _steps(self, items: AsyncGeneratorType[Any, None]) -> Generator[Any, None, None]:
        while True:
            try:
                item = self.wait_for(anext(items))
            except StopAsyncIteration:
                return
            yield item


def train(work: Work, arguments: Mapping[str, Any]) -> Ending:
    """Call `train`; what it yields, if it does, is a list in the record."""
    function = work.model.function("train")
    if function is None:
        raise RuntimeError("train has gone from the model")
    value = work.finish(function(**arguments))
    if type(value) is GeneratorType:
        value = list(value)
    message = ""
    try:
        output = to_json(value).decode()
    except UnusableResultError as error:  # the work is done all the same
        message = f"{error}; it is shown as text"
        logger.warning("%s", message)
        output = json.dumps(to_plain(value))
    if len(output) > work.result_size:
        write_private(work.place.artifacts / OUTPUT, output.encode())
        message = f"What train returned has {len(output)} bytes: see the artefact {OUTPUT}"
        logger.warning("%s", message)
        output = "null"
    return Ending("done", message, output=output)


def predict(work: Work, arguments: Mapping[str, Any], call: Call, media_type: str) -> Ending:
    """Call `predict`, and write its answer to a file."""
    schema = work.model.schema
    form = None if schema is None else ResultSchema(schema)
    value = _predicted(work, arguments)
    with open(work.place.result, "xb", opener=_private) as file:
        if type(value) is GeneratorType:
            content_type = stream_type(call.headers.get("accept", ""), media_type)
            reply = Reply(headers={"Content-Type": content_type})
            for item in value:
                file.write(encode_item(item, content_type, form))
        else:
            reply = encode(value, media_type, form)
            _write(reply, file)
    headers = dict(reply.headers or {"Content-Type": "application/json; charset=utf-8"})
    output = None
    if reply.headers is None and work.place.result.stat().st_size <= work.result_size:
        output = work.place.result.read_text()
    answer = {"status": reply.status, "headers": headers}
    return Ending("done", output=output, answer=json.dumps(answer))


def _predicted(work: Work, arguments: Mapping[str, Any]) -> Any:
    """What predict returned; of a batch of one the one result."""
    name = "predict_batch" if calling_of(work.model).kind == "batch" else "predict"
    function = work.model.function(name)
    if function is None:
        raise RuntimeError(f"{name} has gone from the model")
    if name == "predict":
        return work.finish(function(**arguments))
    (result,) = work.finish(function([dict(arguments)]))
    if isinstance(result, BaseException):
        raise result
    return result


def _write(reply: Reply, file: BinaryIO) -> None:
    if reply.fd < 0:
        file.write(reply.body)
        return
    with open(reply.fd, "rb") as source:
        source.seek(0)
        shutil.copyfileobj(source, file)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
