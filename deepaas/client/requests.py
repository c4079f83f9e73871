"""The request for a call of a function: where each argument goes, and in which form."""

from __future__ import annotations

import io
import json
import mimetypes
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from deepaas.client.errors import UnsuitableArgumentError
from deepaas.client.interface import JSON, Argument, Function

OCTETS = "application/octet-stream"


@dataclass(frozen=True)
class File:
    """A file to send: the contents of a regular file at `path`, or else `data`."""

    name: str
    path: str = ""
    data: bytes = b""

    @property
    def content_type(self) -> str:
        return mimetypes.guess_type(self.name)[0] or OCTETS

    def open(self) -> BinaryIO:
        """Open the file for reading. Raises UnsuitableArgumentError."""
        if not self.path:
            return io.BytesIO(self.data)
        try:
            return open(self.path, "rb")
        except OSError as error:
            text = f"{self.path} cannot be read: {error.strerror}; give the path of a file"
            raise UnsuitableArgumentError(text) from None

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> File:
        """Return the file at a path; one that is not regular, such as a pipe, is read at once.

        Raises UnsuitableArgumentError if it cannot be read.
        """
        path = os.fspath(path)
        made = cls(os.path.basename(path), path=path)
        with made.open() as opened:
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                return cls(made.name, data=opened.read())
        return made


@dataclass
class Part:
    """A part of a multipart form: a file, or a text with its media type."""

    name: str
    value: str | File
    content_type: str = ""


@dataclass
class Request:
    """The parts of an HTTP request. The body is `parts` as a form, or else `json` unless None."""

    query: list[tuple[str, str]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    json: dict[str, Any] | None = None
    parts: list[Part] = field(default_factory=list)


def request_of(function: Function, arguments: Mapping[str, Any], accept: str = "") -> Request:
    """Return the request for a call.

    A value is one of JSON, a `File`, a `Path`, or a list of files. The body is JSON, unless a file
    or an argument that needs a form is sent. Raises UnsuitableArgumentError.
    """
    known = {one.name: one for one in function.arguments}
    for name in arguments:
        if name not in known:
            raise UnsuitableArgumentError(f"the model has no argument {name}")
    request = Request(headers={"Accept": accept} if accept else {})
    body = {name: _opened(v) for name, v in arguments.items() if known[name].place == "body"}
    for name, value in arguments.items():
        if known[name].place != "body":
            _add_text(request, known[name], value)
    files = [name for name, value in body.items() if _has_files(value)]
    for name in files:
        if not known[name].in_form:
            raise UnsuitableArgumentError(f"the argument {name} takes no file")
    only_form = [name for name in body if not known[name].in_json]
    if not files and not only_form:
        request.json = body if body else None
        return request
    for name, value in body.items():
        if not known[name].in_form:
            raise UnsuitableArgumentError(
                f"{name} can be sent only as JSON, and {(files or only_form)[0]} only in a form; "
                "leave out one of them"
            )
        request.parts += _parts(name, value)
    return request


def _opened(value: Any) -> Any:
    """Return the value with a File for each Path. Raises UnsuitableArgumentError."""
    if isinstance(value, Path):
        return File.at(value)
    return [_opened(one) for one in value] if isinstance(value, list) else value


def _has_files(value: Any) -> bool:
    return isinstance(value, File) or (isinstance(value, list) and any(map(_has_files, value)))


def _add_text(request: Request, argument: Argument, value: Any) -> None:
    """Add an argument to the query or to the headers."""
    texts = [_text(argument.name, one) for one in (value if isinstance(value, list) else [value])]
    if argument.place == "query":
        request.query += [(argument.name, text) for text in texts]
        return
    text = ", ".join(texts)
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise UnsuitableArgumentError(
            f"{argument.name} is sent in a header, which has no line breaks or control characters"
        )
    request.headers[argument.name] = text


def _parts(name: str, value: Any) -> list[Part]:
    if isinstance(value, File):
        return [Part(name, value, value.content_type)]
    if isinstance(value, list) and value and all(isinstance(one, File) for one in value):
        return [Part(name, one, one.content_type) for one in value]
    if isinstance(value, list | dict):
        return [Part(name, json.dumps(value), JSON)]
    return [Part(name, _text(name, value))]


def _text(name: str, value: Any) -> str:
    """Return a value as it stands in a form, a query or a header."""
    if value is None:
        raise UnsuitableArgumentError(f"{name} cannot be null here: only JSON has null")
    if isinstance(value, File):
        raise UnsuitableArgumentError(f"{name} takes no file")
    return value if isinstance(value, str) else json.dumps(value)
