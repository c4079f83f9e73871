"""`/v2/health/`: whether the server runs, and whether every model can answer now."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from deepaas.api.app import App
from deepaas.http.request import Request
from deepaas.http.responses import json_response
from deepaas.serving.pool import Pool


async def live(request: web.BaseRequest, app: App) -> web.Response:
    return json_response({"status": "live"})


async def ready(request: Request, app: App) -> web.Response:
    """Return 200 if every model can answer, else 503 with the reason for each model.

    If a client has not signed in but would have to, the response has no models.
    """
    visible = app.visible_pools(request)
    models = {pool.name: _state(pool) for pool in visible}
    concerned = app.pools.values() if request.principal is None else visible
    everyone = all(pool.status.is_ready for pool in concerned)
    answer = {"status": "ready" if everyone else "not ready", "models": models}
    return _answer(answer, everyone)


async def model_ready(request: web.BaseRequest, app: App, pool: Pool) -> web.Response:
    """Return 200 if this model can answer, else 503 with the reason."""
    return _answer({"name": pool.name, **_state(pool)}, pool.status.is_ready)


def _state(pool: Pool) -> dict[str, Any]:
    return {
        "ready": pool.status.is_ready,
        "phase": pool.status.phase or None,
        "problem": pool.status.problem or None,
        "reload_problem": pool.reload_problem or None,
        "metadata_problem": pool.description.get("metadata_problem") or None,
        "pids": pool.pids,
    }


def _answer(state: dict[str, Any], is_ready: bool) -> web.Response:
    answer = json_response(state, 200 if is_ready else 503)
    if not is_ready:
        answer.headers["Retry-After"] = "1"
    return answer
