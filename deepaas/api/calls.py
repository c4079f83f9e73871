"""Makes the call for a model from a request."""

from __future__ import annotations

import re
from collections.abc import Sequence

from aiohttp import hdrs, web

from deepaas import context
from deepaas.context import TRACE_HEADERS
from deepaas.exceptions import BadRequestError
from deepaas.header_parameters import clean
from deepaas.http.body import BodyLimits, read_body
from deepaas.http.files import RequestFiles
from deepaas.http.request import Request
from deepaas.model.v2.exchange import Call
from deepaas.streams import EVENTS

MAX_TRACE = 8192
"""Characters of a trace header that are passed on; W3C Baggage allows as many."""


async def read_call(
    request: web.BaseRequest, wanted_headers: Sequence[str], limits: BodyLimits, files: RequestFiles
) -> Call:
    """Read a request and return it as a call for a model, with the wanted headers.

    Raises BadRequestError for a malformed header, and the errors of `read_body`.
    """
    headers = _headers(request, wanted_headers)
    query = _query(request.raw_path.partition("?")[2])
    body = await read_body(request, limits, files)
    return Call(query, body.content_type, headers, body.form, body.path, body.data)


def context_of(request: Request) -> str:
    """Return what a model may ask about a request, in the form of `context.packed`."""
    headers = request.headers
    trace = [_trace(headers.getall(name)) if name in headers else "" for name in TRACE_HEADERS]
    return context.packed(request.request_id, trace)


def _trace(values: Sequence[str]) -> str:
    """Return the value of a trace header, which may be sent in parts; "" if it is unusual."""
    value = ",".join(values)
    return value if value.isascii() and value.isprintable() and len(value) <= MAX_TRACE else ""


def _headers(request: web.BaseRequest, wanted: Sequence[str]) -> dict[str, str]:
    """Return the wanted headers, and Accept if the response may be a stream."""
    headers = request.headers
    found = {name.lower(): _header(name, headers[name]) for name in wanted if name in headers}
    if hdrs.ACCEPT in headers:
        accept = ", ".join(headers.getall(hdrs.ACCEPT))
        if EVENTS in accept.lower():
            found["accept"] = clean(accept)
    return found


def _query(text: str) -> str:
    """Return a query string in which bytes that are not UTF-8 are percent-encoded."""
    if text.isascii():
        return text
    return re.sub("[\udc80-\udcff]", lambda found: f"%{ord(found[0]) - 0xDC00:02X}", text)


def _header(name: str, value: str) -> str:
    """Return a header's value as text.

    Accept may have any bytes, because it is only compared with choices.
    """
    cleaned = clean(value)
    if cleaned != value and name.lower() != "accept":
        raise BadRequestError(f"The header {name} is not valid UTF-8")
    return cleaned
