"""`/` and `/v2/`: the versions of the interface."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from deepaas.api.app import App
from deepaas.http.request import Request
from deepaas.http.responses import json_response


def _v2(base: str) -> dict[str, Any]:
    href = f"{base}/v2/"
    return {
        "version": "stable",
        "id": "v2",
        "links": [{"rel": "self", "type": "application/json", "href": href}],
    }


async def show_v2(request: Request, app: App) -> web.Response:
    return json_response(_v2(app.base_of(request)))


async def list_versions(request: Request, app: App) -> web.Response:
    base = app.base_of(request)
    page = {"rel": "help", "type": "text/html", "href": f"{base}/api"}
    description = {
        "rel": "describedby",
        "type": "application/json",
        "href": f"{base}/swagger.json",
    }
    links = [page, description] if app.settings.doc else [description]
    return json_response({"versions": [_v2(base)], "links": links})
