"""`/metrics`: the metrics of the server, for Prometheus."""

from __future__ import annotations

from aiohttp import web

from deepaas.api.app import App
from deepaas.http.request import Request


async def show(request: Request, app: App) -> web.StreamResponse:
    """Return the metrics. A client that is limited to some models gets only theirs."""
    assert app.metrics is not None
    return await app.metrics.respond(request, [pool.name for pool in app.visible_pools(request)])
