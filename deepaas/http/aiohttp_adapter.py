"""The only module that uses private parts of aiohttp. The other modules use its plain names.

`deepaas/http/probe.py` checks at the start whether these parts are as this module expects.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
from aiohttp import StreamReader, web, web_protocol
from aiohttp.base_protocol import BaseProtocol
from aiohttp.web_protocol import RequestHandler

from deepaas.http.base_connection import BaseConnection

NEEDED_FOR_LIMITS = (
    "_close",
    "_force_close",
    "_messages",
    "_reading_paused",
    "_request_count",
    "_waiter",
)
"""The attributes of aiohttp's RequestHandler without which the input cannot be limited."""

NEEDED_FOR_FAST_PATH = ("_keepalive_handle", "_process_keepalive")
"""The attributes of aiohttp's RequestHandler that only the fast path needs."""

SIGNATURES = {
    "data_received": ("self", "data"),
    "resume_reading": ("self",),
    "log_access": ("self", "request", "response", "time"),
    "handle_error": ("self", "request", "status", "exc", "message"),
    "_process_keepalive": ("self",),
}
"""The first parameters of the methods that connections override."""

VERSION: str = aiohttp.__version__

_Fault: Any = getattr(web_protocol, "_ErrInfo", None)
"""What aiohttp puts in place of a request that is malformed."""

HAS_FAULTS = _Fault is not None

PAUSES_FOR_BUFFER = hasattr(web_protocol, "MAX_MSG_QUEUE_SIZE")
"""Whether aiohttp also pauses reading because many requests wait; it does so since 3.14."""

BUFFER_PAUSE = ("_buffer_paused", "_resume_reading_for_buffer")
"""The attributes of aiohttp's RequestHandler that belong to this pause."""


class AiohttpConnection(BaseConnection):
    """A connection of aiohttp, with plain names for its private parts."""

    __slots__ = ()

    # --- the requests that aiohttp has parsed

    @property
    def request_count(self) -> int:
        """The number of requests that were parsed on this connection."""
        return self._request_count

    def latest(self) -> tuple[Any, StreamReader]:
        """Return the request that was parsed last, and its body.

        For a malformed request, the first item is a fault; see `is_fault`.
        """
        message, payload = self._messages[-1]
        return message, payload

    def drop_latest(self) -> None:
        """Remove the request that was parsed last, which is then not answered."""
        self._messages.pop()

    def add_error(self, status: int, error: Exception, body: StreamReader) -> None:
        """Make aiohttp answer with an error when it has answered the requests before."""
        self._messages.append((_Fault(status, error, str(error)), body))
        self._request_count += 1
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def is_at_rest(self) -> bool:
        """Return whether aiohttp waits for a request, and the client reads its responses."""
        waiter = self._waiter
        return (
            waiter is not None
            and not waiter.done()
            and not self._messages
            and not self.is_stalled
            and not self._force_close
            and not self._close
        )

    def will_rest(self) -> bool:
        """Return whether aiohttp has nothing to do but does not wait yet.

        That is so for one turn of the loop after a connection was made, and after each response.
        """
        return (
            self._waiter is None
            and self._current is None
            and not self._messages
            and not self.is_stalled
            and not self._force_close
            and not self._close
        )

    @property
    def is_force_closed(self) -> bool:
        return self._force_close

    # --- pauses

    @property
    def is_reading_paused(self) -> bool:
        """Whether aiohttp has paused reading because a body waits for its reader."""
        return self._reading_paused

    def note_reading_paused(self) -> None:
        """Make aiohttp resume reading when the body has been read; do not pause its parser."""
        self._reading_paused = True

    def has_to_wait(self) -> bool:
        """Return whether aiohttp takes no data now, because a body or requests are waiting."""
        return self._reading_paused or getattr(self, "_buffer_paused", False)

    def _resume_reading_for_buffer(self) -> None:
        super()._resume_reading_for_buffer()
        self.reading_resumed()

    def reading_resumed(self) -> None:
        """Called when aiohttp takes data again."""

    # --- idle connections

    def _process_keepalive(self) -> None:
        wait = self.seconds_in_use()
        if wait:
            self._keepalive_handle = self.loop.call_later(wait, self._process_keepalive)
        else:
            super()._process_keepalive()

    def seconds_in_use(self) -> float:
        """Return after how many seconds the connection may be closed as idle; 0 means now."""
        return 0.0


def is_fault(message: Any) -> bool:
    return isinstance(message, _Fault)


def has_handler_attribute(name: str) -> bool:
    return hasattr(RequestHandler, name)


def buffered_pieces(body: StreamReader) -> int:
    """Return in how many pieces the unread bytes of a body are held."""
    return len(body._buffer)


def has_usual_bodies(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether `buffered_pieces` and `set_error` work."""
    body = StreamReader(BaseProtocol(loop), 1, loop=loop)
    set_error(body, ValueError())
    set_error(body, None)
    return hasattr(body, "_buffer") and body.exception() is None


def set_error(body: StreamReader, error: BaseException | None) -> None:
    """Make reading the rest of a body fail with this error; None makes it succeed again."""
    body.set_exception(error)  # type: ignore[arg-type]


def is_upgrade(request: web.BaseRequest) -> bool:
    """Return whether a request may be the last one in HTTP on its connection."""
    message = getattr(request, "_message", None)
    return message is None or bool(message.upgrade)


async def send_continue(request: web.BaseRequest) -> None:
    """Tell the client to send the body."""
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the final response has not begun
