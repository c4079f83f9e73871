"""The part of a client's connection that needs only the public parts of aiohttp."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.http import HttpProcessingError
from aiohttp.web_protocol import RequestHandler

from deepaas.exceptions import BadRequestError, RequestError
from deepaas.http.request import Request
from deepaas.http.request_ends import RequestEnds
from deepaas.http.request_ids import add_request_id, new_request_id
from deepaas.http.responses import (
    FAILED,
    INTERNAL_ERROR,
    FinalResponse,
    add_common_headers,
    error_response,
    response_for,
)
from deepaas.http.unsent import Watched

if TYPE_CHECKING:
    from deepaas.http.connection import HTTPServer

logger = logging.getLogger("deepaas.api")

MAX_USER_TIMEOUT = 2**31 - 1
"""Milliseconds; the maximum that the kernel accepts."""


def address_of(transport: asyncio.BaseTransport) -> str:
    """Return the IP address of a connection's peer; another text if it has none."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else str(peer)


class BaseConnection(RequestHandler, Watched):
    """A client's connection.

    `is_stalled` is whether the client reads more slowly than the server writes. `answered` is when
    the last response was sent on the normal path, on the loop's clock. `is_from_proxy` is whether
    the client is a trusted proxy.
    """

    __slots__ = (
        "_current",
        "_ended",
        "_kernel",
        "_opened",
        "_unsent",
        "answered",
        "is_from_proxy",
        "is_stalled",
        "loop",
    )

    def __init__(self, manager: HTTPServer, **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self.loop: asyncio.AbstractEventLoop = kwargs["loop"]
        self.is_stalled = False
        self.is_from_proxy = False
        self.answered = 0.0
        self._kernel = manager.kernel
        self._ended = manager.kernel.events.request_ended
        self._current: Request | None = None  # on the normal path, until its end is reported
        self._unsent = manager.unsent
        self._opened = self.loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        proxies = self._kernel.settings.proxies
        if proxies.networks:
            self.is_from_proxy = proxies.trust(address_of(transport))
        seconds = self._kernel.settings.send_timeout
        sock = transport.get_extra_info("socket")
        if seconds and sock is not None:  # limits unread responses that no coroutine waits for
            limit = min(max(1, int(seconds * 1000)), MAX_USER_TIMEOUT)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._unsent.remove(self)
        current, self._current = self._current, None
        if current is not None and isinstance(self.access_logger, RequestEnds):
            self.access_logger.report_closed(current)
        super().connection_lost(exc)

    def begin_request(self, request: Request) -> None:
        """Note a request on the normal path, which aiohttp has parsed."""
        self._current = request
        if self.is_from_proxy:
            request.is_from_proxy = True

    def idle_since(self) -> tuple[bool, float] | None:
        """Return whether the connection was used, and since when it is idle; None if it is busy.

        The time is that of the event loop. A connection with an incomplete head is idle, too.
        """
        raise NotImplementedError

    def log_access(
        self, request: web.BaseRequest, response: web.StreamResponse, time: float | None
    ) -> None:
        self._current = None
        self.answered = self.loop.time()  # aiohttp calls this method even if nothing is logged
        super().log_access(request, response, time)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.is_stalled = True
        self._unsent.add(self)

    def resume_writing(self) -> None:
        self._unsent.remove(self)
        self.is_stalled = False
        super().resume_writing()

    def note_unsent(self) -> None:
        if self.is_stalled:
            self._unsent.add(self)

    def unsent(self) -> int:
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    def cut(self) -> None:
        transport = self.transport
        self.force_close()
        if transport is not None:
            transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the response to a request that did not reach the middleware, because it is
        malformed or too large, or to a failure that no handler has answered."""
        if isinstance(exc, HttpProcessingError):
            why = exc.message.partition("\n")[0].strip(" :")
            exc = BadRequestError(f"The request is malformed: {why}")
        assert isinstance(request, Request)
        request.request_id = request.request_id or new_request_id()
        if isinstance(exc, RequestError):
            # The error text quotes the bytes, which may contain a secret: log only the fault.
            fault = str(exc).rpartition("malformed: ")[2].partition(":")[0]
            self.logger.debug("A request from %s is malformed: %s", request.remote, fault)
            self._kernel.report_refused("", exc)
            answer = FinalResponse.of(response_for(exc))
        else:
            super().handle_error(request, status, exc, message)  # raises if a part has been sent
            logger.error("Answering failed (request %s)", request.request_id, exc_info=exc)
            answer = FinalResponse.of(error_response(500, INTERNAL_ERROR, FAILED))
        add_request_id(answer, request.request_id)
        add_common_headers(answer.headers)
        return answer


class PlainConnection(BaseConnection):
    """A connection for a release of aiohttp whose private parts are not as expected.

    It has no fast path, and does not limit the bytes that its parser gets.
    """

    __slots__ = ("_count", "_head_timer", "_is_busy")

    def __init__(self, manager: HTTPServer, **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self._is_busy = False  # whether a request is being answered
        self._count = 0  # of the requests that have begun
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._is_busy:
            self._expect_head()

    def _expect_head(self) -> None:
        """Close the connection later if no further request has begun."""
        seconds = self._kernel.settings.limits.receive_timeout
        if seconds and self._head_timer is None:
            self._head_timer = self.loop.call_later(seconds, self._check_head, self._count)

    def _check_head(self, count: int) -> None:
        self._head_timer = None
        if self._count == count and not self._is_busy:
            self.force_close()

    def begin_request(self, request: Request) -> None:
        super().begin_request(request)
        self._is_busy = True
        self._count += 1

    def log_access(
        self, request: web.BaseRequest, response: web.StreamResponse, time: float | None
    ) -> None:
        self._is_busy = False
        super().log_access(request, response, time)

    def idle_since(self) -> tuple[bool, float] | None:
        if self._is_busy:
            return None
        return self._count > 0, max(self._opened, self.answered)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        super().connection_lost(exc)
