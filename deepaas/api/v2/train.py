"""`/v2/models/<name>/train/`: says why there is no training here."""

from __future__ import annotations

from aiohttp import web

from deepaas.api.app import App
from deepaas.exceptions import DisabledError, NotImplementedByModelError
from deepaas.model.v2.exchange import NOT_IMPLEMENTED
from deepaas.serving.pool import Pool


async def train(request: web.BaseRequest, app: App, pool: Pool) -> web.StreamResponse:
    if not app.settings.train:
        raise DisabledError("Training is switched off on this server")
    if "train" in pool.description.get("has", []):
        raise NotImplementedByModelError("This version of the server does not train models")
    raise NotImplementedByModelError(f"{NOT_IMPLEMENTED} (loaded {pool.name!r})")
