"""The fast path: for requests whose head has come before, byte for byte.

For a small request, parsing and making objects takes most of the server's time. Frequent clients
send the same request line and headers again and again, with bodies of the same length. So the
server caches each head that aiohttp has parsed and that led to a prediction. When exactly these
bytes arrive again, together with the whole body, they mean the same, and the body goes directly to
a worker. The response is written when the worker replies.

Everything else takes the normal path, through aiohttp: other requests, requests that arrive in
pieces or pipelined, and replies that are not plain JSON.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.http import HttpProcessingError

from deepaas.api.access import AccessLogger, shown_target
from deepaas.api.intake import Intake, UnfinishedHeads
from deepaas.api.responses import add_common_headers, json_bytes
from deepaas.api.unsent import PIECE, Unsent, Watched, write_in_pieces
from deepaas.exceptions import RequestError
from deepaas.model.v2.exchange import Call, Reply
from deepaas.protocol import messages
from deepaas.serving.pool import Pool
from deepaas.serving.prediction import Prediction

if TYPE_CHECKING:
    from aiohttp.web_protocol import RequestHandler

    from deepaas.api.app import App

logger = logging.getLogger("deepaas.api")

MAX_HEADS = 1024
MAX_HEAD = 4096
MAX_BODY = 64 * 1024
"""Bytes; a larger request gains little."""

MAX_USER_TIMEOUT = 2**31 - 1
"""Milliseconds; the maximum that the kernel accepts."""

_LENGTH = re.compile(rb"\r\ncontent-length: ?(\d{1,9})\r\n", re.IGNORECASE)
_NOT_SIMPLE = (hdrs.TRANSFER_ENCODING, hdrs.EXPECT, hdrs.UPGRADE, hdrs.CONTENT_ENCODING)


@dataclass(frozen=True)
class CachedHead:
    """The meaning of the head of a request: a whole call but its body."""

    pool: Pool
    description: dict[str, Any]  # of the model, when the head was cached
    meta: bytes
    length: int  # of the body
    deadline_seconds: float
    target: str
    agent: str


class FastPrediction(Prediction):
    """A prediction on the fast path."""

    __slots__ = ("began", "connection", "data", "head", "outcome")

    def __init__(
        self,
        connection: Connection,
        head: CachedHead,
        data: bytes,
        began: float,
    ) -> None:
        super().__init__()
        self.connection = connection
        self.head = head
        self.data = data  # the whole request
        self.began = began
        self.outcome: Reply | RequestError | None = None

    def set_reply(self, reply: Reply) -> None:
        if self.abandoned or self.outcome is not None:
            reply.discard()
        else:
            self._arrive(reply)

    def fail(self, error: RequestError) -> None:
        self.fail_stream(error)
        if self.outcome is None and not self.abandoned:
            self._arrive(error)

    def _arrive(self, outcome: Reply | RequestError) -> None:
        self.outcome = outcome
        try:
            self.connection.arrived(self, outcome)
        except Exception:  # a failure of this connection, not of the worker
            logger.exception("Answering POST %s failed", self.head.target)
            self.connection.force_close()

    async def reply(self) -> Reply:
        """Return or raise the outcome, for the normal path. Call this only once."""
        assert self.outcome is not None
        outcome, self.outcome = self.outcome, _RELEASED
        if isinstance(outcome, Reply):
            return outcome
        raise outcome

    def release(self) -> None:
        outcome, self.outcome = self.outcome, _RELEASED
        if isinstance(outcome, Reply):
            outcome.discard()


_RELEASED = RequestError("The reply was already taken")


class Connection(Intake, Watched):
    """A client's connection, which tries the fast path first."""

    __slots__ = (
        "_app",
        "_began",
        "_head",
        "_head_timer",
        "_heads",
        "_is_logged",
        "_opened",
        "_remote",
        "_under_way",
        "_unsent",
        "_used",
        "pending",
    )

    def __init__(self, manager: HTTPServer, **kwargs: Any) -> None:
        limits = manager.app.settings.limits
        super().__init__(manager, limits.head, manager.unfinished, **kwargs)
        self._app = manager.app
        self._is_logged = self.access_logger is not None
        self._heads = manager.heads
        self._unsent = manager.unsent
        self._head = b""  # of the present request on the normal path, if it came in one piece
        self._under_way: FastPrediction | None = None
        self._used = 0.0  # when the last fast prediction was answered
        self._opened = self._loop.time()
        self._remote = ""
        self._head_timer: asyncio.TimerHandle | None = None
        self.pending: FastPrediction | None = None  # the normal path is to answer it
        self._began = 0.0  # when its request arrived

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        seconds = self._app.settings.send_timeout
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
        seconds = self._app.settings.limits.receive_timeout
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
        """Send a request on the fast path. Return False if that is not possible now."""
        pool = head.pool
        if head.description is not pool.description or self._app.draining:
            return False
        began = self._loop.time() if self._is_logged else 0.0
        prediction = FastPrediction(self, head, data, began)
        try:
            pool.dispatcher.submit(prediction, head.meta, data[end:], head.deadline_seconds)
        except RequestError:  # the normal path reports it
            return False
        self._under_way = prediction
        self._app.active += 1
        return True

    def arrived(self, prediction: FastPrediction, outcome: Reply | RequestError) -> None:
        """Answer a request on the fast path, or pass it to the normal path."""
        self._under_way = None
        self._app.active -= 1
        transport = self.transport
        if transport is None or transport.is_closing():
            prediction.release()
            if prediction.stream is not None:  # its generator waits for a reader
                prediction.leave(prediction)
            return
        if type(outcome) is Reply and outcome.is_plain:
            closing = self._app.draining
            connection = b"Connection: close\r\n" if closing else b""
            data = json_bytes(outcome.body, connection=connection)
            if len(data) <= PIECE:
                transport.write(data)
            else:
                write_in_pieces(transport.write, data)
                self.note_unsent()
            self._used = self._loop.time()
            if self._is_logged:
                self._log(prediction, len(outcome.body))
            if closing:
                self.force_close()
        else:
            self.pending = prediction
            self._began = prediction.began
            self.take(prediction.data)
        if self._held:
            self._go_on_soon()

    def take_prediction(self) -> FastPrediction | None:
        """Take the present request's prediction from the fast path, or None."""
        prediction, self.pending = self.pending, None
        return prediction

    def learn(
        self, request: web.BaseRequest, pool: Pool, call: Call, deadline_seconds: float
    ) -> None:
        """Cache the meaning of this request's head, if the fast path can use it."""
        head, self._head = self._head, b""
        headers = request.headers
        length = request.content_length
        if (
            head != _head_of(request)
            or length is None
            or length != len(call.body)
            or length > MAX_BODY
            or call.form is not None
            or request.version != HttpVersion11
            or not request.keep_alive
            or any(name in headers for name in _NOT_SIMPLE)
        ):
            return
        if len(self._heads) >= MAX_HEADS:
            self._heads.clear()
        self._heads[head] = CachedHead(
            pool=pool,
            description=pool.description,
            meta=messages.encode_meta(call),
            length=length,
            deadline_seconds=deadline_seconds,
            target=shown_target(request),
            agent=headers.get(hdrs.USER_AGENT, "-"),
        )

    def _note_end(self, data: bytes, end: int) -> None:
        """Note where a request on the normal path ends, to know where the next one begins."""
        self._head = b""
        head = data[:end]
        if end <= 3 or 0 < self._max_head < end or b"transfer-encoding" in head.lower():
            self._left = -1
            return
        lengths = _LENGTH.findall(head)
        if len(lengths) > 1 or (not lengths and b"content-length" in head.lower()):
            self._left = -1
            return
        length = int(lengths[0]) if lengths else 0
        have = len(data) - end
        self._left = length - have if have <= length else -1
        if self._left == 0 and end <= MAX_HEAD:
            self._head = head

    def _log(self, prediction: FastPrediction, length: int) -> None:
        logger = self.access_logger
        if isinstance(logger, AccessLogger) and self.transport is not None:
            if not self._remote:
                peer = self.transport.get_extra_info("peername")
                self._remote = str(peer[0]) if isinstance(peer, tuple) else str(peer)
            seconds = self._loop.time() - prediction.began
            head = prediction.head
            logger.write(self._remote, "POST", head.target, 200, length, seconds, head.agent)

    def log_access(
        self, request: web.BaseRequest, response: web.StreamResponse, time: float | None
    ) -> None:
        began, self._began = self._began, 0.0  # earlier than aiohttp's `time`
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
        prediction, self._under_way = self._under_way, None
        if prediction is not None:
            self._app.active -= 1
            prediction.leave(prediction)
        prediction = self.take_prediction()
        if prediction is not None:
            with prediction:
                pass


def _head_of(request: web.BaseRequest) -> bytes:
    """Return the bytes of a request's head if it has the usual form: one blank after each colon."""
    target = request.raw_path.encode("utf-8", "surrogateescape")
    lines = [b"%b: %b\r\n" % (name, value) for name, value in request.raw_headers]
    return b"POST %b HTTP/1.1\r\n%b\r\n" % (target, b"".join(lines))


class HTTPServer(web.Server):
    """aiohttp's low-level server, with connections that have a fast path.

    `on_open` is called when a connection has been made, `on_closed` when one is closing.
    """

    def __init__(self, app: App, **kwargs: Any) -> None:
        # api/body.py decompresses bodies, and bounds their size.
        super().__init__(app.handle, auto_decompress=False, **kwargs)
        self.app = app
        self.heads: dict[bytes, CachedHead] = {}
        self.unsent = Unsent(app.settings.max_unsent)
        self.unfinished = UnfinishedHeads(app.settings.limits.heads_memory)
        self.open: set[Connection] = set()
        self.on_open: Callable[[Connection], object] = lambda _: None
        self.on_closed: Callable[[], object] = lambda: None

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
