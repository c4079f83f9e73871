"""The body of a request, as a call: small ones in memory, large ones and uploads in files."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from aiohttp import StreamReader, hdrs, web

from deepaas.api.files import RequestFiles
from deepaas.api.forms import Form, clean
from deepaas.api.patience import Patience
from deepaas.exceptions import RequestError, RequestTimeoutError, TooLargeError
from deepaas.model.v2.exchange import Call
from deepaas.model.v2.streams import EVENTS

IN_MEMORY = 120 * 1024
"""Bytes of a body that are kept in memory, to fit a packet; a larger one goes to a file."""


@dataclass(frozen=True)
class BodyLimits:
    """What a request's body may be, and where its files go.

    `size` is in bytes, 0 is no limit; `parts` and `text` (bytes) are those of a multipart form;
    `receive_timeout` is in seconds, 0 is no limit. `receiving` are those that are coming now.
    """

    size: int = 0
    parts: int = 1000
    text: int = 4 * 1024 * 1024
    receive_timeout: float = 60
    receiving: set[StreamReader] = field(default_factory=set)
    directory: str = ""


async def read_call(
    request: web.BaseRequest, wanted_headers: Sequence[str], limits: BodyLimits, files: RequestFiles
) -> Call:
    """The request as a call for a model, with those of its headers that are wanted.

    Raises TooLargeError beyond the limits, and BadRequestError for a malformed form.
    """
    headers = request.headers
    call = Call(
        query=clean(request.raw_path.partition("?")[2]),
        content_type=clean(headers.get(hdrs.CONTENT_TYPE, "")),
    )
    if wanted_headers:
        call.headers = {n.lower(): clean(headers[n]) for n in wanted_headers if n in headers}
    if hdrs.ACCEPT in headers:
        accept = ", ".join(headers.getall(hdrs.ACCEPT))
        if EVENTS in accept.lower():  # the answer may be a stream
            call.headers = {**call.headers, "accept": clean(accept)}
    if not request.can_read_body:
        return call
    if limits.size and (request.content_length or 0) > limits.size:
        raise _too_large(limits)
    if headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer proper has not begun
    if call.content_type[:10].lower() == "multipart/":
        form = Form(call.content_type, limits.parts, limits.text, files.new)
        with contextlib.closing(form):
            async for chunk in _chunks(request, limits):
                form.feed(chunk)
                await files.flush()
            call.form = form.finish()
    else:
        await _read_plain(request, limits, files, call)
    if files:
        await files.finish()
    return call


async def _read_plain(
    request: web.BaseRequest, limits: BodyLimits, files: RequestFiles, call: Call
) -> None:
    content = request.content
    if content.is_eof() and content.total_bytes <= IN_MEMORY:  # it is all there, as most are
        call.body = content.read_nowait()
        if limits.size and len(call.body) > limits.size:
            raise _too_large(limits)
        return
    chunks = []
    size = 0
    async for chunk in _chunks(request, limits):
        chunks.append(chunk)
        size += len(chunk)
        if size > IN_MEMORY:
            break
    else:
        call.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        return
    call.body_path, file = files.new()
    for chunk in chunks:
        file.write(chunk)
    async for chunk in _chunks(request, limits, size):
        file.write(chunk)
        await files.flush()


async def _chunks(
    request: web.BaseRequest, limits: BodyLimits, size: int = 0
) -> AsyncIterator[bytes]:
    """What comes of the body, as it comes; `size` bytes of it have come already."""
    content = request.content
    seconds = limits.receive_timeout
    limits.receiving.add(content)
    try:
        with Patience(seconds, lambda: content.set_exception(_too_slow(seconds))) as patience:
            while True:
                patience.begin()
                chunk, more = await content.readchunk()  # not readany(), which joins what has come
                patience.end()
                size += len(chunk)
                if limits.size and size > limits.size:
                    raise _too_large(limits)
                if chunk:
                    yield chunk
                elif not more:
                    return
    finally:
        limits.receiving.discard(content)


def stop_receiving(limits: BodyLimits, error: RequestError) -> None:
    """Let the requests whose bodies are coming now end with `error`."""
    for content in list(limits.receiving):
        content.set_exception(error)


def _too_slow(seconds: float) -> RequestTimeoutError:
    return RequestTimeoutError(f"Nothing more of the request body has come for {seconds:g} s")


def _too_large(limits: BodyLimits) -> TooLargeError:
    return TooLargeError(f"The request body is larger than {limits.size} bytes")
