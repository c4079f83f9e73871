"""The HTTP responses. All errors get their form here."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import re
import socket
import struct
import time
from collections.abc import AsyncIterator, Mapping
from email.utils import formatdate
from typing import Protocol, cast

from aiohttp import HttpVersion, HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import StreamWriter
from multidict import CIMultiDict

from deepaas import exact_json
from deepaas.exceptions import (
    NotFoundError,
    NotImplementedByModelError,
    RequestError,
    StreamFailedError,
)
from deepaas.http.request import Request
from deepaas.http.stall_timer import StallTimer
from deepaas.http.unsent import PIECE, Watched
from deepaas.streams import error_frame

logger = logging.getLogger("deepaas.api")

CHUNK = 256 * 1024
COMMON_HEADERS = {"Server": "deepaas", "X-Content-Type-Options": "nosniff"}
"""The headers of every response. They hide the version, and keep browsers from guessing types."""

JSON_HEADERS = CIMultiDict({"Content-Type": "application/json; charset=utf-8", **COMMON_HEADERS})
INTERNAL_ERROR = "internal_error"
FAILED = "The server failed; its log says why"
"""The code and the message of a failure of the server itself."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_MAX_REASON = 400  # characters; the body has the whole message


def add_common_headers(headers: CIMultiDict[str]) -> None:
    headers.update(COMMON_HEADERS)


def json_response(value: object, status: int = 200) -> web.Response:
    return web.Response(body=exact_json.dumps(value), status=status, headers=JSON_HEADERS)


def error_response(
    status: int,
    code: str,
    message: str,
    headers: Mapping[str, str] | None = None,
    details: Mapping[str, object] | None = None,
) -> ErrorResponse:
    """Return an error as JSON: the message, the code and the `details`.

    The message is also the reason phrase. Two errors have always been plain text: 404, and 501 for
    a function that the model does not implement.
    """
    message = _CONTROL.sub(" ", message)
    reason = message[:_MAX_REASON].encode("ascii", "replace").decode()
    if code == NotFoundError.code:
        answer = ErrorResponse(status=status, text=f"{status}: Not Found", headers=headers)
    elif code == NotImplementedByModelError.code:
        answer = ErrorResponse(status=status, reason=reason, text=f"{status}: {message}")
    else:
        members = {"message": message, "code": code, **(details or {})}
        body = exact_json.dumps(members)
        answer = ErrorResponse(body=body, status=status, reason=reason, headers=JSON_HEADERS)
        answer.members = members
        answer.headers.update(headers or {})
    answer.code = code
    return answer


def response_for(error: RequestError) -> ErrorResponse:
    return error_response(error.status, error.code, str(error), error.headers, error.details)


class ErrorResponse(web.Response):
    """The response to an error; `code` is its kind.

    `members` are those of its JSON; None if it is plain text.
    """

    code = ""
    members: Mapping[str, object] | None = None

    def add_request_id(self, request_id: str) -> None:
        """Add the id of the request to the JSON."""
        if self.members is not None:
            self.body = exact_json.dumps({**self.members, "request_id": request_id})


class FinalResponse(ErrorResponse):
    """An error response after which the server sends nothing more on this connection."""

    @classmethod
    def of(cls, plain: ErrorResponse) -> FinalResponse:
        """Return the same response as one after which nothing more is sent."""
        answer = cls(body=plain.body, headers=plain.headers)
        answer.set_status(plain.status, plain.reason)
        answer.code = plain.code
        answer.members = plain.members
        answer.force_close()
        return answer

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        self._transport = request.transport
        return await super().prepare(request)

    async def write_eof(self, data: bytes = b"") -> None:
        """Send the end of the response, and close the sending side of the connection."""
        await super().write_eof(data)
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()


class JSONResponse(web.StreamResponse):
    """A whole JSON response with status 200, which is sent in one write.

    Most responses have this form. It takes a third of the time of `web.Response`.
    """

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self._json = body
        self._length = len(body)
        self._persists: bool | None = None

    @property
    def body_length(self) -> int:
        return self._length

    @property
    def keep_alive(self) -> bool | None:
        return super().keep_alive if self._persists is None else self._persists

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send the response, with the header fields that aiohttp would send."""
        keep_alive = request.keep_alive if self.keep_alive is None else self.keep_alive
        self._persists = keep_alive
        if request.version == HttpVersion11:
            connection = b"" if keep_alive else b"Connection: close\r\n"
        else:
            connection = b"Connection: keep-alive\r\n" if keep_alive else b""
        if self.headers:
            connection += header_lines(self.headers)
        data = json_bytes(self._json, connection, request.version)
        self._json = b""  # otherwise memory holds it twice while the client does not read
        await _write(request, data)
        del data
        await request.writer.drain()
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: `prepare` has sent the whole response."""


class WholeResponse(web.StreamResponse):
    """A response whose body is held in memory until it is sent."""

    def __init__(self, body: bytes, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(status=status, headers=headers)
        self._whole = body
        self._sent = 0
        self.content_length = len(body)

    @property
    def body_length(self) -> int:
        return self._sent

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        writer = await super().prepare(request)
        body, self._whole = self._whole, b""
        if request.method != hdrs.METH_HEAD:
            self._sent = len(body)
            await _write(request, body)
        return writer


async def _write(request: web.BaseRequest, data: bytes) -> None:
    """Write a response in pieces, so that memory does not hold the pieces that were sent."""
    writer = cast(StreamWriter, request.writer)
    if len(data) <= PIECE:
        await writer.write(data, drain=False)
        return
    for start in range(0, len(data), PIECE):
        await writer.write(data[start : start + PIECE], drain=False)
    if isinstance(request.protocol, Watched):
        request.protocol.note_unsent()


_JSON_LINES = b"".join(b"%b: %b\r\n" % (n.encode(), v.encode()) for n, v in JSON_HEADERS.items())


def json_bytes(body: bytes, headers: bytes = b"", version: HttpVersion = HttpVersion11) -> bytes:
    """Return the bytes of a whole JSON response with status 200. `headers` are further lines."""
    begin = _json_begin()
    if version is not HttpVersion11:
        begin = b"HTTP/%d.%d%b" % (*version, begin[len("HTTP/1.1") :])
    return b"%b%d\r\n%b\r\n%b" % (begin, len(body), headers, body)


def header_lines(headers: Mapping[str, str]) -> bytes:
    """Return the lines of headers, each with its line end."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    return lines.encode("utf-8", "surrogateescape")


def _json_begin() -> bytes:
    """Return the beginning of a JSON response, which is the same for all of one second."""
    global _dated
    now = int(time.time())
    if _dated[0] != now:
        date = formatdate(now, usegmt=True).encode()
        lines = b"HTTP/1.1 200 OK\r\n%bDate: %b\r\nContent-Length: " % (_JSON_LINES, date)
        _dated = now, lines
    return _dated[1]


_dated = (0, b"")


def _abort(request: web.BaseRequest) -> None:
    """Abort the connection, so that an incomplete response does not look complete."""
    if request.transport is not None:
        sock = request.transport.get_extra_info("socket")
        if sock is not None:  # by a reset: a normal close ends a body without length or chunks
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()


class Closing(Protocol):
    """Something that a response needs until it has been sent."""

    def close(self) -> None: ...


class LongResponse(web.StreamResponse):
    """A response whose body takes time to send. The kernel sends it after all middleware."""

    _kept: tuple[Closing, ...] = ()

    async def send(self, request: web.BaseRequest, timeout: float) -> None:
        """Send the whole response.

        If the client reads nothing for `timeout` seconds, the connection is aborted; 0 is no limit.
        """
        raise NotImplementedError

    def keep(self, needed: Closing) -> None:
        """Close `needed` when the response has been sent, or is not sent."""
        self._kept += (needed,)

    def close(self) -> None:
        """Release what the response needs. May be called more than once."""
        kept, self._kept = self._kept, ()
        for one in kept:
            one.close()


class FileResponse(LongResponse):
    """A response whose body is read from a descriptor, which it closes."""

    def __init__(self, fd: int, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(status=status, headers=headers)
        add_common_headers(self.headers)
        self._file = io.FileIO(fd, "rb")
        self.keep(self._file)
        self._sent = 0
        self.content_length = os.fstat(fd).st_size

    @property
    def body_length(self) -> int:
        return self._sent

    async def send(self, request: web.BaseRequest, timeout: float) -> None:
        """Send the whole response. A thread reads the file in chunks."""
        loop = asyncio.get_running_loop()
        left = 0 if request.method == hdrs.METH_HEAD else self.content_length or 0
        stall = StallTimer(timeout, lambda: _abort(request))
        try:
            await self.prepare(request)
            position = 0
            while left:
                chunk = await loop.run_in_executor(
                    None, os.pread, self._file.fileno(), min(CHUNK, left), position
                )
                if not chunk:
                    _abort(request)
                    raise ConnectionResetError("the file became shorter while it was sent")
                stall.begin()
                await self.write(chunk)
                stall.end()
                position += len(chunk)
                left -= len(chunk)
                self._sent = position
            stall.begin()
            await self.write_eof()
        finally:
            stall.close()
            self.close()


class StreamedResponse(LongResponse):
    """A response whose body arrives in parts, which are sent as they arrive."""

    def __init__(self, stream: AsyncIterator[bytes], headers: Mapping[str, str]) -> None:
        super().__init__(headers=headers)
        add_common_headers(self.headers)
        self._stream = stream
        self._sent = 0
        self._media_type = headers["Content-Type"]

    @property
    def body_length(self) -> int:
        return self._sent

    async def send(self, request: web.BaseRequest, timeout: float) -> None:
        """Send the whole stream. If it fails, send the error as its last item.

        If the media type has no form for an error, the connection is aborted.
        """
        if request.version < HttpVersion11:  # without chunks, closing marks the end of the body
            self.force_close()
        with StallTimer(timeout, lambda: _abort(request)) as stall:
            await self.prepare(request)
            if request.method == hdrs.METH_HEAD:
                await self.write_eof()
                return
            try:
                async for data in self._stream:
                    stall.begin()
                    await self.write(data)
                    stall.end()
                    self._sent += len(data)
            except StreamFailedError as error:
                request_id = request.request_id if isinstance(request, Request) else ""
                frame = error_frame(self._media_type, error.code, str(error), request_id)
                if frame is None:
                    _abort(request)
                    raise ConnectionResetError("the stream failed midway") from None
                stall.begin()
                await self.write(frame)
                self._sent += len(frame)
            stall.begin()
            await self.write_eof()
