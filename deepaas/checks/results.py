"""Compares the body of a response with what the model declares: its media type and its schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deepaas import exact_json
from deepaas.checks.values import Json

JSON = "application/json"
STREAMS = ("application/x-ndjson", "text/event-stream")

_BEGINNINGS = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/webp": (b"RIFF",),
    "image/tiff": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "audio/wav": (b"RIFF", b"RF64"),
    "audio/x-wav": (b"RIFF", b"RF64"),
    "audio/flac": (b"fLaC",),
    "audio/ogg": (b"OggS",),
    "application/pdf": (b"%PDF",),
    "application/zip": (b"PK\3\4", b"PK\5\6"),
    "application/gzip": (b"\x1f\x8b",),
}
"""What each file of these media types begins with."""


def essence(media_type: str) -> str:
    """Return a media type without its parameters, in lower case."""
    return media_type.partition(";")[0].strip().lower()


def problem_of_body(wanted: str, media_type: str, body: bytes) -> str:
    """Return why the body is not of the media type that was asked for; "" if nothing is wrong.

    `media_type` is that of the response. Only what is certain is a problem.
    """
    wanted, given = essence(wanted), essence(media_type)
    if not _matches(wanted, given):
        return f"the response has the media type {given or 'of nothing'}"
    if not body:
        return "the response is empty, because predict returns None or nothing"
    beginnings = _BEGINNINGS.get(given, ())
    if beginnings and not body.startswith(beginnings):
        actual = next((name for name, ones in _BEGINNINGS.items() if body.startswith(ones)), "")
        what = f"is of the type {actual}" if actual else f"begins with {body[:12]!r}"
        return f"the content {what}"
    if given.endswith("+json") or given == JSON:
        try:
            exact_json.loads(body)
        except ValueError:
            return f"the content is not JSON; it begins with {body[:12]!r}"
    return ""


def _matches(wanted: str, given: str) -> bool:
    if wanted == given or wanted == "*/*":
        return True
    main, _, subtype = wanted.partition("/")
    return subtype == "*" and given.startswith(f"{main}/")


def error_in_stream(media_type: str, body: bytes) -> str:
    """Return the message of the error with which a stream has ended; "" if there is none."""
    last = body.strip().splitlines()[-1:] or [b""]
    text = last[0].removeprefix(b"data:").strip()
    try:
        value = exact_json.loads(text)
    except ValueError:
        return ""
    error = value.get("error", value) if isinstance(value, dict) else None
    is_event = essence(media_type) != STREAMS[0]
    if is_event and b"event: error" not in body:
        return ""
    if isinstance(error, dict) and isinstance(error.get("message"), str) and "code" in error:
        return str(error["message"])
    return ""


# --- values and their JSON Schema

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}
_WORDS = {
    "string": "a text",
    "integer": "an integer",
    "number": "a number",
    "boolean": "a boolean",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_MAX_DEPTH = 20


def mismatch(value: Any, schema: Json, schemas: Mapping[str, Json], at: str = "") -> str:
    """Return the first place where a value has another type than its JSON Schema says; "" if there
    is none. Other keywords than types are not compared: marshmallow has checked them."""
    if len(at) > 200 or at.count(".") > _MAX_DEPTH:
        return ""
    if "$ref" in schema:
        inner = schemas.get(schema["$ref"].rpartition("/")[2], {})
        return mismatch(value, inner, schemas, at)
    named = schema.get("type", [])
    types = named if isinstance(named, list) else [named]
    if types and not any(_is_of(value, one) for one in types):
        wanted = " or ".join(_WORDS[one] for one in types)
        return f"{_word_of(value)} for {at or 'the result'}, which schema describes as {wanted}"
    if isinstance(value, dict):
        for name, inner in schema.get("properties", {}).items():
            if name in value:
                found = mismatch(value[name], inner, schemas, f"{at}.{name}" if at else repr(name))
                if found:
                    return found
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        for index, one in enumerate(value[:100]):
            if found := mismatch(one, schema["items"], schemas, f"{at}[{index}]"):
                return found
    return ""


def _word_of(value: Any) -> str:
    return next(_WORDS[name] for name in ("boolean", *_WORDS) if _is_of(value, name))


def _is_of(value: Any, name: str) -> bool:
    if name not in _TYPES:
        return True
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[name])
