"""`POST /v2/models/<name>/train/`: starts a training."""

from __future__ import annotations

from aiohttp import web

from deepaas.api.app import App
from deepaas.api.unknown import warn
from deepaas.api.v2.records import view
from deepaas.api.v2.submit import Accepted, submit
from deepaas.exceptions import DisabledError, NotImplementedByModelError
from deepaas.http.request import Request
from deepaas.http.responses import json_response
from deepaas.model.v2.exchange import NOT_IMPLEMENTED
from deepaas.serving.pool import Pool


async def train(request: Request, app: App, pool: Pool) -> web.StreamResponse:
    """Start or queue a training, and return its record."""
    if not app.settings.train:
        raise DisabledError("Training is switched off on this server")
    if "train" not in pool.description.get("has", ["train"]):
        raise NotImplementedByModelError(f"{NOT_IMPLEMENTED} (loaded {pool.name!r})")
    accepted = await submit(request, app, pool, "train")
    if not isinstance(accepted, Accepted):
        return accepted
    answer = json_response(view(app, accepted.record, app.base_of(request)))
    warn(answer, accepted.unknown)
    return answer
