"""The fast path: for requests whose head has come before, except for the values of some headers.

For a small request, parsing and making objects takes most of the server's time. Frequent clients
send the same request line and headers again and again. So the server caches each head that aiohttp
has parsed and whose handler asked for it, without the values of the headers that `varying.py`
lists. When the same head arrives again, together with the whole body, it means the same, and the
body goes directly to the target that the handler gave, such as a worker. The response is written
when the target answers.

Everything else takes the normal path, through aiohttp: other requests, requests that arrive in
pieces or pipelined, and answers that are not plain JSON.

This module defines the interface; `connection.py` uses it, and `deepaas/api` has the targets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from aiohttp import HttpVersion11, hdrs, web

from deepaas.context import TRACE_HEADERS
from deepaas.events import Times
from deepaas.http import varying
from deepaas.http.middleware import FastHooks, MakeHooks
from deepaas.http.request import Request

if TYPE_CHECKING:
    from deepaas.http.body import BodyLimits
    from deepaas.http.connection import Connection
    from deepaas.http.principal import Principal

MAX_HEADS = 1024
MAX_HEAD = 4096
MAX_BODY = 64 * 1024
"""Bytes; a larger request gains little."""

MAX_DIGITS = 9  # of a Content-Length

_LENGTH = re.compile(rb"\r\ncontent-length: ?(\d{1,9})\r\n", re.IGNORECASE)
_NOT_SIMPLE = (hdrs.TRANSFER_ENCODING, hdrs.EXPECT, hdrs.UPGRADE, hdrs.CONTENT_ENCODING)


class FastTarget(Protocol):
    """What the requests with one head lead to.

    `reads` are the headers, in lower case, whose values it has taken from the head.
    """

    @property
    def reads(self) -> Collection[str]: ...

    def new_request(self, connection: Connection, known: KnownHead, data: bytes) -> FastRequest:
        """Return a request with this head; all its bytes are `data`."""
        ...


class FastRequest(Protocol):
    """A request on the fast path.

    `head` is that of `known`, `data` are all its bytes, and `began` is when it arrived, on the
    clock of `time.monotonic`. The middleware sets `request_id`. `times` are the parts of its time,
    if they are known.
    """

    known: KnownHead
    head: CachedHead
    data: bytes
    began: float
    request_id: bytes

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
    """The meaning of the head of a request. `principal` is the client, if it has signed in.

    `names` are its headers whose values may differ, in lower case and in their order. `fixed` are
    the numbers of those that may not differ here, with their values.
    """

    target: FastTarget
    names: Sequence[str]
    fixed: Sequence[tuple[int, bytes]]
    length_at: int  # the number of Content-Length in `names`
    trace_at: Sequence[int]  # the numbers of TRACE_HEADERS, -1 if one is missing; or none
    path: str  # its target as logs may show it
    model: str
    agent: str
    begin: Sequence[Callable[[FastRequest], bool]]
    end: Sequence[Callable[[FastRequest], bytes]]
    headers: bytes  # lines of every response
    principal: Principal | None = None

    def admits(self, values: Sequence[bytes]) -> bool:
        """Return whether a request with these values has the meaning of this head."""
        return all(values[number] == value for number, value in self.fixed)


@dataclass(slots=True)
class KnownHead:
    """The head of a connection's latest request on the fast path: its bytes and its meaning.

    `values` are those of `head.names`. `trace` are those of TRACE_HEADERS, each after a line end,
    or nothing if the head has none of them.
    """

    raw: bytes
    size: int  # of the whole request
    head: CachedHead
    values: Sequence[bytes]
    trace: bytes


class FastLimits(NamedTuple):
    """How many bytes the head and the body of a request on the fast path may have.

    Since the values of some headers may differ, a known head does not show that the limits of the
    normal path allow a request. So these limits are not larger, whatever the type of the body.
    """

    head: int
    body: int

    @classmethod
    def of(cls, limits: BodyLimits) -> FastLimits:
        head = min(MAX_HEAD, limits.head or MAX_HEAD)
        return cls(head, min([MAX_BODY, *filter(None, (limits.size, limits.json))]))


def known_head(
    data: bytes, heads: Mapping[bytes, CachedHead], limits: FastLimits
) -> KnownHead | None:
    """Return the head of a request that has arrived with its whole body, if it is in `heads` and
    the request is within the limits."""
    end = data.find(b"\r\n\r\n") + 4
    if not (3 < end <= limits.head and len(data) - end <= limits.body):
        return None
    raw = data[:end]
    key, values = varying.without_values(raw)
    head = heads.get(key)
    if head is None or (head.fixed and not head.admits(values)):
        return None
    length = values[head.length_at]
    if not (length.isdigit() and len(length) <= MAX_DIGITS and len(data) - end == int(length)):
        return None
    trace = b"".join([b"\n" + (values[at] if at >= 0 else b"") for at in head.trace_at])
    return KnownHead(raw, len(data), head, values, trace)


def head_for(
    request: Request, raw: bytes, target: FastTarget, makers: Sequence[MakeHooks]
) -> CachedHead | None:
    """Return the meaning of a head, whose bytes are `raw`, or None if it must not be cached."""
    headers = request.headers
    length = request.content_length
    names = varying.names_in(raw)
    if (
        raw != head_of(request)
        or length is None
        or "content-length" not in names
        or len(names) != len(set(names))
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
    trace_at = [names.index(name) if name in names else -1 for name in TRACE_HEADERS]
    return CachedHead(
        target=target,
        names=names,
        fixed=_fixed(raw, names, [target.reads, *(hook.reads for hook in hooks)]),
        length_at=names.index("content-length"),
        trace_at=trace_at if max(trace_at) >= 0 else (),
        path=request.target,
        model=request.route.model if request.route is not None else "",
        agent=headers.get(hdrs.USER_AGENT, "-"),
        begin=[hook.begin for hook in hooks if hook.begin is not None],
        end=[hook.end for hook in hooks if hook.end is not None],
        headers=b"".join(hook.headers for hook in hooks),
        principal=request.principal,
    )


def _fixed(
    raw: bytes, names: Sequence[str], reads: Sequence[Collection[str] | None]
) -> list[tuple[int, bytes]]:
    """Return the values that may not differ, because the meaning of the head depends on them."""
    _, values = varying.without_values(raw)
    known = [None if read is None else {one.lower() for one in read} for read in reads]
    return [
        (number, value)
        for number, (name, value) in enumerate(zip(names, values, strict=True))
        if name != "content-length" and any(read is None or name in read for read in known)
    ]


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
