"""Asynchronous predictions: `Prefer: respond-async` begins one, `.../jobs/` has them."""

from __future__ import annotations

import os

import orjson
from aiohttp import web

from deepaas.api.answers import FileAnswer, error_answer, json_answer
from deepaas.api.app import App
from deepaas.api.v2.records import record_url, trainings_of, view
from deepaas.api.v2.submit import submit
from deepaas.exceptions import NotFinishedError, NotFoundError
from deepaas.serving.pool import Pool
from deepaas.training.store import Record

KIND = "predict"
PREFERENCE = "respond-async"


def is_preferred(request: web.BaseRequest) -> bool:
    """Whether the client does not want to wait for its prediction (RFC 7240)."""
    preferences = ",".join(request.headers.getall("Prefer", [])).lower().split(",")
    return any(one.partition(";")[0].strip() == PREFERENCE for one in preferences)


async def begin(request: web.BaseRequest, app: App, pool: Pool) -> web.StreamResponse:
    """Begin a prediction, or let it wait for its turn: 202, and where its record is."""
    accepted = await submit(request, app, pool, KIND)
    if not isinstance(accepted, Record):
        return accepted
    answer = json_answer(view(app, accepted), 202)
    answer.headers["Location"] = record_url(app, accepted)
    answer.headers["Preference-Applied"] = PREFERENCE
    return answer


async def result(request: web.BaseRequest, app: App, pool: Pool, uuid: str) -> web.StreamResponse:
    """The answer that the prediction would have had, had the client waited for it."""
    trainings = trainings_of(app, KIND)
    record = await trainings.get(pool.name, KIND, uuid)
    if not record.has_ended:
        raise NotFinishedError(f"The prediction is {view(app, record)['status']} still")
    if record.status == "cancelled":
        raise NotFinishedError("The prediction was cancelled")
    answer = orjson.loads(record.answer) if record.answer else {}
    if record.status == "error":
        code = answer.get("code") or "worker_died"
        return error_answer(answer.get("status", 500), code, record.message)
    try:
        fd = os.open(trainings.place(record.uuid).result, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFoundError(f"The result of {record.uuid} is there no more") from None
    file = FileAnswer(fd, answer["status"], answer["headers"])
    await file.send(request, app.settings.send_timeout)
    return file
