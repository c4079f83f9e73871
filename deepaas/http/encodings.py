"""Decoders for the body of a request and for the parts of a form; both may arrive in pieces."""

from __future__ import annotations

import binascii
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from deepaas.exceptions import BadRequestError, UnsupportedEncodingError

PIECE = 256 * 1024
"""At most this many decompressed bytes are returned at a time."""

ACCEPTED = "gzip, deflate, identity"
"""The values of Content-Encoding that a request may have."""

_GZIP = 16 + zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS


def content_coding(values: Sequence[str]) -> str:
    """Return the compression that the Content-Encoding fields name: "gzip", "deflate" or "".

    Raises UnsupportedEncodingError for any other coding, and for several codings.
    """
    coding = ", ".join(values).strip().lower()
    if coding in ("", "identity"):
        return ""
    if coding in ("gzip", "x-gzip"):
        return "gzip"
    if coding == "deflate":
        return coding
    wrong = f"The body has several Content-Encodings, {coding[:40]!r}"
    if "," not in coding:
        wrong = f"The server does not know the Content-Encoding {coding[:40]!r}"
    raise UnsupportedEncodingError(f"{wrong}; use one of {ACCEPTED}", ACCEPTED)


class Decompressor:
    """A decompressor for a body in pieces: gzip, or deflate with or without a zlib header."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._inflater = zlib.decompressobj(_GZIP) if coding == "gzip" else None
        self._first = b""  # the first byte of a deflate body, until the second tells its kind
        self._began = False
        self._ended = False  # at the end of the data, or between two gzip members

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decompress the next bytes: yield pieces of at most PIECE bytes, which may be empty.

        Raises BadRequestError if the body is malformed.
        """
        self._began = self._began or bool(data)
        if self._ended:
            data = self._after(data)
        is_full = False
        while data or is_full:
            inflater = self._ready(data)
            if inflater is None:
                return
            data, self._first = self._first + data, b""
            try:
                piece = inflater.decompress(data, PIECE)
            except zlib.error as error:
                raise self._malformed(str(error).rpartition(": ")[2]) from None
            is_full = len(piece) == PIECE and not inflater.eof
            data = inflater.unconsumed_tail
            if inflater.eof:
                data = self._after(inflater.unused_data)
            yield piece

    def finish(self) -> None:
        """Raise BadRequestError if the body is cut off. An empty body is complete."""
        if self._began and not self._ended:
            raise BadRequestError(
                f"The request body ends before its {self._coding} data does; it was cut off"
            )

    def _ready(self, data: bytes) -> zlib._Decompress | None:
        """Return the inflater for the next bytes, or None if there are too few to choose one."""
        if self._ended:  # the next gzip member begins
            self._inflater = zlib.decompressobj(_GZIP)
            self._ended = False
        elif self._inflater is None:
            start = self._first + data[:2]
            if len(start) < 2:
                self._first = start
                return None
            has_header = start[0] & 0x0F == 8 and int.from_bytes(start[:2], "big") % 31 == 0
            self._inflater = zlib.decompressobj(zlib.MAX_WBITS if has_header else _RAW)
        return self._inflater

    def _after(self, rest: bytes) -> bytes:
        """Return the bytes after the end of the data, or of a gzip member, without padding."""
        self._ended = True
        if self._coding == "gzip":
            rest = rest.lstrip(b"\0")
        if rest and not (self._coding == "gzip" and rest.startswith(b"\x1f")):
            raise self._malformed("other bytes follow its end")
        return rest

    def _malformed(self, why: str) -> BadRequestError:
        return BadRequestError(
            f"The request body is not the {self._coding} data that its Content-Encoding names: "
            f"{why}"
        )


# --- the parts of a form


class PartDecoder(Protocol):
    """A decoder for a part with a Content-Transfer-Encoding."""

    def feed(self, data: bytes | memoryview) -> bytes:
        """Decode the next bytes; hold back those that need further bytes.

        Raises ValueError if the part is malformed.
        """
        ...

    def finish(self) -> None:
        """End the part. Raises ValueError if it is cut off."""
        ...


_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


class Base64Decoder:
    """A base64 decoder that ignores white space, but refuses other wrong characters.

    `binascii` alone would skip them.
    """

    def __init__(self) -> None:
        self._held = b""  # up to three characters of an incomplete group of four
        self._ended = False

    def feed(self, data: bytes | memoryview) -> bytes:
        data = self._held + bytes(data).translate(None, b" \t\r\n")
        if not data:
            return b""
        whole = len(data) - len(data) % 4
        self._held = data[whole:]
        data = data[:whole]
        digits = data.rstrip(b"=")
        if self._ended or len(data) - len(digits) > 2 or digits.translate(None, _ALPHABET):
            raise ValueError("malformed base64")
        self._ended = len(digits) < len(data)
        return binascii.a2b_base64(data)

    def finish(self) -> None:
        if self._held:
            raise ValueError("malformed base64")


_MAX_HELD = 1000  # a line has at most 76 characters
_UNFINISHED = re.compile(rb"=(?:[0-9A-Fa-f]?|[ \t]+\r?|\r)")
_BROKEN = re.compile(rb"=(?![0-9A-Fa-f]{2}|[ \t]*\r?\n)")
_PADDED = re.compile(rb"=[ \t]+\r?\n")


class QuotedPrintableDecoder:
    """A quoted-printable decoder. An equals sign must begin an escape or a soft line break.

    `binascii` alone would keep any other equals sign unchanged.
    """

    def __init__(self) -> None:
        self._held = b""  # the start of an escape or of a soft line break

    def feed(self, data: bytes | memoryview) -> bytes:
        data = self._held + bytes(data)
        last = data.rfind(b"=")
        self._held = data[last:] if last >= 0 and _UNFINISHED.fullmatch(data, last) else b""
        if len(self._held) > _MAX_HELD:
            raise ValueError("malformed quoted-printable")
        data = data[: len(data) - len(self._held)]
        if _BROKEN.search(data):
            raise ValueError("malformed quoted-printable")
        return binascii.a2b_qp(_PADDED.sub(b"=\n", data))

    def finish(self) -> None:
        """End the part. The line end of its last soft line break may belong to the boundary."""
        if self._held.rstrip(b" \t\r\n") not in (b"", b"="):
            raise ValueError("malformed quoted-printable")


_PART_DECODERS: dict[str, Callable[[], PartDecoder] | None] = {
    "": None,
    "7bit": None,
    "8bit": None,
    "binary": None,
    "base64": Base64Decoder,
    "quoted-printable": QuotedPrintableDecoder,
}


def part_decoder(encoding: str) -> PartDecoder | None:
    """Return the decoder for a Content-Transfer-Encoding, or None if the part is not encoded.

    Raises KeyError for an unknown encoding.
    """
    make = _PART_DECODERS[encoding.strip().lower()]
    return None if make is None else make()
