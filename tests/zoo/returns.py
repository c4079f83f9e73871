"""Returns the requested kind of value, as JSON or as one of several media types."""

import io
import os
import tempfile
from typing import Any

from webargs import fields, validate

TYPES = ["application/json", "image/png", "text/plain", "application/zip"]


def get_predict_args() -> dict[str, Any]:
    return {
        "kind": fields.Str(required=True),
        "accept": fields.Str(validate=validate.OneOf(TYPES), location="headers"),
    }


def _file(name: str) -> Any:
    path = os.path.join(tempfile.mkdtemp(), name)
    with open(path, "wb") as out:
        out.write(b"file content")
    return open(path, "rb")


def _named(buffer: Any, name: Any) -> Any:
    buffer.name = name
    return buffer


def _read_on(buffer: Any) -> Any:
    buffer.read(3)
    return buffer


def _written(buffer: Any) -> Any:
    buffer.write(b"written")
    return buffer


KINDS: dict[str, Any] = {
    "none": lambda: None,
    "str": lambda: "héllo",
    "empty-str": lambda: "",
    "bytes": lambda: b"\x00\xff bytes",
    "bytearray": lambda: bytearray(b"array"),
    "bytesio": lambda: io.BytesIO(b"buffer"),
    "bytesio-named": lambda: _named(io.BytesIO(b"buffer"), "some/dir/result.png"),
    "bytesio-odd-name": lambda: _named(io.BytesIO(b"buffer"), 'a "b"\r\nX-Evil: 1é.png'),
    "bytesio-int-name": lambda: _named(io.BytesIO(b"buffer"), 7),
    "bytesio-read-on": lambda: _read_on(io.BytesIO(b"buffer")),
    "bytesio-written": lambda: _written(io.BytesIO()),
    "stringio": lambda: io.StringIO("text"),
    "file": lambda: _file("result.bin"),
    "file-read-on": lambda: _read_on(_file("result.bin")),
    "file-text": lambda: open(_file("result.txt").name, encoding="utf-8"),  # noqa: SIM115
    "file-named-temporary": lambda: _written(
        tempfile.NamedTemporaryFile(suffix=".zip")  # noqa: SIM115
    ),
    "file-odd-name": lambda: _file("my résult.bin"),
    "dict": lambda: {"a": 1},
    "list": lambda: [1, 2],
    "int": lambda: 5,
    "object": lambda: object(),
}


def predict(**kwargs: Any) -> Any:
    return KINDS[kwargs["kind"]]()
