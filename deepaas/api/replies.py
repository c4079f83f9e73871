"""Turns the replies of workers into HTTP responses."""

from __future__ import annotations

from aiohttp import web

from deepaas.api.unknown import warn
from deepaas.http.responses import (
    JSON_HEADERS,
    FileResponse,
    JSONResponse,
    StreamedResponse,
    WholeResponse,
    error_response,
)
from deepaas.model.v2.exchange import Reply


def response_from_reply(reply: Reply) -> web.StreamResponse:
    """Return the response for a worker's reply."""
    answer = _response_of(reply)
    if reply.unknown is not None:
        warn(answer, reply.unknown)
    return answer


def _response_of(reply: Reply) -> web.StreamResponse:
    if reply.code:
        return error_response(reply.status, reply.code, reply.reason, reply.headers)
    if reply.fd >= 0:
        return FileResponse(reply.fd, reply.status, reply.headers or JSON_HEADERS)
    if reply.stream is not None:
        return StreamedResponse(reply.stream, reply.headers or JSON_HEADERS)
    if reply.is_plain:
        return JSONResponse(reply.body)
    return WholeResponse(reply.body, reply.status, reply.headers or JSON_HEADERS)
