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
_NAME = HEADER.lower()
_SANE = re.compile(rb"[A-Za-z0-9._~:/+=@-]{1,128}")

_prefix = secrets.token_hex(8).encode()
_numbers = itertools.count(1)


def new_request_id() -> str:
    """Return an id that no other request has: a random number for this process, and a counter."""
    return _new().decode()


def _new() -> bytes:
    return b"%b-%x" % (_prefix, next(_numbers))


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
        begin = _begin_with_given if HEADER in request.headers else _begin
        return FastHooks(begin, _header, reads=())  # it reads the id of each request


def _begin(fast: FastRequest) -> bool:
    fast.request_id = _new()
    return True


def _begin_with_given(fast: FastRequest) -> bool:
    given = fast.known.values[fast.head.names.index(_NAME)].strip()
    fast.request_id = given if _SANE.fullmatch(given) else _new()
    return True


def _given(request: Request) -> str:
    """Return the id that the client sent, or "" if it has sent none, several, or an unusual one."""
    match request.headers.getall(HEADER, []):
        case [value] if _SANE.fullmatch(value.encode("utf-8", "surrogateescape")):
            return value
    return ""


def _header(fast: FastRequest) -> bytes:
    return b"X-Request-ID: %b\r\n" % fast.request_id
