"""A client's connection, and the server that makes connections."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.http import HttpProcessingError

from deepaas.events import CLIENT_CLOSED, RequestEnded
from deepaas.exceptions import RequestError
from deepaas.http.fast_path import (
    MAX_HEAD,
    MAX_HEADS,
    CachedHead,
    FastRequest,
    FastTarget,
    head_for,
    length_in,
)
from deepaas.http.intake import Intake, UnfinishedHeads
from deepaas.http.request import Request
from deepaas.http.request_ends import RequestEnds
from deepaas.http.responses import add_common_headers, json_bytes
from deepaas.http.unsent import PIECE, Unsent, Watched, write_in_pieces

if TYPE_CHECKING:
    from aiohttp.web_protocol import RequestHandler

    from deepaas.http.kernel import Kernel

MAX_USER_TIMEOUT = 2**31 - 1
"""Milliseconds; the maximum that the kernel accepts."""


class Connection(Intake, Watched):
    """A client's connection, which tries the fast path first."""

    __slots__ = (
        "_began",
        "_current",
        "_current_began",
        "_ended",
        "_head",
        "_head_timer",
        "_heads",
        "_kernel",
        "_opened",
        "_remote",
        "_under_way",
        "_unsent",
        "_used",
        "pending",
    )

    def __init__(self, manager: HTTPServer, **kwargs: Any) -> None:
        limits = manager.kernel.settings.limits
        super().__init__(manager, limits.head, manager.unfinished, **kwargs)
        self._kernel = manager.kernel
        self._ended = manager.kernel.events.request_ended
        self._heads = manager.heads
        self._unsent = manager.unsent
        self._head = b""  # of the present request on the normal path, if it came in one piece
        self._under_way: FastRequest | None = None
        self._used = 0.0  # when the last fast prediction was answered
        self._opened = self._loop.time()
        self._remote = ""
        self._head_timer: asyncio.TimerHandle | None = None
        self.pending: FastRequest | None = None  # the normal path is to answer it
        self._began = 0.0  # when its request arrived
        self._current: Request | None = None  # on the normal path, until its end is reported
        self._current_began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self._remote = str(peer[0]) if isinstance(peer, tuple) else str(peer)
        seconds = self._kernel.settings.send_timeout
        sock = transport.get_extra_info("socket")
        if seconds and sock is not None:  # limits unread responses that no coroutine waits for
            limit = min(max(1, int(seconds * 1000)), MAX_USER_TIMEOUT)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit)
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
            end = data.find(b"\r\n\r\n") + 4
            head = self._heads.get(data[:end]) if 3 < end <= MAX_HEAD else None
            if (
                head is not None
                and len(data) - end == head.length
                and self._is_at_rest()
                and self._begin(head, data, end)
            ):
                return
            if data != b"\r\n":  # some clients send a line end after a body
                self._note_end(data, end)
        self.take(data)
        if data and self._left:
            self._expect_head()

    def _expect_head(self) -> None:
        """Close the connection later if no complete head of a request has arrived."""
        seconds = self._kernel.settings.limits.receive_timeout
        if seconds and self._head_timer is None:
            so_far = self._request_count, self._used
            self._head_timer = self._loop.call_later(seconds, self._check_head, so_far)

    def _check_head(self, so_far: tuple[int, float]) -> None:
        self._head_timer = None
        idle = self._under_way is None and self._is_at_rest()
        if idle and so_far == (self._request_count, self._used):
            self.force_close()
        elif self._left:  # a part of another head may have arrived
            self._expect_head()

    def _is_at_rest(self) -> bool:
        """Return whether aiohttp waits for a request, and the client reads its responses."""
        waiter = self._waiter
        return (
            waiter is not None
            and not waiter.done()
            and not self._messages
            and not self._paused
            and not self._force_close
            and not self._close
        )

    def idle_since(self) -> tuple[bool, float] | None:
        """Return whether the connection was used, and since when it is idle; None if it is busy.

        The time is that of the event loop. A connection with an incomplete head is idle, too.
        """
        if self._under_way is not None or self._held or not self._is_at_rest():
            return None
        used = bool(self._used or self._request_count)
        answered = self._next_keepalive_close_time - self._keepalive_timeout  # on the normal path
        return used, max(self._opened, self._used, answered)

    def _begin(self, head: CachedHead, data: bytes, end: int) -> bool:
        """Begin a request on the fast path. Return False if that is not possible now."""
        if self._kernel.draining:
            return False
        request = head.target.new_request(self, head, data)
        for begin in head.begin:
            if not begin(request):
                return False
        if not request.begin(end):
            return False
        self._under_way = request
        self._kernel.active += 1
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
        data = json_bytes(body, connection=headers)
        transport = self.transport
        assert transport is not None
        if len(data) <= PIECE:
            transport.write(data)
        else:
            write_in_pieces(transport.write, data)
            self.note_unsent()
        self._used = self._loop.time()
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
        self._began = request.began
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
        self._current = request
        self._current_began = self._began or self._loop.time()
        if self.pending is not None:
            request.request_id = self.pending.request_id

    def discard_fast_request(self) -> None:
        request = self.take_fast_request()
        if request is not None:
            request.close()

    def learn(self, request: Request, target: FastTarget) -> None:
        """Cache the meaning of this request's head, if the fast path can use it."""
        raw, self._head = self._head, b""
        head = head_for(request, raw, target, self._kernel.middleware) if raw else None
        if head is None:
            return
        if len(self._heads) >= MAX_HEADS:
            self._heads.clear()
        self._heads[raw] = head

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
        if self._left == 0 and end <= MAX_HEAD:
            self._head = head

    def _report(self, request: FastRequest, length: int, status: int = 200, code: str = "") -> None:
        """Report the end of a request on the fast path."""
        seconds = self._loop.time() - request.began
        head, id = request.head, request.request_id
        path, model, agent = head.path, head.model, head.agent
        name = "" if head.principal is None else head.principal.name
        ended = RequestEnded(
            *(self._remote, "POST", path, model, status, code, length, seconds, agent, id, name),
            True,
        )
        self._ended.report(ended)

    def log_access(
        self, request: web.BaseRequest, response: web.StreamResponse, time: float | None
    ) -> None:
        began, self._began = self._began, 0.0  # earlier than aiohttp's `time`
        self._current = None
        super().log_access(request, response, began or time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the response to malformed bytes, or to a failure that no handler has answered."""
        if isinstance(exc, HttpProcessingError | RequestError):
            # The error text quotes the bytes, which may contain a secret: log only the fault.
            fault = str(exc).rpartition("malformed: ")[2].partition(":")[0]
            self.logger.debug("A request from %s is malformed: %s", request.remote, fault)
        answer = super().handle_error(request, status, exc, message)
        add_common_headers(answer.headers)
        return answer

    def _process_keepalive(self) -> None:
        """Close an idle connection. aiohttp does not know when the fast path has used it."""
        idle = self._loop.time() - self._used
        if self._under_way is not None or idle < self._keepalive_timeout:
            wait = max(1.0, self._keepalive_timeout - idle)
            self._keepalive_handle = self._loop.call_later(wait, self._process_keepalive)
        else:
            super()._process_keepalive()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unsent.add(self)

    def resume_writing(self) -> None:
        self._unsent.remove(self)
        super().resume_writing()

    def note_unsent(self) -> None:
        if self._paused:
            self._unsent.add(self)

    def unsent(self) -> int:
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    def cut(self) -> None:
        transport = self.transport
        self.force_close()
        if transport is not None:
            transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        try:
            self._forget()
        finally:
            super().connection_lost(exc)

    def _forget(self) -> None:
        """Release everything that this closed connection holds."""
        self._unsent.remove(self)
        if self._head_timer is not None:
            self._head_timer.cancel()
        request, self._under_way = self._under_way, None
        if request is not None:
            self._kernel.active -= 1
            request.close()
            if self._ended.listeners:
                self._report(request, 0, CLIENT_CLOSED, "client_closed")
        current, self._current = self._current, None
        if current is not None and isinstance(self.access_logger, RequestEnds):
            self.access_logger.report_closed(current, self._loop.time() - self._current_began)
        self.discard_fast_request()


class HTTPServer(web.Server):
    """aiohttp's low-level server, with connections that have a fast path.

    `on_open` is called when a connection has been made, `on_closed` when one is closing.
    """

    def __init__(self, kernel: Kernel, **kwargs: Any) -> None:
        # api/body.py decompresses bodies, and bounds their size.
        super().__init__(
            kernel.handle,
            request_factory=self._request,
            auto_decompress=False,
            access_log=kernel.events,
            access_log_class=RequestEnds,
            **kwargs,
        )
        self.kernel = kernel
        self._running = asyncio.get_running_loop()
        self.heads: dict[bytes, CachedHead] = {}
        self.unsent = Unsent(kernel.settings.max_unsent)
        self.unfinished = UnfinishedHeads(kernel.settings.limits.heads_memory)
        self.open: set[Connection] = set()
        self.on_open: Callable[[Connection], object] = lambda _: None
        self.on_closed: Callable[[], object] = lambda: None

    def _request(self, *parts: Any) -> Request:
        request = Request(*parts, self._running)
        connection = request.protocol
        if isinstance(connection, Connection):
            connection.begin_request(request)
        return request

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        assert isinstance(handler, Connection)
        self.open.add(handler)
        self.on_open(handler)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        assert isinstance(handler, Connection)
        self.open.discard(handler)
        self.on_closed()

    def __call__(self) -> Connection:
        return Connection(self, loop=asyncio.get_running_loop(), **self._kwargs)
