"""Calls the model in the process of a training, and makes something of what it returns."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
from collections.abc import Awaitable, Generator, Mapping
from dataclasses import replace
from io import FileIO
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, BinaryIO

from deepaas import exact_json
from deepaas.exceptions import ModelMistakeError, StorageError
from deepaas.jobs.spec import JobDirectory, Limits
from deepaas.jobs.store import Ending
from deepaas.log import get_logger
from deepaas.model.v2.calling import batch_results, calling_of
from deepaas.model.v2.exchange import Call, Reply
from deepaas.model.v2.failures import let_go, reply_to
from deepaas.model.v2.json_encoder import to_plain
from deepaas.model.v2.places import without_own_frames
from deepaas.model.v2.results import (
    ResultSchema,
    UnusableResultError,
    encode,
    encode_item,
    to_json,
)
from deepaas.model.v2.streams import stream_headers, stream_type
from deepaas.model.v2.wrapper import ModelWrapper
from deepaas.protocol.call_files import write_private

logger = get_logger("deepaas.training")

OUTPUT = "output.json"
"""The artefact that has what train returned, if it is too large for the record."""


class Work:
    """A model to be called, where its files go, and how much of a result its record may hold."""

    def __init__(self, name: str, place: JobDirectory, limits: Limits) -> None:
        self.model = ModelWrapper(name, None)  # until it is loaded
        self.place = place
        self.result_size = limits.result_size
        self.max_batch_size = limits.max_batch_size
        self._pid = os.getpid()
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

    def end_if_forked(self) -> None:
        """End a child that the model has forked: only this process may say how the work ended."""
        if os.getpid() != self._pid:
            os._exit(1)

    def failed(self, error: BaseException, what: str) -> Reply:
        """The reply that a client would get for what was raised; the log has the traceback."""
        let_go(error)
        self.end_if_forked()
        if not logger.isEnabledFor(logging.DEBUG):
            without_own_frames(error)
        try:
            for line in error.lines if isinstance(error, ModelMistakeError) else ():
                logger.error("%s", line)
            logger.error("%s of model %s failed", what, self.model.name, exc_info=error)
        except BaseException:  # an exception whose own text raises
            logger.error("%s of model %s failed: %s", what, self.model.name, type(error).__name__)
        return reply_to(error)


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
        output = exact_json.dumps(to_plain(value)).decode()
    if len(output) > work.result_size:
        message = _keep_output(work, output.encode())
        logger.warning("%s", message)
        output = "null"
    return Ending("done", message, output=output)


def _keep_output(work: Work, output: bytes) -> str:
    """Make an artefact of what train returned; the message for its record."""
    size = len(output)
    try:
        write_private(work.place.artifacts / OUTPUT, output)
    except OSError as error:  # the work is done all the same
        return f"There is no room for the {size} bytes that train returned: {error.strerror}"
    return f"What train returned has {size} bytes: see the artefact {OUTPUT}"


def predict(work: Work, arguments: Mapping[str, Any], call: Call, media_type: str) -> Ending:
    """Call `predict`, and keep the answer that a client would get."""
    schema = work.model.schema
    form = None if schema is None else ResultSchema(schema)
    value = _predicted(work, arguments)
    work.end_if_forked()
    if type(value) is GeneratorType:
        content_type = stream_type(call.headers.get("accept", ""), media_type)
        return _keep_stream(work, value, content_type, form)
    return keep(work.place, encode(value, media_type, form), work.result_size)


def _predicted(work: Work, arguments: Mapping[str, Any]) -> Any:
    """What predict returned; of a batch of one the one result."""
    kind = calling_of(work.model, max_batch_size=work.max_batch_size).kind
    name = "predict_batch" if kind == "batch" else "predict"
    function = work.model.function(name)
    if function is None:
        raise RuntimeError(f"{name} has gone from the model")
    if name == "predict":
        return work.finish(function(**arguments))
    (result,) = batch_results(work.finish(function([dict(arguments)])), 1)
    if isinstance(result, BaseException):
        raise result
    return result


def _keep_stream(
    work: Work,
    items: Generator[Any, None, None],
    content_type: str,
    form: ResultSchema | None,
) -> Ending:
    """Keep the items of a stream. If it fails before the first, the error comes out."""
    reply = Reply(headers=stream_headers(content_type))
    with open(work.place.result, "wb", buffering=0, opener=_private) as file:
        has_begun = False
        try:
            for item in items:
                work.end_if_forked()
                data = encode_item(item, content_type, form)
                has_begun = True
                _write_item(file, data)
        except _NoRoomError as error:
            return _without_room(work.place, error)
        except BaseException as error:
            if not has_begun:
                raise
            failure = work.failed(error, "predict")
            reply = replace(reply, reason=failure.reason, code=failure.code)
    return _ending(reply, is_stream=True)


def keep(place: JobDirectory, reply: Reply, result_size: int = 0) -> Ending:
    """Keep the reply to an asynchronous prediction. If it is JSON of up to `result_size` bytes its
    record has it too."""
    output = None
    try:
        with open(place.result, "wb", opener=_private) as file:
            _write(reply, file)
            size = file.tell()
        if reply.headers is None and not reply.code and size <= result_size:
            output = place.result.read_text()
    except OSError as error:
        return _without_room(place, error)
    return _ending(reply, output)


class _NoRoomError(OSError):
    """An item of a stream could not be written; its text says why."""


def _write_item(file: FileIO, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[file.write(view) :]
    except OSError as error:
        raise _NoRoomError(error.errno, error.strerror) from None


def _without_room(place: JobDirectory, error: OSError) -> Ending:
    """The end of a prediction whose result could not be written."""
    with contextlib.suppress(OSError):
        os.truncate(place.result, 0)  # the record of the end needs some room too
    reason = f"There is no room for the result: {error.strerror}"
    logger.error("%s", reason)
    return _ending(Reply(StorageError.status, reason=reason, code=StorageError.code))


def _ending(reply: Reply, output: str | None = None, *, is_stream: bool = False) -> Ending:
    answer = {
        "status": reply.status,
        "headers": dict(reply.headers) if reply.headers is not None else None,
        "reason": reply.reason,
        "code": reply.code,
        "is_stream": is_stream,
    }
    status = "error" if reply.code or reply.status >= 400 else "done"
    return Ending(status, reply.reason, output=output, answer=json.dumps(answer))


def _write(reply: Reply, file: BinaryIO) -> None:
    if reply.fd < 0:
        file.write(reply.body)
        return
    with open(reply.fd, "rb") as source:
        source.seek(0)
        shutil.copyfileobj(source, file)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
