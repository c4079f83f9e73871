"""Asynchronous predictions: `Prefer: respond-async` starts one, `.../jobs/` has their records."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator

import orjson
from aiohttp import web

from deepaas.api.app import App
from deepaas.api.replies import response_from_reply
from deepaas.api.unknown import warn
from deepaas.api.v2.records import record_url, status_of, trainings_of, view
from deepaas.api.v2.submit import Accepted, submit
from deepaas.exceptions import NotFinishedError, NotFoundError, StreamFailedError, WorkerDiedError
from deepaas.http.request import Request
from deepaas.http.responses import (
    CHUNK,
    JSON_HEADERS,
    FileResponse,
    StreamedResponse,
    error_response,
    json_response,
)
from deepaas.model.v2.exchange import Reply
from deepaas.serving.pool import Pool

KIND = "predict"
PREFERENCE = "respond-async"


def is_preferred(request: web.BaseRequest) -> bool:
    """Return whether the client prefers not to wait for its prediction (RFC 7240)."""
    if "Prefer" not in request.headers:  # the usual case
        return False
    preferences = ",".join(request.headers.getall("Prefer", [])).lower().split(",")
    return any(one.partition(";")[0].strip() == PREFERENCE for one in preferences)


async def begin(request: Request, app: App, pool: Pool) -> web.StreamResponse:
    """Start or queue a prediction, and return 202 with the address of its record."""
    accepted = await submit(request, app, pool, KIND)
    if not isinstance(accepted, Accepted):
        return accepted
    base = app.base_of(request)
    answer = json_response(view(app, accepted.record, base), 202)
    answer.headers["Location"] = record_url(base, accepted.record)
    answer.headers["Preference-Applied"] = PREFERENCE
    warn(answer, accepted.unknown)
    return answer


async def result(request: web.BaseRequest, app: App, pool: Pool, uuid: str) -> web.StreamResponse:
    """Return the response that the client would have received if it had waited."""
    trainings = trainings_of(app, KIND)
    record = await trainings.get(pool.name, KIND, uuid)
    if not record.has_ended:
        raise NotFinishedError(f"The prediction is still {status_of(record)}")
    if record.status == "cancelled":
        raise NotFinishedError("The prediction was cancelled")
    if not record.answer:  # its process has died
        return error_response(500, WorkerDiedError.code, record.message)
    kept = orjson.loads(record.answer)
    headers, reason, code = kept.get("headers"), kept.get("reason", ""), kept.get("code", "")
    if code and not kept.get("is_stream"):
        return error_response(kept["status"], code, reason, headers)
    try:
        fd = os.open(trainings.place(record.uuid).result, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFoundError(f"The result of {record.uuid} no longer exists") from None
    file = io.FileIO(fd, "rb")
    if code:
        broken = StreamedResponse(_broken_stream(fd, reason, code), headers)
        broken.keep(file)
        return broken
    with file:
        if os.fstat(fd).st_size > CHUNK:
            return FileResponse(os.dup(fd), kept["status"], headers or JSON_HEADERS)
        return response_from_reply(Reply(kept["status"], os.pread(fd, CHUNK, 0), headers))


async def _broken_stream(fd: int, reason: str, code: str) -> AsyncIterator[bytes]:
    """Yield the items that a model has yielded, then raise its error."""
    position = 0
    while data := await asyncio.to_thread(os.pread, fd, CHUNK, position):
        position += len(data)
        yield data
    raise StreamFailedError(reason, code)
