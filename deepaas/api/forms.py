"""Multipart forms: their files go to disk as they come, their texts to memory."""

from __future__ import annotations

import email.message
import functools
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from deepaas.exceptions import BadRequestError, TooLargeError
from deepaas.model.v2.exchange import FilePart

MAX_CONTENT_TYPE = 1000
"""Characters; a boundary has 70 at the most, and parsing takes time that grows with the square."""

# What clients send is told to them, not to the log.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


class Writable(Protocol):
    """What is asked of a file."""

    def write(self, data: memoryview, /) -> int: ...
    def close(self) -> None: ...


NewFile = Callable[[], tuple[str, Writable]]


@dataclass
class _Part:
    name: str
    filename: str
    content_type: str
    charset: str
    path: str = ""
    file: Writable | None = None
    text: bytearray = field(default_factory=bytearray)


class Form:
    """A multipart form that is being read. Raises BadRequestError where it is malformed."""

    def __init__(self, content_type: str, max_parts: int, max_text: int, new_file: NewFile) -> None:
        self._max_parts = max_parts
        self._max_text = max_text
        self._new_file = new_file
        self._parts: list[_Part] = []
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._headers: dict[str, bytes] = {}
        self._text_size = 0
        self._ended = False
        if len(content_type) > MAX_CONTENT_TYPE:
            raise BadRequestError("The Content-Type of the multipart body is too long")
        boundary = _parameters("content-type", content_type.encode("utf-8", "replace")).get(
            "boundary", ""
        )
        if not boundary or len(boundary) > 70:
            raise BadRequestError("The multipart body has no usable boundary")
        self._parser = MultipartParser(
            boundary.encode("utf-8", "replace"),
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_name,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise BadRequestError(f"The multipart body is malformed: {error}") from None

    def finish(self) -> list[tuple[str, str | FilePart]]:
        """The parts by name, in their order, once all of the body has been fed."""
        if not self._ended:
            raise BadRequestError("The multipart body ends before its final boundary")
        return [(part.name, _value(part)) for part in self._parts]

    def close(self) -> None:
        """Close the file that was being written, if the body broke off."""
        for part in self._parts:
            if part.file is not None:
                part.file.close()

    def _on_part_begin(self) -> None:
        if len(self._parts) >= self._max_parts:
            raise TooLargeError(f"The form has more than {self._max_parts} parts")
        self._headers = {}

    def _on_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        name = self._header_name.decode("latin-1").strip().lower()
        self._headers[name] = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _on_headers_finished(self) -> None:
        disposition = _parameters(
            "content-disposition", self._headers.get("content-disposition", b"")
        )
        if "name" not in disposition:
            raise BadRequestError("A part of the multipart body has no name")
        content_type = self._headers.get("content-type", b"")
        part = _Part(
            name=disposition["name"],
            filename=_base_name(disposition.get("filename", "")),
            content_type=content_type.decode("latin-1").strip(),
            charset=_parameters("content-type", content_type).get("charset", "utf-8"),
        )
        if disposition.get("filename"):
            part.path, part.file = self._new_file()
        self._parts.append(part)

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        part = self._parts[-1]
        view = memoryview(data)[start:end]
        if part.file is not None:
            _write_all(part.file, view)
            return
        self._text_size += len(view)
        if self._text_size > self._max_text:
            raise TooLargeError(
                f"The texts of the form have more than {self._max_text} bytes; "
                "send large ones as files"
            )
        part.text += view

    def _on_part_end(self) -> None:
        part = self._parts[-1]
        if part.file is not None:
            part.file.close()

    def _on_end(self) -> None:
        self._ended = True


def clean(text: str) -> str:
    """The same, with U+FFFD for what is no character, such as a byte that was no UTF-8."""
    return (
        text if text.isascii() else text.encode("utf-8", "surrogatepass").decode(errors="replace")
    )


def _write_all(file: Writable, view: memoryview) -> None:
    """Write all of `view`: an unbuffered file may take less at once."""
    while view:
        view = view[file.write(view) :]


def _value(part: _Part) -> str | FilePart:
    if part.path:
        content_type = part.content_type or "application/octet-stream"
        return FilePart(part.path, content_type, part.filename)
    try:
        return clean(part.text.decode(part.charset, "replace"))
    except (LookupError, ValueError):
        raise BadRequestError(f"Unknown charset {part.charset[:40]!r} in the form") from None


@functools.lru_cache(maxsize=256)  # most forms have the same few headers
def _parameters(header: str, value: bytes) -> Mapping[str, str]:
    """The parameters of a header's value, their RFC 2231 forms decoded."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    message = email.message.Message()
    message[header] = " ".join(text.splitlines())
    try:
        parameters = message.get_params([], header)[1:]
    except (ValueError, LookupError, TypeError):
        raise BadRequestError(f"The {header} of the multipart body is malformed") from None
    found: dict[str, str] = {}
    for name, parameter in parameters:
        if isinstance(parameter, tuple):  # the extended form goes before the plain one
            charset, _, raw = parameter
            found[name.lower()] = _redecode(raw, charset)
        else:
            found.setdefault(name.lower(), parameter)
    return found


def _redecode(raw: str, charset: str | None) -> str:
    try:
        return clean(raw.encode("latin-1").decode(charset or "utf-8", "replace"))
    except (LookupError, ValueError):
        return clean(raw)


def _base_name(filename: str) -> str:
    """The client's name without its folders, be they written in one way or the other."""
    return os.path.basename(filename.replace("\\", "/")).replace("\0", "") if filename else ""
