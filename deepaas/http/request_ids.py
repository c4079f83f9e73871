"""Request ids: a client's, a proxy's, or one that this server makes."""

from __future__ import annotations

import itertools
import re
import secrets

from aiohttp import web
from multidict import istr

from deepaas.http.fast_path import FastRequest
from deepaas.http.middleware import FastHooks, Next
from deepaas.http.request import Request
from deepaas.http.responses import ErrorResponse
from deepaas.http.routing import Route

HEADER = istr("X-Request-ID")
_SANE = re.compile(r"[A-Za-z0-9._~:/+=@-]{1,128}")

_prefix = secrets.token_hex(8)
_numbers = itertools.count(1)


def new_request_id() -> str:
    """Return an id that no other request has: a random number for this process, and a counter."""
    return f"{_prefix}-{next(_numbers):x}"


def add_request_id(answer: web.StreamResponse, request_id: str) -> None:
    """Add the id of its request to a response, and to the JSON of an error."""
    answer.headers[HEADER] = request_id
    if isinstance(answer, ErrorResponse):
        answer.add_request_id(request_id)


class RequestIds:
    """A middleware that gives each request an id, and sends it back.

    The id is in the header X-Request-ID of the response, and in the JSON of an error.

    The id is that of the request's own header X-Request-ID, if it has 1 to 128 letters, digits and
    `._~:/+=@-`. Otherwise it is a new one.
    """

    async def __call__(self, request: Request, route: Route, next: Next) -> web.StreamResponse:
        request.request_id = request.request_id or _given(request) or new_request_id()
        answer = await next(request)
        add_request_id(answer, request.request_id)
        return answer

    def fast(self, request: Request) -> FastHooks:
        given = _given(request)

        def begin(fast: FastRequest) -> bool:
            fast.request_id = given or new_request_id()
            return True

        return FastHooks(begin, _header)


def _given(request: Request) -> str:
    """Return the id that the client sent, or "" if it has sent none, several, or an unusual one."""
    values = request.headers.getall(HEADER, ())
    return values[0] if len(values) == 1 and _SANE.fullmatch(values[0]) else ""


def _header(fast: FastRequest) -> bytes:
    return b"X-Request-ID: %b\r\n" % fast.request_id.encode()
