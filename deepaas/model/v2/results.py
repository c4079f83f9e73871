"""Encode the return value of `predict` as a reply: bytes or a file, with a media type."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from marshmallow import Schema, ValidationError

from deepaas.model.v2 import json_encoder
from deepaas.model.v2.exchange import Reply
from deepaas.model.v2.headers import ImpossibleHeaderError, check_header
from deepaas.model.v2.media import JSON, specific_type
from deepaas.streams import EVENTS, NDJSON, frame


class UnusableResultError(Exception):
    """The return value of predict cannot be sent: it cannot be encoded, or violates the schema."""

    def __init__(self, message: str, code: str = "result_not_encodable") -> None:
        super().__init__(message)
        self.code = code


class ResultSchema:
    """The schema that a model declares for the return value of `predict`."""

    def __init__(self, declared: Any) -> None:
        """Accept a dictionary of fields, or a Schema class or instance; else raise TypeError."""
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
        """Raise UnusableResultError if `value` does not match the schema."""
        try:
            self.schema.load(value)
        except ValidationError as error:
            raise UnusableResultError(
                f"The model's result does not match its schema: {error.messages}",
                code="result_violates_schema",
            ) from None


def encode(value: Any, media_type: str, schema: ResultSchema | None = None) -> Reply:
    """Return the reply for the return value of predict. Raises UnusableResultError."""
    if media_type == JSON:
        if schema is not None:
            schema.check(value)
            body = to_json(value)
        else:
            body = to_json({"status": "OK", "predictions": value})
        return Reply(body=body)
    filename = _filename(value)
    headers = {"Content-Type": specific_type(media_type, filename)}
    if filename:
        headers["Content-Disposition"] = f'attachment; filename="{filename}"'
    _check(headers)
    if _is_open_file(value):
        return Reply(headers=headers, fd=_reopen(value))
    return Reply(body=_to_bytes(value, media_type), headers=headers)


def _check(headers: Mapping[str, str]) -> None:
    try:
        for name, value in headers.items():
            check_header(name, value)
    except ImpossibleHeaderError as problem:
        raise UnusableResultError(str(problem), code=problem.code) from None


def encode_item(value: Any, media_type: str, schema: ResultSchema | None = None) -> bytes:
    """Return the bytes of one item of a stream. Raises UnusableResultError."""
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
        raise UnusableResultError("The model yielded bytes that are not UTF-8") from None


def to_json(value: Any) -> bytes:
    """Return a result as JSON text in UTF-8. Raises UnusableResultError."""
    try:
        return json_encoder.to_json(value)
    except json_encoder.NotJSONError as error:
        raise UnusableResultError(f"The model's result is not JSON: {error}") from None


def _is_open_file(value: Any) -> bool:
    """Return whether the value is an open file with a path, or an object that wraps one."""
    if not isinstance(getattr(value, "name", None), str | os.PathLike):
        return False
    try:
        value.fileno()
    except (AttributeError, OSError):  # for example, a BytesIO with a name attribute
        return False
    except ValueError:  # closed
        return True
    return True


def _reopen(value: Any) -> int:
    """Return a new descriptor at the start of the file, after flushing buffered data."""
    try:
        if value.closed:
            return os.open(value.name, os.O_RDONLY | os.O_CLOEXEC)
        if value.writable():
            value.flush()
        return _open_again(value)
    except (OSError, ValueError) as error:
        raise UnusableResultError(f"The model's result file cannot be opened: {error}") from None


def _open_again(value: Any) -> int:
    """Open the same file again: by name, unless the name is missing or names another file."""
    own = os.fstat(value.fileno())
    with contextlib.suppress(OSError):
        fd = os.open(value.name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        if os.path.samestat(own, os.fstat(fd)):
            return fd
        os.close(fd)
    return os.open(f"/proc/self/fd/{value.fileno()}", os.O_RDONLY | os.O_CLOEXEC)


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
        if _is_at_end(value):
            value.seek(0)
        value = value.read()
        if isinstance(value, str | bytes | bytearray | memoryview):
            return _to_bytes(value, media_type)
    raise UnusableResultError(
        f"The model returned {type(value).__name__} where {media_type} was requested; "
        "this requires bytes, str, an open file or BytesIO"
    )


def _is_at_end(value: Any) -> bool:
    """Return whether the file position is at the end: the author wrote it and did not rewind it."""
    try:
        position = value.tell()
        end = value.seek(0, io.SEEK_END)
        if end is None:  # SpooledTemporaryFile before Python 3.11 returns None
            end = value.tell()
        value.seek(position)
    except (AttributeError, OSError, ValueError):  # not seekable
        return False
    return bool(0 < position == end)
