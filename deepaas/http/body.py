"""Reads a request's body: small bodies into memory, large ones and uploads into files."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace

from aiohttp import HttpVersion11, StreamReader, hdrs, web

from deepaas.exceptions import (
    RequestError,
    RequestTimeoutError,
    TooLargeError,
)
from deepaas.file_part import FilePart
from deepaas.header_parameters import clean
from deepaas.http.aiohttp_adapter import send_continue, set_error
from deepaas.http.encodings import PIECE, Decompressor, content_coding
from deepaas.http.files import RequestFiles
from deepaas.http.forms import Form
from deepaas.http.stall_timer import BodyWait, RateMonitor, StallTimer

IN_MEMORY = 120 * 1024
"""Bytes of a body that stays in memory, and fits in a packet; a larger body goes to a file."""

SMALL = 1024
"""Bytes; pieces of a body below this size are joined, up to this many bytes."""

COMPRESSED_STEP = 64 * 1024
"""At most this many bytes of a compressed body are decompressed without a pause."""

PIECE_COST = 256
"""Bytes that are added to the size of each piece, for the fixed work per piece."""


@dataclass(frozen=True)
class BodyLimits:
    """The limits of a request, and the directory of its files. 0 is no limit.

    In bytes: `head` is for a request line with its headers, `heads_memory` for all unfinished heads
    together, `size` for a body, `decompressed` for a compressed body after decompression, `json`
    for a JSON body, `text` for all texts of a multipart form. `parts` is the number of parts of
    such a form. In seconds: a client may send nothing for `receive_timeout`, and must send `rate`
    bytes per second in each `rate_window`. `receiving` has the bodies that are being received now.
    """

    head: int = 64 * 1024
    heads_memory: int = 64 * 1024 * 1024
    size: int = 0
    decompressed: int = 256 * 1024 * 1024
    parts: int = 1000
    text: int = 4 * 1024 * 1024
    json: int = 0
    receive_timeout: float = 60
    rate: int = 1024
    rate_window: float = 30
    receiving: set[StreamReader] = field(default_factory=set)
    directory: str = ""
    is_of_parsed_body: bool = False

    def of_parsed_body(self) -> BodyLimits:
        """Return the limits of a body that a worker parses as a whole in memory."""
        if self.size and self.size <= self.json:
            return self
        return replace(self, size=self.json, is_of_parsed_body=True)


@dataclass(slots=True)
class Body:
    """The body of a request.

    `form` has the parts of a multipart body in order; parts that are plain text are str. Any other
    body is in `data`, or in the file `path` if it is large.
    """

    content_type: str
    data: bytes = b""
    path: str = ""
    form: list[tuple[str, str | FilePart]] | None = None


async def read_body(request: web.BaseRequest, limits: BodyLimits, files: RequestFiles) -> Body:
    """Read the body of a request.

    Raises TooLargeError beyond the limits, UnsupportedEncodingError for a compression that the
    server does not know, and BadRequestError for a malformed body.
    """
    headers = request.headers
    body = Body(clean(headers.get(hdrs.CONTENT_TYPE, "")))
    if not request.can_read_body:
        return body
    if limits.json and _is_parsed_whole(body.content_type):
        limits = limits.of_parsed_body()
    if limits.size and (request.content_length or 0) > limits.size:
        raise _too_large(limits)
    coding = ""
    if hdrs.CONTENT_ENCODING in headers:
        coding = content_coding(headers.getall(hdrs.CONTENT_ENCODING))
    if headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await send_continue(request)
    is_form = body.content_type[:10].lower() == "multipart/"
    if not is_form and not coding and _is_here(request):  # the usual case
        body.data = request.content.read_nowait()
        if limits.size and len(body.data) > limits.size:
            raise _too_large(limits)
        return body
    data = _chunks(request, limits)
    if coding:
        data = _decompressed(data, coding, limits)
    async with contextlib.aclosing(data):
        await (_read_form if is_form else _read_plain)(data, limits, files, body)
    if files:
        await files.finish()
    return body


def _is_here(request: web.BaseRequest) -> bool:
    """Return whether the whole body has arrived, and is small."""
    return request.content.is_eof() and request.content.total_bytes <= IN_MEMORY


async def _read_form(
    data: AsyncGenerator[bytes], limits: BodyLimits, files: RequestFiles, body: Body
) -> None:
    form = Form(body.content_type, limits.parts, limits.text, files.new, limits.json)
    with contextlib.closing(form):
        async for chunk in data:
            for number, piece in enumerate(form.pieces(chunk)):
                if number:  # the chunk has many parts
                    await asyncio.sleep(0)
                form.feed(piece)
                await files.flush()
            chunk = piece = b""  # so that the next chunk can reuse the memory
        body.form = form.finish()


async def _read_plain(
    data: AsyncGenerator[bytes], limits: BodyLimits, files: RequestFiles, body: Body
) -> None:
    chunks = []
    size = 0
    async for chunk in data:
        chunks.append(chunk)
        size += len(chunk)
        if size > IN_MEMORY:
            break
    else:
        body.data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        return
    body.path, file = files.new()
    for chunk in chunks:
        file.write(chunk)
    async for chunk in data:
        file.write(chunk)
        await files.flush()


async def _decompressed(
    data: AsyncGenerator[bytes], coding: str, limits: BodyLimits
) -> AsyncGenerator[bytes]:
    """Decompress `data`, with pauses for the event loop's other work."""
    decompressor = Decompressor(coding)
    size = 0
    since_pause = 0
    async with contextlib.aclosing(data):
        async for chunk in data:
            for start in range(0, len(chunk), COMPRESSED_STEP):
                step = chunk[start : start + COMPRESSED_STEP]
                since_pause += len(step) * PIECE // COMPRESSED_STEP
                for piece in decompressor.feed(step):
                    size += len(piece)
                    _check_decompressed(size, limits)
                    if piece:
                        yield piece
                    since_pause += len(piece) + PIECE_COST
                    if since_pause >= PIECE:
                        since_pause = 0
                        await asyncio.sleep(0)
    decompressor.finish()


def _check_decompressed(size: int, limits: BodyLimits) -> None:
    if limits.size and size > limits.size:
        raise _too_large(limits)
    if limits.decompressed and size > limits.decompressed:
        raise TooLargeError(
            f"The request body is larger than {limits.decompressed} bytes after decompression; "
            "send it uncompressed, or send less at a time"
        )


async def _chunks(request: web.BaseRequest, limits: BodyLimits) -> AsyncGenerator[bytes]:
    """Yield the pieces of the body as they arrive, with pauses for the event loop's other work."""
    content = request.content
    size = 0
    limits.receiving.add(content)
    try:
        with _waiting(content, limits) as waits:
            while True:
                waits.begin()
                try:
                    chunk, more = await content.readchunk()  # readany() would join the pieces
                except RequestError:
                    chunk, more = _read_before_failure(content), True
                    if not chunk:
                        raise
                is_small = 0 < len(chunk) < SMALL
                if is_small and not (content.at_eof() or content.exception()):
                    chunk += content.read_nowait(SMALL)
                waits.end(len(chunk))
                size += len(chunk)
                if limits.size and size > limits.size:
                    raise _too_large(limits)
                if chunk:
                    yield chunk
                    chunk = b""
                elif not more:
                    return
                if is_small:
                    await asyncio.sleep(0)
    finally:
        limits.receiving.discard(content)


def _read_before_failure(content: StreamReader) -> bytes:
    """Return the unread bytes of a body that has failed.

    So an error in these bytes is reported first, as if they had come in a separate segment.
    """
    error = content.exception()
    set_error(content, None)
    data = content.read_nowait()
    set_error(content, error)
    return data


def _waiting(content: StreamReader, limits: BodyLimits) -> BodyWait:
    """Return timers that refuse a client that sends this body too slowly."""
    seconds, rate, window = limits.receive_timeout, limits.rate, limits.rate_window
    return BodyWait(
        StallTimer(seconds, lambda: set_error(content, _too_late(seconds))),
        RateMonitor(rate, window, lambda: set_error(content, _too_slow(rate, window))),
    )


WRONG_CODING = (
    "Send the body either with Content-Length or with Transfer-Encoding: chunked; other transfer "
    "codings are not supported, and HTTP/1.0 has only Content-Length"
)


def is_plainly_chunked(request: web.BaseRequest) -> bool:
    """Return whether the request's Transfer-Encoding is `chunked` and cannot be misread.

    A proxy may read any other value differently, and then see other requests than this server.
    """
    codings = request.headers.getall(hdrs.TRANSFER_ENCODING)
    return (
        [coding.strip().lower() for coding in codings] == ["chunked"]
        and hdrs.CONTENT_LENGTH not in request.headers
        and request.version >= HttpVersion11
    )


def stop_receiving(limits: BodyLimits, error: RequestError) -> None:
    """End the requests whose bodies are being received with `error`."""
    for content in list(limits.receiving):
        set_error(content, error)


def _too_late(seconds: float) -> RequestTimeoutError:
    return RequestTimeoutError(f"No more of the request body has arrived for {seconds:g} s")


def _too_slow(rate: int, window: float) -> RequestTimeoutError:
    return RequestTimeoutError(
        f"The request body arrives too slowly: less than {rate} bytes per second for {window:g} s"
    )


def _too_large(limits: BodyLimits) -> TooLargeError:
    if limits.is_of_parsed_body:
        return TooLargeError(
            f"The request body is larger than {limits.size} bytes, the limit for JSON and "
            "urlencoded forms; send large data as files in a multipart form"
        )
    return TooLargeError(f"The request body is larger than {limits.size} bytes")


def _is_parsed_whole(content_type: str) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type in _PARSED_WHOLE or media_type.endswith("+json")


_PARSED_WHOLE = ("application/json", "application/x-www-form-urlencoded")
