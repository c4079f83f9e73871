"""A client's connection, and the server that makes connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from aiohttp import web

from deepaas.events import CLIENT_CLOSED, RequestEnded
from deepaas.http.base_connection import BaseConnection, PlainConnection, address_of
from deepaas.http.fast_path import (
    MAX_HEAD,
    MAX_HEADS,
    CachedHead,
    FastLimits,
    FastRequest,
    FastTarget,
    KnownHead,
    head_for,
    known_head,
    length_in,
)
from deepaas.http.intake import Intake, UnfinishedHeads
from deepaas.http.request import Request
from deepaas.http.request_ends import RequestEnds
from deepaas.http.responses import json_bytes
from deepaas.http.unsent import PIECE, Unsent, write_in_pieces
from deepaas.http.varying import without_values

if TYPE_CHECKING:
    from aiohttp.web_protocol import RequestHandler

    from deepaas.http.kernel import Kernel


class Connection(Intake):
    """A client's connection, which tries the fast path first."""

    __slots__ = (
        "_fast_limits",
        "_head",
        "_head_timer",
        "_heads",
        "_heads_of_proxies",
        "_is_fast",
        "_known",
        "_remote",
        "_under_way",
        "_used",
        "_waits_for_rest",
        "pending",
    )

    def __init__(self, manager: HTTPServer, **kwargs: Any) -> None:
        limits = manager.kernel.settings.limits
        super().__init__(manager, limits.head, manager.unfinished, **kwargs)
        self._heads = manager.heads
        self._heads_of_proxies = manager.heads_of_proxies
        self._fast_limits = manager.fast_limits
        self._is_fast = manager.has_fast_path
        self._head = b""  # of the present request on the normal path, if it came in one piece
        self._known: KnownHead | None = None  # of the latest request on the fast path
        self._under_way: FastRequest | None = None
        self._used = 0.0  # when the last fast prediction was answered
        self._waits_for_rest = False  # whether `_held` waits until aiohttp does
        self._remote = ""
        self._head_timer: asyncio.TimerHandle | None = None
        self.pending: FastRequest | None = None  # the normal path is to answer it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._remote = address_of(transport)
        if self.is_from_proxy:
            self._heads = self._heads_of_proxies
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        if data and (self._under_way is not None or self._held):
            self.hold(data)
            return
        if not data:  # from aiohttp itself, to parse bytes that it has buffered
            pass
        elif self._left > 0:
            self._head = b""
            self._left = self._left - len(data) if len(data) <= self._left else -1
        elif self._left == 0:
            if self._heads and self._begin(data):
                return
            if data != b"\r\n":  # some clients send a line end after a body
                self._note_end(data, data.find(b"\r\n\r\n") + 4)
        self.take(data)
        if data and self._left:
            self._expect_head()

    def _expect_head(self) -> None:
        """Close the connection later if no complete head of a request has arrived."""
        seconds = self._kernel.settings.limits.receive_timeout
        if seconds and self._head_timer is None:
            so_far = self.request_count, self._used
            self._head_timer = self.loop.call_later(seconds, self._check_head, so_far)

    def _check_head(self, so_far: tuple[int, float]) -> None:
        self._head_timer = None
        idle = self._under_way is None and self.is_at_rest()
        if idle and so_far == (self.request_count, self._used):
            self.force_close()
        elif self._left:  # a part of another head may have arrived
            self._expect_head()

    def idle_since(self) -> tuple[bool, float] | None:
        if self._under_way is not None or self._held or not self.is_at_rest():
            return None
        used = bool(self._used or self.request_count)
        return used, max(self._opened, self._used, self.answered)

    def _begin(self, data: bytes) -> bool:
        """Begin a request on the fast path. Return False if that is not possible now."""
        known = self._known
        if known is None or len(data) != known.size or not data.startswith(known.raw):
            known = self._known = known_head(data, self._heads, self._fast_limits)
        if known is None or self._kernel.draining:
            return False
        if not self.is_at_rest():
            return self._begin_soon(data)
        self._waits_for_rest = False
        head = known.head
        request = head.target.new_request(self, known, data)
        for begin in head.begin:
            if not begin(request):
                self._known = None
                return False
        if not request.begin(len(known.raw)):
            self._known = None  # the next request looks for a newer meaning
            return False
        self._under_way = request
        self._kernel.active += 1
        return True

    def _begin_soon(self, data: bytes) -> bool:
        """Hold a request that has arrived just before aiohttp waits for it.

        A quick client may send all its requests so early. Return False if that does not help.
        """
        if self._waits_for_rest or not self.will_rest():
            self._waits_for_rest = False
            return False
        self._waits_for_rest = True
        self.hold(data)
        self._go_on_soon()
        return True

    def respond(self, request: FastRequest, body: bytes) -> None:
        """Send the JSON that answers a request on the fast path."""
        if not self._end_fast(request):
            return
        head = request.head
        headers = head.headers
        for end in head.end:
            headers += end(request)
        closing = self._kernel.draining
        if closing:
            headers += b"Connection: close\r\n"
        data = json_bytes(body, headers)
        transport = self.transport
        assert transport is not None
        if len(data) <= PIECE:
            transport.write(data)
        else:
            write_in_pieces(transport.write, data)
            self.note_unsent()
        self._used = self.loop.time()
        if self._ended.listeners:
            self._report(request, len(body))
        if closing:
            self.force_close()
        if self._held:
            self._go_on_soon()

    def fall_back(self, request: FastRequest) -> None:
        """Let the normal path answer a request: the handler takes it by `take_fast_request`."""
        if not self._end_fast(request):
            return
        self.pending = request
        self.take(request.data)
        if self._held:
            self._go_on_soon()

    def _end_fast(self, request: FastRequest) -> bool:
        """End a request on the fast path. Return False if its client has gone."""
        self._under_way = None
        self._kernel.active -= 1
        if self.transport is None or self.transport.is_closing():
            request.close()
            if self._ended.listeners:
                self._report(request, 0, CLIENT_CLOSED, "client_closed")
            return False
        return True

    def take_fast_request(self) -> FastRequest | None:
        """Take the present request from the fast path, if that has begun it, or return None."""
        request, self.pending = self.pending, None
        return request

    def begin_request(self, request: Request) -> None:
        """Note a request on the normal path, of which the fast path may have begun the work."""
        super().begin_request(request)
        if self.pending is not None:
            request.began = self.pending.began
            request.request_id = self.pending.request_id.decode()

    def discard_fast_request(self) -> None:
        request = self.take_fast_request()
        if request is not None:
            request.close()

    def can_learn(self) -> bool:
        """Return whether `learn` may have an effect for the present request."""
        return bool(self._head)

    def learn(self, request: Request, target: FastTarget) -> None:
        """Cache the meaning of this request's head, if the fast path can use it."""
        raw, self._head = self._head, b""
        makers = self._kernel.hook_makers
        if not raw or makers is None:
            return
        head = head_for(request, raw, target, makers)
        if head is None:
            return
        if len(self._heads) >= MAX_HEADS:
            self._heads.clear()
        self._heads[without_values(raw)[0]] = head

    def _note_end(self, data: bytes, end: int) -> None:
        """Note where a request on the normal path ends, to know where the next one begins."""
        self._head = b""
        self._left = -1
        if end <= 3 or 0 < self._max_head < end:
            return
        head = data[:end]
        length = length_in(head)
        have = len(data) - end
        if have <= length:
            self._left = length - have
        if self._left == 0 and end <= MAX_HEAD and self._is_fast:
            self._head = head

    def _report(self, request: FastRequest, length: int, status: int = 200, code: str = "") -> None:
        """Report the end of a request on the fast path."""
        seconds = monotonic() - request.began
        head = request.head
        principal = "" if head.principal is None else head.principal.name
        values = (
            self._remote,
            "POST",
            head.path,
            head.model,
            status,
            code,
            length,
            seconds,
            head.agent,
            request.request_id.decode(),
            principal,
            True,
            request.times,
        )
        self._ended.report(_new(RequestEnded, values))

    def seconds_in_use(self) -> float:
        """Return when aiohttp may close the connection: it does not know the fast path's use."""
        left = self.keepalive_timeout - (self.loop.time() - self._used)
        return max(1.0, left) if self._under_way is not None or left > 0 else 0.0

    def connection_lost(self, exc: BaseException | None) -> None:
        try:
            self._forget()
        finally:
            super().connection_lost(exc)

    def _forget(self) -> None:
        """Release everything that this closed connection holds."""
        if self._head_timer is not None:
            self._head_timer.cancel()
        request, self._under_way = self._under_way, None
        if request is not None:
            self._kernel.active -= 1
            request.close()
            if self._ended.listeners:
                self._report(request, 0, CLIENT_CLOSED, "client_closed")
        self.discard_fast_request()


_new = tuple.__new__  # takes a third of the time of the class


class HTTPServer(web.Server):
    """aiohttp's low-level server, with connections that have a fast path.

    `on_open` is called when a connection has been made, `on_closed` when one is closing. Without
    `has_fast_path`, all requests take the normal path. Without `is_limited`, connections use only
    the public parts of aiohttp; see `probe.py`.
    """

    def __init__(
        self,
        kernel: Kernel,
        *,
        has_fast_path: bool = True,
        is_limited: bool = True,
        handler_cancellation: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            kernel.handle,
            request_factory=self._request,
            handler_cancellation=handler_cancellation,
        )
        self.kernel = kernel
        self.has_fast_path = has_fast_path and is_limited
        self._kind: type[Connection | PlainConnection]
        self._kind = Connection if is_limited else PlainConnection
        # http/body.py decompresses bodies, and bounds their size.
        self._options = {
            "auto_decompress": False,
            "access_log": kernel.events,
            "access_log_class": RequestEnds,
            **kwargs,
        }
        self._running = asyncio.get_running_loop()
        self.heads: dict[bytes, CachedHead] = {}
        # The same head may mean something else if a trusted proxy sends it.
        self.heads_of_proxies: dict[bytes, CachedHead] = {}
        self.fast_limits = FastLimits.of(kernel.settings.limits)
        self.unsent = Unsent(kernel.settings.max_unsent)
        self.unfinished = UnfinishedHeads(kernel.settings.limits.heads_memory)
        self.open: set[BaseConnection] = set()
        self.on_open: Callable[[BaseConnection], object] = lambda _: None
        self.on_closed: Callable[[], object] = lambda: None

    def _request(self, *parts: Any) -> Request:
        request = Request(*parts, self._running)
        connection = parts[2]
        assert isinstance(connection, BaseConnection)
        connection.begin_request(request)
        return request

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        assert isinstance(handler, BaseConnection)
        self.open.add(handler)
        self.on_open(handler)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        assert isinstance(handler, BaseConnection)
        self.open.discard(handler)
        self.on_closed()

    def __call__(self) -> BaseConnection:
        return self._kind(self, loop=asyncio.get_running_loop(), **self._options)
