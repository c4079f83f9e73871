"""Streamed responses: their media types, and the encoding of an item and of an error.

The server and the workers share these functions.
"""

from __future__ import annotations

import orjson

JSON = "application/json"
EVENTS = "text/event-stream"
NDJSON = "application/x-ndjson"


def stream_type(accept: str, media_type: str) -> str:
    """Return the media type of a stream: events if the client requests them, else the model's.

    `accept` is the client's Accept header. JSON becomes NDJSON: one value per line.
    """
    if EVENTS in accept.lower():
        return EVENTS
    return NDJSON if media_type == JSON else media_type


def stream_headers(media_type: str) -> dict[str, str]:
    """Return the headers of the response; those for events prevent buffering by proxies."""
    headers = {"Content-Type": media_type}
    if media_type == EVENTS:
        headers |= {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return headers


def frame(media_type: str, json: bytes) -> bytes:
    """Return a JSON item as an event or a line of a stream."""
    return b"data: " + json + b"\n\n" if media_type == EVENTS else json + b"\n"


def error_frame(media_type: str, code: str, message: str, request_id: str = "") -> bytes | None:
    """Return the bytes that end a stream after an error; None if its media type cannot express an
    error."""
    error = {"message": message, "code": code}
    if request_id:
        error["request_id"] = request_id
    if media_type == EVENTS:
        return b"event: error\n" + frame(EVENTS, orjson.dumps(error))
    if media_type == NDJSON:
        return frame(NDJSON, orjson.dumps({"error": error}))
    return None
