"""What the two descriptions of the interface share: the routes they show, and the response."""

from __future__ import annotations

import functools
import gzip
import hashlib

from aiohttp import web

from deepaas import exact_json
from deepaas.api.app import App
from deepaas.api.operation_parts import Json
from deepaas.http.request import Request
from deepaas.http.responses import COMMON_HEADERS, JSON_HEADERS
from deepaas.http.routing import Access, Route

_LEAST_COMPRESSED = 1024
_HEADERS = {
    **COMMON_HEADERS,
    "Vary": "Accept-Encoding, Authorization",
    "Cache-Control": "private, no-cache",
}


TAGS = {
    "models": "All models",
    "versions": "The versions of this interface",
    "health": "Whether the server and its models work",
    "debug": "The output of the server",
    "documentation": "The descriptions of this interface",
}
"""The tags of the operations that belong to no model, with their descriptions."""


def tags_in(paths: Json) -> set[str]:
    """Return the tags of all operations."""
    return {tag for path in paths.values() for one in path.values() for tag in one.get("tags", [])}


def text_of_model(app: App, name: str) -> str:
    """Return the author's description of the model, or else its name."""
    text = app.pools[name].description.get("metadata", {}).get("description")
    return text if isinstance(text, str) and text else name


def shown_to(request: Request, app: App) -> tuple[list[Route], list[str]]:
    """Return the routes that the client may know, and the names of the models that it may use."""
    visible = [pool.name for pool in app.visible_pools(request)]
    if app.settings.authenticator is None:
        return list(app.routes), visible
    signed_in = request.principal is not None
    routes = [
        route
        for route in app.routes
        if route.model in visible or (not route.model and (signed_in or is_public(route)))
    ]
    return routes, visible


def is_public(route: Route) -> bool:
    return route.access is Access.PUBLIC


def document_response(request: Request, document: object) -> web.Response:
    """Return the document as JSON with an ETag, compressed if the client accepts gzip.

    The response is 304, without a body, if the client has the same document already.
    """
    body = exact_json.dumps(document)
    tag = hashlib.sha256(body).hexdigest()[:32]
    headers = {**_HEADERS, "ETag": f'W/"{tag}"'}
    known = request.if_none_match or ()
    if any(one.value in (tag, "*") for one in known):
        return web.Response(status=304, headers=headers)
    if len(body) >= _LEAST_COMPRESSED and accepts_gzip(request):
        body = _compressed(body)
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=body, headers={**JSON_HEADERS, **headers})


def accepts_gzip(request: Request) -> bool:
    for one in request.headers.get("Accept-Encoding", "").lower().split(","):
        name, _, quality = one.partition(";")
        if name.strip() in ("gzip", "*"):
            return quality.replace(" ", "").rstrip("0.") not in ("q=", "q")
    return False


@functools.lru_cache(maxsize=4)
def _compressed(body: bytes) -> bytes:
    return gzip.compress(body, 6, mtime=0)
