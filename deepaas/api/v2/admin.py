"""`/v2/models/<name>/reload/`: reloads a model, if that is switched on."""

from __future__ import annotations

import asyncio

from aiohttp import web

from deepaas.api.app import App
from deepaas.api.v2.principals import log_principal
from deepaas.exceptions import DisabledError
from deepaas.http.request import Request
from deepaas.http.responses import json_response
from deepaas.serving.pool import Pool


async def reload(request: Request, app: App, pool: Pool) -> web.StreamResponse:
    """Replace the workers by new ones, even if the client disconnects."""
    if not app.settings.admin:
        raise DisabledError("Reloading is switched off on this server; see --admin-endpoint")
    log_principal(request, "reload", pool)
    reloading = asyncio.ensure_future(pool.reload())
    reloading.add_done_callback(asyncio.Future.exception)  # the client may have disconnected
    seconds = await asyncio.shield(reloading)
    workers = len(pool.pids)
    return json_response({"status": "reloaded", "workers": workers, "seconds": round(seconds, 3)})
