"""`/v2/models/`: the served models and their metadata."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from aiohttp import web

from deepaas.api.app import App
from deepaas.http.request import Request
from deepaas.http.responses import json_response
from deepaas.model.v2.wrapper import unloaded_metadata
from deepaas.serving.pool import Pool


def _metadata(base: str, pool: Pool) -> dict[str, Any]:
    metadata = pool.description.get("metadata") or unloaded_metadata(
        pool.name, bool(pool.status.phase)
    )
    path = f"{base}/v2/models/{quote(pool.name, safe='')}"
    links = {"links": [{"rel": "self", "href": path}]}
    described = {"id": metadata["id"], "name": metadata["name"]} | links | metadata
    if pool.status.problem:
        described["problem"] = pool.status.problem
    if pool.description.get("metadata_problem"):
        described["metadata_problem"] = pool.description["metadata_problem"]
    weights = pool.description.get("interface", {}).get("weights")
    if weights is not None:
        described.setdefault("weights_version", weights["version"])
    return described


async def list_models(request: Request, app: App) -> web.Response:
    base = app.base_of(request)
    return json_response({"models": [_metadata(base, pool) for pool in app.visible_pools(request)]})


async def show_model(request: Request, app: App, pool: Pool) -> web.Response:
    return json_response(_metadata(app.base_of(request), pool))
