"""The answers of models that yield: what they are called, and how an item and an error look.

The server and the workers share these.
"""

from __future__ import annotations

import orjson

from deepaas.model.v2.media import JSON

EVENTS = "text/event-stream"
NDJSON = "application/x-ndjson"


def stream_type(accept: str, media_type: str) -> str:
    """The media type of a stream: events for a client that asks for them, else the model's.

    `accept` is the client's Accept header; JSON becomes one value a line.
    """
    if EVENTS in accept.lower():
        return EVENTS
    return NDJSON if media_type == JSON else media_type


def stream_headers(media_type: str) -> dict[str, str]:
    """The headers of the answer; those for events keep proxies from holding them back."""
    headers = {"Content-Type": media_type}
    if media_type == EVENTS:
        headers |= {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return headers


def frame(media_type: str, json: bytes) -> bytes:
    """An item, which is JSON, as it stands in a stream of events or of lines."""
    return b"data: " + json + b"\n\n" if media_type == EVENTS else json + b"\n"


def error_frame(media_type: str, code: str, message: str) -> bytes | None:
    """What ends a stream that has failed midway; None if its media type has no room for that."""
    error = {"message": message, "code": code}
    if media_type == EVENTS:
        return b"event: error\n" + frame(EVENTS, orjson.dumps(error))
    if media_type == NDJSON:
        return frame(NDJSON, orjson.dumps({"error": error}))
    return None
