"""`/v2/models/<name>/predict/`."""

from __future__ import annotations

import asyncio
import math

from aiohttp import web

from deepaas.api.app import App
from deepaas.api.callbacks import callback_of
from deepaas.api.calls import context_of, read_call
from deepaas.api.fast_predictions import FastCall
from deepaas.api.replies import response_from_reply
from deepaas.api.v2 import jobs
from deepaas.exceptions import (
    BadRequestError,
    DisabledError,
    NotImplementedByModelError,
    PredictTimeoutError,
)
from deepaas.http.connection import Connection
from deepaas.http.files import RequestFiles
from deepaas.http.request import Request
from deepaas.http.responses import LongResponse
from deepaas.model.v2.exchange import NOT_IMPLEMENTED
from deepaas.serving.pool import Pool
from deepaas.serving.prediction import Prediction
from deepaas.serving.times import times_of

TIMEOUT_HEADER = "X-Request-Timeout"


async def predict(request: Request, app: App, pool: Pool) -> web.StreamResponse:
    prediction: Prediction | None = _from_fast_path(request)
    if prediction is not None:
        return await _answer(request, app, pool, prediction)
    if not app.settings.predict:
        raise DisabledError("Prediction is switched off on this server")
    if "predict" not in pool.description.get("has", ["predict"]):
        raise NotImplementedByModelError(f"{NOT_IMPLEMENTED} (loaded {pool.name!r})")
    # Each header is checked whether or not it has an effect: the client means something by it.
    deadline_seconds = _deadline_seconds(request)
    callback_of(request, app.settings.callback_hosts)
    if jobs.is_preferred(request):
        return await jobs.begin(request, app, pool)
    pool.dispatcher.raise_if_unavailable()
    ends = deadline_seconds and asyncio.get_running_loop().time() + deadline_seconds
    with RequestFiles(app.limits.directory) as files:
        call = await read_call(request, pool.headers, app.limits, files)
        call.context = context_of(request)
        prediction = pool.dispatcher.predict(call, _left(ends))
        if files:
            files.keep_for(prediction)
        elif call.form is None:
            connection = request.protocol
            if isinstance(connection, Connection) and connection.can_learn():
                connection.learn(request, FastCall.of(pool, call, deadline_seconds))
        return await _answer(request, app, pool, prediction)


async def _answer(
    request: Request, app: App, pool: Pool, prediction: Prediction
) -> web.StreamResponse:
    is_needed = False
    try:
        reply = await prediction.reply()
        if app.settings.server_timing or app.kernel.events.request_ended.listeners:
            request.times = times_of(prediction.submitted, reply.measured)
        app.unknown.note(pool.name, "predict", reply.unknown)
        answer = response_from_reply(reply)
        if isinstance(answer, LongResponse):
            answer.keep(prediction)
            is_needed = True
        return answer
    finally:
        if not is_needed:
            prediction.close()


def _from_fast_path(request: Request) -> Prediction | None:
    """Return the prediction if the fast path has made it already."""
    connection = request.protocol
    fast = connection.take_fast_request() if isinstance(connection, Connection) else None
    return fast if isinstance(fast, Prediction) else None


def _deadline_seconds(request: Request) -> float:
    """Return how many seconds the client will wait; 0 without the header."""
    text = request.headers.get(TIMEOUT_HEADER)
    if text is None:
        return 0.0
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not (seconds > 0 and math.isfinite(seconds)):
        raise BadRequestError(f"{TIMEOUT_HEADER} must be a number of seconds above 0")
    return seconds


def _left(ends: float) -> float:
    if not ends:
        return 0.0
    left = ends - asyncio.get_running_loop().time()
    if left <= 0:
        raise PredictTimeoutError(f"The request took longer to arrive than {TIMEOUT_HEADER} allows")
    return left
