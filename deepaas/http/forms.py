"""Multipart forms: plain texts stay in memory, all other parts go to disk as they arrive.

A plain text is a part without a file name whose type is text/plain, or not given. The worker
decides how to read each other part, because that depends on the argument.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from deepaas.charsets import is_charset
from deepaas.exceptions import BadRequestError, TooLargeError, UnsupportedEncodingError
from deepaas.file_part import FilePart
from deepaas.header_parameters import parameters
from deepaas.http.encodings import PartDecoder, part_decoder
from deepaas.http.filenames import base_name, extension

MAX_CONTENT_TYPE = 1000
"""Characters; a boundary has at most 70."""

MAX_PART_HEADERS = 16 * 1024
"""Bytes of all headers of one part; the parser allows 4 KiB for each header."""

LOOKED_AT = 4096
"""Bytes of a chunk that are searched for many parts; --client-max-parts limits the rest."""

PIECE_SIZE = 512
"""Bytes that are parsed without a pause if parts are small; they hold a dozen parts at most."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_POSITION = re.compile(r" (?:at \d+|\(\d+\))$")
"""Removed from messages: the parser counts from the start of a chunk, unknown to the client."""

# Errors in a form are reported to the client, not to the log.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


class Writable(Protocol):
    """A file that the parts of a form are written to."""

    def write(self, data: memoryview, /) -> int: ...
    def close(self) -> None: ...


NewFile = Callable[[str], tuple[str, Writable]]
"""Makes a file with this extension; returns its path, and the file open for writing."""


@dataclass
class _Part:
    name: str
    filename: str
    content_type: str
    charset: str
    decoder: PartDecoder | None
    max_in_memory: int = 0
    path: str = ""
    file: Writable | None = None
    text: bytearray = field(default_factory=bytearray)


class Form:
    """A parser of one multipart form. Methods raise BadRequestError if the form is malformed."""

    def __init__(
        self,
        content_type: str,
        max_parts: int,
        max_text: int,
        new_file: NewFile,
        max_json: int = 0,
    ) -> None:
        self._max_parts = max_parts
        self._max_text = max_text
        self._max_json = max_json
        self._new_file = new_file
        self._parts: list[_Part] = []
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._headers: dict[str, bytes] = {}
        self._headers_size = 0
        self._text_size = 0
        self._ended = False
        self._has_begun = False
        if len(content_type) > MAX_CONTENT_TYPE:
            raise BadRequestError("The Content-Type of the multipart body is too long")
        found = _parameters("content-type", content_type.encode("utf-8", "replace"))
        boundary = found.get("boundary", "").encode("utf-8", "replace")
        if not 0 < len(boundary) <= 70:
            raise BadRequestError("The multipart body has no usable boundary")
        self._line = b"\n--" + boundary
        self._preamble = b"\n"  # its last bytes; empty after the first boundary
        self._parser = MultipartParser(
            boundary,
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

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Cut the next bytes of the body into pieces with few parts each.

        The number of pieces depends only on the size, because the body of a part may have any
        number of lines that begin like a boundary.
        """
        if data.count(self._line, 0, LOOKED_AT) < 2:  # searching all of the data would take long
            yield data
            return
        start = 0
        while start < len(data) and not self._ended:  # the epilogue has no meaning
            end = data.find(self._line, start + PIECE_SIZE)
            end = len(data) if end < 0 else end
            yield data[start:end]
            start = end

    def feed(self, data: bytes) -> None:
        """Parse the next bytes of the body."""
        if not self._has_begun:
            data = self._after_preamble(data)
        if self._ended or not data:
            return
        try:
            self._parser.write(data)
        except FormParserError as error:
            fault = _POSITION.sub("", str(error))
            raise BadRequestError(f"The multipart body is malformed: {fault}") from None

    def _after_preamble(self, data: bytes) -> bytes:
        """Skip the bytes before the first boundary, which have no meaning, and return the rest."""
        first = self._line[1:]
        if data.startswith(first + b"\r\n") and len(self._preamble) == 1:
            self._preamble = b""
            self._has_begun = True
            return data  # most forms begin with the boundary; cutting it off would copy the data
        if self._preamble:
            data = self._preamble + data
            start = data.find(self._line)
            if start < 0:
                self._preamble = data[1 - len(self._line) :]
                return b""
            self._preamble = b""
            self._parser.write(first)
            data = data[start + len(self._line) :]
        data = data.lstrip(b" \t")
        self._has_begun = bool(data)
        return data

    def finish(self) -> list[tuple[str, str | FilePart]]:
        """Return the parts with their names, in their order, after the whole body was fed.

        Raises BadRequestError if the final boundary is missing.
        """
        if not self._ended:
            raise BadRequestError("The multipart body ends before its final boundary")
        return [(part.name, _value(part)) for part in self._parts]

    def close(self) -> None:
        """Close the file that was being written, if the body was cut off."""
        for part in self._parts:
            if part.file is not None:
                part.file.close()

    def _on_part_begin(self) -> None:
        if len(self._parts) >= self._max_parts:
            raise TooLargeError(f"The form has more than {self._max_parts} parts")
        self._headers = {}
        self._headers_size = 0

    def _on_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers_size += len(self._header_name) + len(self._header_value)
        if self._headers_size > MAX_PART_HEADERS:
            raise BadRequestError(
                f"The headers of a part of the form have more than {MAX_PART_HEADERS} bytes"
            )
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
        content_type, kind, charset = _media_type(self._headers.get("content-type", b""))
        filename = disposition.get("filename")
        part = _Part(
            name=disposition["name"],
            filename=base_name(filename) if filename else "",
            content_type=content_type,
            charset=charset,
            decoder=self._decoder(disposition["name"]),
        )
        if not filename and kind[:5] in ("", "text/") and not is_charset(charset):
            raise BadRequestError(f"Unknown charset {charset[:40]!r} in the form")
        if filename is not None or kind not in ("", "text/plain"):
            part.max_in_memory = self._max_json if _is_json(kind) else self._max_text
            part.path, part.file = self._new_file(extension(part.filename))
        self._parts.append(part)

    def _decoder(self, name: str) -> PartDecoder | None:
        coding = self._headers.get("content-encoding", b"").strip().lower()
        if coding not in (b"", b"identity"):
            raise UnsupportedEncodingError(
                f"Part {name[:40]!r} of the form has a Content-Encoding; compress the whole body "
                "or nothing"
            )
        encoding = self._headers.get("content-transfer-encoding", b"").decode("latin-1")
        try:
            return part_decoder(encoding)
        except KeyError:
            raise BadRequestError(
                f"Part {name[:40]!r} of the form has the unknown Content-Transfer-Encoding "
                f"{encoding.strip()[:40]!r}; use base64, quoted-printable or binary"
            ) from None

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        part = self._parts[-1]
        view = memoryview(data)[start:end]
        if part.decoder is not None:
            try:
                view = memoryview(part.decoder.feed(view))
            except ValueError:
                raise self._undecodable(part) from None
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
        if part.decoder is not None:
            try:
                part.decoder.finish()
            except ValueError:
                raise self._undecodable(part) from None

    def _undecodable(self, part: _Part) -> BadRequestError:
        encoding = self._headers["content-transfer-encoding"].decode("latin-1").strip()
        return BadRequestError(
            f"Part {part.name[:40]!r} of the form is not valid {encoding}, which its "
            "Content-Transfer-Encoding names"
        )

    def _on_end(self) -> None:
        self._ended = True


def _write_all(file: Writable, view: memoryview) -> None:
    """Write all of `view`: one write to an unbuffered file may take only a part."""
    while view:
        view = view[file.write(view) :]


def _value(part: _Part) -> str | FilePart:
    if part.path:
        default = "application/octet-stream" if part.filename else ""
        content_type = part.content_type or default
        return FilePart(part.path, content_type, part.filename, part.max_in_memory)
    try:
        text = part.text.decode(part.charset)
        if part.charset.lower() != "utf-8":
            text.encode()  # refuses lone surrogates, which some charsets can produce
    except ValueError:
        raise BadRequestError(
            f"The text in part {part.name[:40]!r} of the form is not valid {part.charset[:40]}; "
            "name its charset in its Content-Type, or send it as a file"
        ) from None
    return text


def _is_json(media_type: str) -> bool:
    return media_type == "application/json" or media_type.endswith("+json")


@functools.lru_cache(maxsize=256)  # most forms have the same few headers
def _parameters(header: str, value: bytes) -> Mapping[str, str]:
    """Return the parameters of a header, whose bytes are UTF-8, or else Latin-1."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    try:
        return parameters(text)
    except ValueError as error:
        raise BadRequestError(f"The {header} of the multipart body has {error}") from None


@functools.lru_cache(maxsize=256)
def _media_type(value: bytes) -> tuple[str, str, str]:
    """Return a Content-Type in one line, its media type in lower case, and its charset."""
    content_type = _CONTROL.sub(" ", value.decode("latin-1")).strip()
    kind = content_type.partition(";")[0].strip().lower()
    return content_type, kind, _parameters("content-type", value).get("charset", "utf-8")
