"""`/v2/models/<name>/predict/`."""

from __future__ import annotations

from aiohttp import web

from deepaas.api.answers import FileAnswer, reply_answer
from deepaas.api.app import App
from deepaas.api.body import read_call
from deepaas.api.files import RequestFiles
from deepaas.exceptions import DisabledError, NotImplementedByModelError
from deepaas.model.v2.exchange import NOT_IMPLEMENTED
from deepaas.serving.pool import Pool


async def predict(request: web.BaseRequest, app: App, pool: Pool) -> web.StreamResponse:
    if not app.settings.predict:
        raise DisabledError("Prediction is switched off on this server")
    if "predict" not in pool.description.get("has", ["predict"]):
        raise NotImplementedByModelError(f"{NOT_IMPLEMENTED} (loaded {pool.name!r})")
    limits = app.settings.limits
    with RequestFiles(limits.directory) as files:
        call = await read_call(request, pool.headers, limits, files)
        answer = reply_answer(request, await pool.predict(call))
        if isinstance(answer, FileAnswer):
            await answer.send(request)
        return answer
