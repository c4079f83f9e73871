"""`/v2/health/`: whether the server lives, and whether every model can answer now."""

from __future__ import annotations

from aiohttp import web

from deepaas.api.answers import json_answer
from deepaas.api.app import App


async def live(request: web.BaseRequest, app: App) -> web.Response:
    return json_answer({"status": "live"})


async def ready(request: web.BaseRequest, app: App) -> web.Response:
    """200 if every model can answer, else 503; why not stands with each model."""
    models = {
        name: {"ready": pool.ready, "problem": pool.problem or None, "pids": pool.pids}
        for name, pool in app.pools.items()
    }
    everyone = all(pool.ready for pool in app.pools.values())
    answer = {"status": "ready" if everyone else "not ready", "models": models}
    return json_answer(answer, 200 if everyone else 503)
