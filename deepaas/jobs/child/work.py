"""Calls the model in the process of a job and stores the result."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Generator, Mapping
from dataclasses import replace
from io import FileIO
from types import GeneratorType
from typing import Any, BinaryIO

from deepaas import exact_json
from deepaas.exceptions import StorageError
from deepaas.jobs.spec import JobDirectory, JobLimits
from deepaas.jobs.store import Ending
from deepaas.log import get_logger
from deepaas.model.v2.exchange import Call, Reply
from deepaas.model.v2.failures import let_go, reply_to
from deepaas.model.v2.invocation import Invocation, Runtime, Stream
from deepaas.model.v2.json_encoder import to_plain
from deepaas.model.v2.results import UnusableResultError, to_json
from deepaas.protocol.call_files import write_private

logger = get_logger("deepaas.training")

OUTPUT = "output.json"
"""The artefact that holds the return value of train if it is too large for the record."""


class Work:
    """The model and the files of a job, and how many bytes of a result its record may hold."""

    def __init__(self, invocation: Invocation, place: JobDirectory, limits: JobLimits) -> None:
        self.invocation = invocation
        self.place = place
        self.result_size = limits.result_size
        self.max_batch_size = limits.max_batch_size

    @property
    def runtime(self) -> Runtime:
        return self.invocation.runtime


def train(work: Work, arguments: Mapping[str, Any]) -> Ending:
    """Call `train` and return how it ended. If it yields items, the record holds them as a list."""
    value = work.runtime.resolve(work.invocation.function("train")(**arguments))
    if type(value) is GeneratorType:
        value = list(value)
    message = ""
    try:
        output = to_json(value).decode()
    except UnusableResultError as error:  # the training itself has succeeded
        message = f"{error}; it is shown as text"
        logger.warning("%s", message)
        output = exact_json.dumps(to_plain(value)).decode()
    if len(output) > work.result_size:
        message = _keep_output(work, output.encode())
        logger.warning("%s", message)
        output = "null"
    return Ending("done", message, output=output)


def _keep_output(work: Work, output: bytes) -> str:
    """Write the return value of train to an artefact, and return the message for the record."""
    size = len(output)
    try:
        write_private(work.place.artifacts / OUTPUT, output)
    except OSError as error:  # the training itself has succeeded
        return f"There is no room for the {size} bytes that train returned: {error.strerror}"
    return f"The return value of train has {size} bytes: see the artefact {OUTPUT}"


def predict(work: Work, arguments: Mapping[str, Any], call: Call, media_type: str) -> Ending:
    """Call `predict` and store the response that a client would get."""
    value = work.invocation.predict(arguments, work.max_batch_size)
    work.runtime.end_if_forked()
    if type(value) is GeneratorType:
        return _keep_stream(work, value, work.invocation.stream_type(call, media_type))
    return keep(work.place, work.invocation.encode(value, media_type), work.result_size)


def _keep_stream(work: Work, items: Generator[Any, None, None], media_type: str) -> Ending:
    """Store the items of a stream. An error that the generator raises before its first item
    propagates."""
    stream = Stream(work.invocation, items, media_type)
    reply = Reply(headers=stream.headers)
    try:
        with open(work.place.result, "wb", buffering=0, opener=_private) as file:
            while (data := stream.next()) is not None:
                _write_item(file, data)
    except _NoRoomError as error:
        return _without_room(work.place, error)
    except BaseException as error:
        failure = failed(work.runtime, error, "predict")
        reply = replace(reply, reason=failure.reason, code=failure.code)
    finally:
        stream.close()
    return _ending(reply, is_stream=True)


def failed(runtime: Runtime, error: BaseException, what: str) -> Reply:
    """Log an error of a job, even if it is the client's, and return the reply for it."""
    let_go(error)
    runtime.end_if_forked()
    runtime.log_failure(error, what)
    return reply_to(error)


def keep(place: JobDirectory, reply: Reply, result_size: int = 0) -> Ending:
    """Store the reply to an asynchronous prediction and return how it ended.

    If the reply is JSON of up to `result_size` bytes, the record holds it too.
    """
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
    """An item of a stream could not be written; the text says why."""


def _write_item(file: FileIO, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[file.write(view) :]
    except OSError as error:
        raise _NoRoomError(error.errno, error.strerror) from None


def _without_room(place: JobDirectory, error: OSError) -> Ending:
    """Log that the result could not be written, and return that as the end of the prediction."""
    with contextlib.suppress(OSError):
        os.truncate(place.result, 0)  # the record of the end needs room too
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
