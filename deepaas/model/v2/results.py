"""What `predict` returned, as the answer's media type and bytes or file."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import io
import json
import math
import os
import tempfile
import uuid
from collections.abc import Mapping, Set
from typing import Any
from urllib.parse import quote

import orjson
from marshmallow import Schema, ValidationError

from deepaas.model.v2.exchange import Reply
from deepaas.model.v2.media import JSON
from deepaas.model.v2.streams import EVENTS, NDJSON, frame

MAX_INLINE = 1024 * 1024
"""Bytes; a larger body is handed over as a file."""

# Times are passed through since orjson drops a zero of some microseconds.
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATETIME


class UnusableResultError(Exception):
    """What predict returned cannot be sent: not as JSON, as this media type, or by its schema."""

    def __init__(self, message: str, code: str = "result_not_encodable") -> None:
        super().__init__(message)
        self.code = code


class ResultSchema:
    """The form that a model declares for what its `predict` returns."""

    def __init__(self, declared: Any) -> None:
        """Take a dictionary of fields or a Schema, as class or instance; TypeError otherwise."""
        if isinstance(declared, type) and issubclass(declared, Schema):
            self.schema, name = declared(), declared.__name__
        elif isinstance(declared, Schema):
            self.schema, name = declared, type(declared).__name__
        elif isinstance(declared, Mapping):
            self.schema, name = Schema.from_dict(dict(declared))(), "ModelPredictionResponse"
        else:
            raise TypeError(
                f"schema is {type(declared).__name__}, neither fields nor a marshmallow Schema"
            )
        self.name = name.removesuffix("Schema") or name

    def check(self, value: Any) -> None:
        """Raise UnusableResultError if `value` is not of this form."""
        try:
            self.schema.load(value)
        except ValidationError as error:
            raise UnusableResultError(
                f"The model's result is not of the form it declares: {error.messages}",
                code="result_violates_schema",
            ) from None


def encode(value: Any, media_type: str, schema: ResultSchema | None = None) -> Reply:
    """The answer for what predict returned. Raises UnusableResultError if there is none."""
    if media_type == JSON:
        if schema is not None:
            schema.check(value)
            body = to_json(value)
        else:
            body = to_json({"status": "OK", "predictions": value})
        return reply_with(body, None)
    headers = {"Content-Type": media_type}
    filename = _filename(value)
    if filename:
        headers["Content-Disposition"] = f'attachment; filename="{filename}"'
    if _is_open_file(value):
        return Reply(headers=headers, fd=_reopen(value))
    return reply_with(_to_bytes(value, media_type), headers)


def encode_item(value: Any, media_type: str, schema: ResultSchema | None = None) -> bytes:
    """The bytes of one item of a stream. Raises UnusableResultError if there are none."""
    if media_type not in (EVENTS, NDJSON):
        return _to_bytes(value, media_type)
    if schema is not None:
        schema.check(value)
    if isinstance(value, bytes | bytearray | memoryview):
        value = _text_of(bytes(value))
    return frame(media_type, to_json(value))


def _text_of(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise UnusableResultError("The model yielded bytes that are no text in UTF-8") from None


def to_json(value: Any) -> bytes:
    """JSON in UTF-8, with numpy, sets, dates, UUIDs; NaN and infinities are null.

    Raises UnusableResultError for what JSON cannot hold.
    """
    try:
        return orjson.dumps(value, default=_default, option=_OPTIONS)
    except (TypeError, RecursionError) as error:
        # Integers above 64 bits and lone surrogates are JSON too, but not orjson's.
        try:
            return json.dumps(_plain(value), allow_nan=False).encode()
        except Exception:
            cause = error.__cause__ or error
            raise UnusableResultError(f"The model's result is no JSON: {cause}") from None


def to_plain(value: Any) -> Any:
    """The same in types of JSON; what it cannot hold becomes its text. Never raises."""
    try:
        return orjson.loads(orjson.dumps(value, default=_default_or_text, option=_OPTIONS))
    except (TypeError, ValueError, RecursionError):
        return _text(value)


def _default_or_text(value: Any) -> Any:
    try:
        return _default(value)
    except Exception:
        return _text(value)


def _text(value: Any) -> str:
    try:
        return str(value).encode("utf-8", "backslashreplace").decode()
    except Exception:
        return f"<{type(value).__name__}>"


def _default(value: Any) -> Any:
    """What orjson asks when it does not know a type."""
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Set):
        return list(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    tolist = getattr(value, "tolist", None)  # numpy arrays orjson cannot read, tensors, series
    if callable(tolist):
        plain = tolist()
        return float(plain) if type(plain) is type(value) else plain  # numpy.longdouble
    raise TypeError(f"{type(value).__name__} cannot be encoded")


def _plain(value: Any) -> Any:
    """The same value in types that the json module knows."""
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {_plain_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | Set):
        return [_plain(item) for item in value]
    if isinstance(value, uuid.UUID):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: _plain(getattr(value, name)) for name in names}
    return _plain(_default(value))


def _plain_key(key: Any) -> Any:
    plain = _plain(key)
    if isinstance(plain, list | dict):
        raise TypeError(f"a key that is a {type(key).__name__} cannot be encoded")
    return plain


def reply_with(body: bytes, headers: Mapping[str, str] | None, status: int = 200) -> Reply:
    """A reply with this body, in a file if it is large."""
    if len(body) <= MAX_INLINE:
        return Reply(status, body, headers)
    with tempfile.TemporaryFile() as file:
        file.write(body)
        file.flush()
        return Reply(status, headers=headers, fd=os.dup(file.fileno()))


def _is_open_file(value: Any) -> bool:
    """An open file with a name in the file system, whatever wraps it."""
    if not isinstance(getattr(value, "name", None), str | os.PathLike):
        return False
    try:
        value.fileno()
    except (AttributeError, OSError):  # such as a BytesIO that was given a name
        return False
    except ValueError:  # closed
        return True
    return True


def _reopen(value: Any) -> int:
    """A descriptor of the file from its start, with all that has been written to it."""
    try:
        if not value.closed and value.writable():
            value.flush()
        return os.open(value.name, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise UnusableResultError(f"The model's result file cannot be opened: {error}") from None


def _filename(value: Any) -> str:
    name = getattr(value, "name", None)
    if not isinstance(name, str | os.PathLike) or not callable(getattr(value, "read", None)):
        return ""
    return quote(
        os.path.basename(os.fspath(name)), safe="~!#$&+^`{}|()[]@,", errors="surrogateescape"
    )


def _to_bytes(value: Any, media_type: str) -> bytes:
    if value is None:
        return b""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, io.IOBase) or callable(getattr(value, "read", None)):
        if _stands_at_its_end(value):
            value.seek(0)
        value = value.read()
        if isinstance(value, str | bytes | bytearray | memoryview):
            return _to_bytes(value, media_type)
    raise UnusableResultError(
        f"The model returned {type(value).__name__} where {media_type} was asked for; "
        "that takes bytes, str, an open file or BytesIO"
    )


def _stands_at_its_end(value: Any) -> bool:
    """A file that its author has written and returned as it was."""
    try:
        position = value.tell()
        end = value.seek(0, io.SEEK_END)
        if end is None:  # as SpooledTemporaryFile before Python 3.11
            end = value.tell()
        value.seek(position)
    except (AttributeError, OSError, ValueError):  # nothing that can be sought in
        return False
    return bool(0 < position == end)
