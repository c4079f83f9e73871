"""The fast path: for requests whose head has come before, byte for byte.

For a small request, parsing and making objects takes most of the server's time. Frequent clients
send the same request line and headers again and again, with bodies of the same length. So the
server caches each head that aiohttp has parsed and whose handler asked for it. When exactly these
bytes arrive again, together with the whole body, they mean the same, and the body goes directly to
the target that the handler gave, such as a worker. The response is written when the target answers.

Everything else takes the normal path, through aiohttp: other requests, requests that arrive in
pieces or pipelined, and answers that are not plain JSON.

This module defines the interface; `connection.py` uses it, and `deepaas/api` has the targets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from aiohttp import HttpVersion11, hdrs, web

from deepaas.events import Times
from deepaas.http.middleware import FastHooks, MakeHooks
from deepaas.http.request import Request

if TYPE_CHECKING:
    from deepaas.http.connection import Connection
    from deepaas.http.principal import Principal

MAX_HEADS = 1024
MAX_HEAD = 4096
MAX_BODY = 64 * 1024
"""Bytes; a larger request gains little."""

_LENGTH = re.compile(rb"\r\ncontent-length: ?(\d{1,9})\r\n", re.IGNORECASE)
_NOT_SIMPLE = (hdrs.TRANSFER_ENCODING, hdrs.EXPECT, hdrs.UPGRADE, hdrs.CONTENT_ENCODING)


class FastTarget(Protocol):
    """What the requests with one head lead to."""

    def new_request(self, connection: Connection, head: CachedHead, data: bytes) -> FastRequest:
        """Return a request whose bytes are `data`."""
        ...


class FastRequest(Protocol):
    """A request on the fast path.

    `data` are all its bytes, and `began` is when it arrived, on the clock of `time.monotonic`. The
    middleware sets `request_id`. `times` are the parts of its time, if they are known.
    """

    head: CachedHead
    data: bytes
    began: float
    request_id: str

    @property
    def times(self) -> Times | None: ...

    def begin(self, end: int) -> bool:
        """Begin the work; the body is `data[end:]`. Return False if that is not possible now.

        Afterwards the request calls `respond` or `fall_back` of its connection, once.
        """
        ...

    def close(self) -> None:
        """Abandon the request: its client has gone, or the normal path does not answer it."""
        ...


@dataclass(frozen=True)
class CachedHead:
    """The meaning of the head of a request. `principal` is the client, if it has signed in."""

    target: FastTarget
    length: int  # of the body
    path: str  # its target as logs may show it
    model: str
    agent: str
    begin: Sequence[Callable[[FastRequest], bool]]
    end: Sequence[Callable[[FastRequest], bytes]]
    headers: bytes  # lines of every response
    principal: Principal | None = None


def head_for(
    request: Request, raw: bytes, target: FastTarget, makers: Sequence[MakeHooks]
) -> CachedHead | None:
    """Return the meaning of a head, whose bytes are `raw`, or None if it must not be cached."""
    headers = request.headers
    length = request.content_length
    if (
        raw != head_of(request)
        or length is None
        or length > MAX_BODY
        or request.version != HttpVersion11
        or not request.keep_alive
        or any(name in headers for name in _NOT_SIMPLE)
    ):
        return None
    hooks: list[FastHooks] = []
    for make in makers:
        hook = make(request)
        if hook is None:
            return None
        hooks.append(hook)
    return CachedHead(
        target=target,
        length=length,
        path=request.target,
        model=request.route.model if request.route is not None else "",
        agent=headers.get(hdrs.USER_AGENT, "-"),
        begin=[hook.begin for hook in hooks if hook.begin is not None],
        end=[hook.end for hook in hooks if hook.end is not None],
        headers=b"".join(hook.headers for hook in hooks),
        principal=request.principal,
    )


def length_in(head: bytes) -> int:
    """Return the Content-Length in the bytes of a head, or -1 if it is not known where the body
    ends."""
    if b"transfer-encoding" in head.lower():
        return -1
    lengths = _LENGTH.findall(head)
    if len(lengths) > 1 or (not lengths and b"content-length" in head.lower()):
        return -1
    return int(lengths[0]) if lengths else 0


def head_of(request: web.BaseRequest) -> bytes:
    """Return the bytes of a request's head if it has the usual form: one blank after each colon."""
    target = request.raw_path.encode("utf-8", "surrogateescape")
    lines = [b"%b: %b\r\n" % (name, value) for name, value in request.raw_headers]
    return b"POST %b HTTP/1.1\r\n%b\r\n" % (target, b"".join(lines))
