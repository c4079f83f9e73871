"""The description of the interface in Swagger 2.0, made from the routes."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

import deepaas
from deepaas.api import operation_parts, record_operations
from deepaas.api.app import App
from deepaas.api.operation_parts import Json
from deepaas.http.request import Request
from deepaas.http.responses import json_response
from deepaas.http.routing import Route


async def show(request: Request, app: App) -> web.StreamResponse:
    return json_response(describe(app, app.routes))


def describe(app: App, routes: Iterable[Route]) -> Json:
    """Return the whole description, with the current models."""
    definitions: Json = operation_parts.DEFINITIONS | record_operations.DEFINITIONS
    paths: Json = {}
    for route in routes:
        described = route.operation(definitions)
        if described is not None:
            path = app.settings.base_path + route.path.replace("*}", "}")
            paths.setdefault(path, {})[route.method.lower()] = described
    return {
        "swagger": "2.0",
        "info": {
            "title": "DEEP as a Service API endpoint",
            "version": deepaas.__version__,
            "description": f"Models served here: {', '.join(app.pools)}",
        },
        "paths": paths,
        "definitions": definitions,
    }
