"""CORS: lets the pages of allowed web sites read the responses of this server."""

from __future__ import annotations

import re

from aiohttp import hdrs, web

from deepaas.http.middleware import FastHooks, Next
from deepaas.http.request import Request
from deepaas.http.responses import header_lines
from deepaas.http.routing import Route

METHODS = "GET, HEAD, POST, DELETE, OPTIONS"

EXPOSED = (
    "Allow, Content-Disposition, Location, Preference-Applied, Retry-After, Server-Timing, "
    "Warning, WWW-Authenticate, X-Log-Offset, X-Request-ID"
)
"""The headers of responses that a page may read, besides those that it may always read."""

PREFLIGHT_SECONDS = 600
"""How long a browser may remember that it may send requests here."""

_HEADER_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]{1,1000}")


class Cors:
    """A middleware that allows the pages of `origins` to read responses.

    Each origin is in the form in which browsers send it. Pages of other sites still get responses
    that they cannot read; `CheckSite` refuses those of their requests that change something.
    """

    def __init__(self, origins: frozenset[str]) -> None:
        self._origins = origins

    async def __call__(self, request: Request, route: Route, next: Next) -> web.StreamResponse:
        headers = self._headers(request)
        is_preflight = (
            request.method == hdrs.METH_OPTIONS
            and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
            and hdrs.ACCESS_CONTROL_ALLOW_ORIGIN in headers
        )
        if is_preflight:
            return web.Response(status=204, headers=headers | _preflight(request))
        answer = await next(request)
        for name, value in headers.items():
            answer.headers.add(name, value)
        return answer

    def fast(self, request: Request) -> FastHooks:
        return FastHooks(headers=header_lines(self._headers(request)), reads=("origin",))

    def _headers(self, request: Request) -> dict[str, str]:
        origin = request.headers.get(hdrs.ORIGIN, "")
        headers: dict[str, str] = {"Vary": "Origin"}
        if origin.lower() in self._origins:
            headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = EXPOSED
            headers["Timing-Allow-Origin"] = origin  # for PerformanceResourceTiming
        return headers


def _preflight(request: Request) -> dict[str, str]:
    headers: dict[str, str] = {
        hdrs.ACCESS_CONTROL_ALLOW_METHODS: METHODS,
        hdrs.ACCESS_CONTROL_MAX_AGE: str(PREFLIGHT_SECONDS),
    }
    wanted = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, "")
    if _HEADER_NAMES.fullmatch(wanted):
        headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = wanted
    return headers
