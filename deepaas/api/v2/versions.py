"""`/` and `/v2/`: the versions of the interface."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from deepaas.api.app import App
from deepaas.http.responses import json_response


def _v2(app: App) -> dict[str, Any]:
    href = f"{app.settings.base_path}/v2/"
    return {
        "version": "stable",
        "id": "v2",
        "links": [{"rel": "self", "type": "application/json", "href": href}],
    }


async def show_v2(request: web.BaseRequest, app: App) -> web.Response:
    return json_response(_v2(app))


async def list_versions(request: web.BaseRequest, app: App) -> web.Response:
    base = app.settings.base_path
    page = {"rel": "help", "type": "text/html", "href": f"{base}/api"}
    description = {
        "rel": "describedby",
        "type": "application/json",
        "href": f"{base}/swagger.json",
    }
    links = [page, description] if app.settings.doc else [description]
    return json_response({"versions": [_v2(app)], "links": links})
