"""Arguments of requests: from the examples of a model, or made from the description of its fields.

An argument is one in the neutral description of a model, see docs/description.md.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from deepaas import exact_json

Json = dict[str, Any]
Arguments = list[Json]


class NoValueError(Exception):
    """No value can be made for an argument; the text names it."""


@dataclass(frozen=True)
class MadeFile:
    """A small file that was made for an argument."""

    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True)
class Request:
    """The arguments of a request, and a short text about it for findings.

    `is_declared` says whether the author has declared it as an example. `is_certain` says whether
    predict must not raise: it is declared, or has no file and no free text that was made up.
    """

    values: Json
    label: str
    is_certain: bool
    is_declared: bool = False

    def changed(self, name: str, value: Any) -> Request:
        """Return the request with another value of one argument."""
        values = {**self.values, name: value}
        return Request(values, _label(values), self.is_certain)


def of_example(example: Json, arguments: Arguments) -> Request:
    """Return the request for a declared example. Secrets, which examples do not show, are made.

    Raises NoValueError.
    """
    missing = [one for one in arguments if one["required"] and one["name"] not in example]
    values = {**example, **{one["name"]: value_of(one, {}) for one in missing}}
    return Request(values, _label(example, "the example"), not missing, not missing)


def made(
    arguments: Arguments, schemas: Mapping[str, Json], *, small: bool = False, files: bool = False
) -> Request:
    """Return a request with the required arguments.

    `small`: also with small whole numbers; `files`: also with all files. Raises NoValueError.
    """
    required = [one for one in arguments if one["required"] or (files and one["file"])]
    values = {one["name"]: value_of(one, schemas) for one in required}
    certain = all(_is_narrow(one) for one in required)
    if small:
        values |= {
            one["name"]: max(1, one["schema"].get("minimum", 1))
            for one in arguments
            if one["kind"] == "integer" and not one["required"] and not one["choices"]
        }
    return Request(values, _label(values), certain)


def value_of(argument: Json, schemas: Mapping[str, Json]) -> Any:
    """Return a small valid value for an argument. Raises NoValueError."""
    if argument["examples"]:
        return argument["examples"][0]
    if argument["choices"]:
        value = argument["choices"][0]["value"]
        return [value] if argument["kind"] == "list" else value
    if argument["file"]:
        file = _file(argument["file"]["accept"])
        return [file] if argument["item_kind"] == "file" else file
    try:
        return _of_schema(argument["schema"], schemas, 0)
    except NoValueError:
        raise NoValueError(argument["name"]) from None


def variants(argument: Json) -> Iterator[Any]:
    """Yield values that the field of an argument accepts, or says that it accepts."""
    schema = argument["schema"]
    if argument["name"] == "accept" or argument["secret"] or argument["file"]:
        return
    is_list = argument["kind"] == "list"
    for choice in argument["choices"][:8]:
        yield [choice["value"]] if is_list else choice["value"]
    if argument["kind"] == "boolean" and not argument["choices"]:
        yield from (True, False)
    if argument["kind"] in ("integer", "number") and not argument["choices"]:
        if "minimum" in schema:
            yield schema["minimum"]
        if schema.get("maximum", 2) <= 1:  # a larger number may take long
            yield schema["maximum"]
    if argument["nullable"]:
        yield None


def short(value: Any) -> str:
    """Return a short text with the value, as JSON shows it."""
    text = exact_json.dumps(value, repr).decode(errors="replace")
    return text if len(text) <= 80 else f"{text[:79]}…"


def _label(values: Json, what: str = "the arguments") -> str:
    if not values:
        return "a request without arguments"
    return f"{what} {short({name: _shown(value) for name, value in values.items()})}"


def _shown(value: Any) -> Any:
    if isinstance(value, MadeFile):
        return value.name
    if isinstance(value, dict) and set(value) == {"file", "media_type", "size"}:
        return value["file"]
    return [_shown(one) for one in value] if isinstance(value, list) else value


def _is_narrow(argument: Json) -> bool:
    """Return whether each value that the field accepts should be one that the model can use."""
    if argument["examples"] or argument["choices"]:
        return True
    return (
        argument["kind"] in ("integer", "number", "boolean", "date", "uuid")
        and not (argument["notes"])
    )


# --- values for a JSON Schema


_FORMATS = {
    "date": "2026-01-02",
    "date-time": "2026-01-02T03:04:05+00:00",
    "date-time-local": "2026-01-02T03:04:05",
    "time-local": "03:04:05",
    "uuid": "6f1ed002-ab59-4b3c-9b7b-3a0e2f4e2c11",
    "uri": "https://example.org/",
    "email": "someone@example.org",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}
_MAX_DEPTH = 8


def _of_schema(schema: Json, schemas: Mapping[str, Json], depth: int) -> Any:
    if depth > _MAX_DEPTH or "pattern" in schema:
        raise NoValueError
    if "$ref" in schema:
        return _of_schema(schemas.get(schema["$ref"].rpartition("/")[2], {}), schemas, depth + 1)
    for key in ("examples", "enum"):
        if schema.get(key):
            return schema[key][0]
    for key in ("default", "const"):
        if key in schema:
            return schema[key]
    kind = schema.get("type")
    match kind[0] if isinstance(kind, list) else kind:
        case "integer" | "number" as kind:
            return _number(schema, kind)
        case "boolean":
            return True
        case "string":
            text = _FORMATS.get(schema.get("format", ""), "text")
            return text.ljust(schema.get("minLength", 0), "t")[: schema.get("maxLength")]
        case "array":
            if "prefixItems" in schema:
                return [_of_schema(one, schemas, depth + 1) for one in schema["prefixItems"]]
            item = _of_schema(schema.get("items", {}), schemas, depth + 1)
            return [item] * max(1, min(schema.get("minItems", 1), 1000))
        case "object":
            wanted = {key: schema.get("properties", {})[key] for key in schema.get("required", ())}
            return {key: _of_schema(one, schemas, depth + 1) for key, one in wanted.items()}
        case _:
            raise NoValueError


def _number(schema: Json, kind: str) -> float | int:
    step: float | int = 1 if kind == "integer" else 0.5
    low = schema.get("minimum", -float("inf"))
    high = schema.get("maximum", float("inf"))
    if "exclusiveMinimum" in schema:
        low = max(low, schema["exclusiveMinimum"] + step)
    if "exclusiveMaximum" in schema:
        high = min(high, schema["exclusiveMaximum"] - step)
    if low > high:
        raise NoValueError
    return step if low <= step <= high else low if low > -float("inf") else high


# --- small files


def _file(accepted: list[str]) -> MadeFile:
    wanted = " ".join(accepted).lower()
    if "audio" in wanted or ".wav" in wanted:
        return MadeFile("made.wav", "audio/wav", _wav())
    if "json" in wanted:
        return MadeFile("made.json", "application/json", b"{}")
    if "text" in wanted or ".txt" in wanted or ".csv" in wanted:
        return MadeFile("made.txt", "text/plain", b"text\n")
    return MadeFile("made.png", "image/png", _png())


def _png(size: int = 32) -> bytes:
    """Return a grey picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    rows = (b"\0" + b"\x80\x80\x80" * size) * size
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(kind, data)
        for kind, data in ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    )


def _wav(samples: int = 1600, rate: int = 16000) -> bytes:
    """Return a tenth of a second of silence."""
    data = bytes(2 * samples)
    form = struct.pack("<HHIIHH", 1, 1, rate, 2 * rate, 2, 16)
    return (
        b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<I", len(form))
        + form + b"data" + struct.pack("<I", len(data)) + data
    )  # fmt: skip
