"""The description of the interface in Swagger 2.0, made from the routes."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

import deepaas
from deepaas.api import operation_parts, record_operations
from deepaas.api.app import App
from deepaas.api.documents import (
    TAGS,
    document_response,
    is_public,
    shown_to,
    tags_in,
    text_of_model,
)
from deepaas.api.operation_parts import Json
from deepaas.http.forwarded import UNKNOWN, PublicAddress
from deepaas.http.request import Request
from deepaas.http.routing import Route

_SCHEME = "token"
_SECURITY: Json = {
    _SCHEME: {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "The word Bearer, a blank, and the token. On this page, the token suffices.",
    }
}


async def show(request: Request, app: App) -> web.StreamResponse:
    described = describe(app, *shown_to(request, app), request.public_address)
    return document_response(request, described)


def describe(
    app: App,
    routes: Iterable[Route],
    models: Iterable[str],
    address: PublicAddress = UNKNOWN,
) -> Json:
    """Return the description of these routes, with the current state of these models.

    Clients find the paths below `address`.
    """
    models = list(models)
    signs_in = app.settings.authenticator is not None
    definitions: Json = operation_parts.DEFINITIONS | record_operations.DEFINITIONS
    paths: Json = {}
    for route in routes:
        described = route.operation(definitions)
        if described is not None:
            described.pop("function", None)  # only for OpenAPI 3.1
            requires = signs_in and not is_public(route)
            if requires:
                described["security"] = [{_SCHEME: []}]
            operation_parts.add_errors(route.method, described["responses"], signs_in=requires)
            path = app.settings.base_path + route.path.replace("*}", "}")
            paths.setdefault(path, {})[route.method.lower()] = described
    texts = "\n\n".join(f"{name}: {text_of_model(app, name)}" for name in models)
    tags = TAGS | {"models": texts or TAGS["models"]}
    used = tags_in(paths)
    security = {"securityDefinitions": _SECURITY} if signs_in else {}
    return {
        "swagger": "2.0",
        "info": {
            "title": "DEEP as a Service API endpoint",
            "version": deepaas.__version__,
            "description": f"Models served here: {', '.join(models) or 'none that you may use'}",
        },
        **_keys_of(address),
        **security,
        "tags": [{"name": tag, "description": tags[tag]} for tag in tags if tag in used],
        "paths": paths,
        "definitions": definitions,
    }


def _keys_of(address: PublicAddress) -> Json:
    """Return the keys for the public address, without those that are not known.

    Swagger 2.0 cannot express a host that is an IPv6 address. A client then uses the host from
    which it has the description.
    """
    host = "" if address.host.startswith("[") else address.host
    schemes = [address.scheme] if address.scheme else []
    keys: Json = {"host": host, "basePath": address.prefix, "schemes": schemes}
    return {key: value for key, value in keys.items() if value}
