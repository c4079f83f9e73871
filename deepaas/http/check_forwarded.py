"""A middleware for the requests of trusted proxies."""

from __future__ import annotations

from aiohttp import hdrs, web

from deepaas.http.forwarded import NAMES, READS
from deepaas.http.middleware import FastHooks, Next
from deepaas.http.request import Request
from deepaas.http.routing import Route

_VARY = ", ".join(NAMES)


class CheckForwarded:
    """Refuses malformed headers of a trusted proxy, and tells caches that responses depend on them.

    It changes nothing for other clients.
    """

    async def __call__(self, request: Request, route: Route, next: Next) -> web.StreamResponse:
        if not request.is_from_proxy:
            return await next(request)
        _ = request.public_address  # raises BadRequestError
        answer = await next(request)
        if request.method in (hdrs.METH_GET, hdrs.METH_HEAD):
            answer.headers.add(hdrs.VARY, _VARY)
        return answer

    def fast(self, request: Request) -> FastHooks:
        return FastHooks(reads=READS if request.is_from_proxy else ())
