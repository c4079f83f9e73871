"""Requests that are large or expensive to process.

A bomb exceeds DECOMPRESSED when it is decompressed.
"""

from __future__ import annotations

import functools
import gzip
import json
import zlib
from collections.abc import Callable

MEGABYTE = 1024 * 1024
DECOMPRESSED = 64 * MEGABYTE

HEAD = b"POST /v2/models/gated/predict/ HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
FORM = HEAD.replace(b"application/json", b"multipart/form-data; boundary=B")


def with_length(body: bytes, head: bytes = HEAD, *fields: bytes) -> bytes:
    extra = b"".join(field + b"\r\n" for field in fields)
    return head + extra + b"Content-Length: %d\r\n\r\n" % len(body) + body


def part_of_semicolons(number: int) -> bytes:
    disposition = (b'form-data; name=a%d; x="' % number + b";" * 4080)[:4080]
    content_type = (b'a/b; y="%d' % number + b";" * 4080)[:4080]
    return (
        b"--B\r\nContent-Disposition: " + disposition + b"\r\nContent-Type: " + content_type
    ) + b"\r\n\r\nx\r\n"


def small_part(number: int) -> bytes:
    return b"--B\r\nContent-Disposition: form-data; name=a%d\r\n\r\nx\r\n" % number


def part_of_many_headers(number: int) -> bytes:
    disposition = b"--B\r\nContent-Disposition: form-data; name=a%d\r\n" % number
    return disposition + b"a:b\r\n" * 2500 + b"\r\nx\r\n"


def file_part(content: bytes, *fields: bytes, name: bytes = b"data") -> bytes:
    disposition = b'Content-Disposition: form-data; name="%b"; filename="a.bin"' % name
    return b"--B\r\n" + b"\r\n".join([disposition, *fields]) + b"\r\n\r\n" + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return with_length(b"".join(parts) + b"--B--\r\n", FORM)


def compressed(body: bytes, head: bytes = HEAD) -> bytes:
    return with_length(body, head, b"Content-Encoding: gzip")


def bomb(before: bytes, megabytes: int, after: bytes) -> bytes:
    """Return a compressed body that consists mostly of spaces."""
    packer = zlib.compressobj(9, wbits=31)
    spaces = b" " * MEGABYTE
    packed = [packer.compress(before), *(packer.compress(spaces) for _ in range(megabytes))]
    return b"".join(packed) + packer.compress(after) + packer.flush()


def get(target: bytes, *fields: bytes) -> bytes:
    lines = [b"GET " + target + b" HTTP/1.1", b"Host: x", *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n"


ONE_BYTE = b"1\r\n \r\n"
END = b"0\r\n\r\n"
PLAIN = with_length(b"{}")
QUERY = b"POST /v2/models/gated/predict/?%b HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"

CHUNKS: dict[str, Callable[[], bytes]] = {
    "chunks of one byte": lambda: CHUNKED + ONE_BYTE * 150_000 + END,
    "chunks of one byte, not read": lambda: (
        CHUNKED.replace(b"gated", b"none") + ONE_BYTE * 100_000 + END
    ),
    "chunks of one byte, of a form": lambda: (
        FORM + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n-\r\n" * 100_000 + END
    ),
    "chunks of one byte, compressed": lambda: (
        HEAD
        + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"".join(b"1\r\n%c\r\n" % byte for byte in gzip.compress(b" " * 20 * MEGABYTE))
        + END
    ),
    "chunks with long extensions": lambda: (
        CHUNKED + (b"1;" + b"x" * 9000 + b"\r\n \r\n") * 100 + END
    ),
    "a chunk whose size has many zeros": lambda: CHUNKED + b"0" * 100_000 + b"2\r\n{}\r\n" + END,
    "many trailers": lambda: CHUNKED + b"2\r\n{}\r\n0\r\n" + b"a:b\r\n" * 50_000 + b"\r\n",
    "a large chunked body": lambda: (
        CHUNKED + (b"40000\r\n" + b" " * 0x40000 + b"\r\n") * 80 + b"2\r\n{}\r\n" + END
    ),
}
HEADS: dict[str, Callable[[], bytes]] = {
    "line ends": lambda: b"\r\n" * 30_000 + get(b"/"),
    "many headers": lambda: get(b"/", *[b"a:b"] * 12_000),
    "many headers of one name": lambda: get(b"/v2/models/", *[b"Accept: a/b;q=0.1"] * 3000),
    "a long header": lambda: get(b"/", b"X: " + b"a" * 60_000),
    "an Accept header of many types": lambda: PLAIN.replace(
        b"Host: x", b"Host: x\r\nAccept: " + b"a/b;q=0.1," * 5900
    ),
    "a Content-Type of many parameters": lambda: with_length(
        b"--B--\r\n", FORM.replace(b"; boundary", b';a="\\"' * 10_000 + b"; boundary")
    ),
    "a long query": lambda: get(b"/?" + b"a=b&" * 1900),
    "a long query of a prediction": lambda: QUERY % b"&".join(b"number=%d" % n for n in range(650)),
    "a long query of escapes": lambda: QUERY % (b"text=" + b"%E2%82%AC" * 880),
    "a long query of names": lambda: QUERY % b"&".join(b"n%d" % n for n in range(1200)),
    "a long path": lambda: get(b"/v2/models" + b"/%2e%2e" * 1100),
    "a path of slashes": lambda: get(b"/v2/models" + b"/" * 8000),
    "unfinished": lambda: b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"a" * 8 * MEGABYTE,
}
PIPELINES: dict[str, Callable[[], bytes]] = {
    "many small requests": lambda: get(b"/") * 5000,
    "many small chunked requests": lambda: (CHUNKED + END) * 1000,
    "many predictions": lambda: PLAIN * 2000,
    "many predictions that differ": lambda: b"".join(QUERY % b"number=%d" % n for n in range(2000)),
    "many refused predictions": lambda: with_length(b"[]") * 2000,
    "requests with garbage behind them": lambda: PLAIN * 100 + b"\x00garbage" * 10_000,
}
FORMS: dict[str, Callable[[], bytes]] = {
    "a form of semicolons": lambda: form(*map(part_of_semicolons, range(200))),
    "a form of parts with many headers": lambda: form(*map(part_of_many_headers, range(50))),
    "a form of many parts": lambda: form(*map(small_part, range(1000))),
    "a form of too many parts": lambda: form(*map(small_part, range(20_000))),
    "a form of many parts behind a long one": lambda: form(
        small_part(0).replace(b"x", b"x" * 5000), *map(small_part, range(990))
    ),
    "a form of many files": lambda: form(
        *(file_part(b"x", name=b"a%d" % number) for number in range(1000))
    ),
    "a form of near boundaries": lambda: form(file_part(b"\r\n--A\r\n-\r\n--" * 300_000)),
    "a form of lines that begin as a boundary": lambda: form(file_part(b"\r\n--Bx" * 500_000)),
    "a form of line ends": lambda: form(file_part(b"\r\n" * 3 * MEGABYTE)),
    "a form with a long preamble": lambda: with_length(b"-" * 5 * MEGABYTE, FORM),
    "a form with a long epilogue": lambda: with_length(
        small_part(1) + b"--B--\r\n" + b"\r\n--B" * MEGABYTE, FORM
    ),
    "a large upload": lambda: form(file_part(bytes(range(256)) * 4096 * 30)),
    "a large upload in base64": lambda: form(
        file_part(b"QUJD\r\n" * 2 * MEGABYTE, b"Content-Transfer-Encoding: base64")
    ),
    "a large upload in quoted-printable": lambda: form(
        file_part(b"=41=\r\n" * 2 * MEGABYTE, b"Content-Transfer-Encoding: quoted-printable")
    ),
    "a large upload that is compressed": lambda: compressed(
        gzip.compress(file_part(b" " * 40 * MEGABYTE) + b"--B--\r\n"), FORM
    ),
    "fields in the coding of URLs": lambda: with_length(
        b"number=1&text=%41&" * 100_000,
        HEAD.replace(b"application/json", b"application/x-www-form-urlencoded"),
    ),
}
BODIES: dict[str, Callable[[], bytes]] = {
    "a large body": lambda: with_length(json.dumps({"text": "x" * 20 * MEGABYTE}).encode()),
    "a large body that is compressed": lambda: compressed(gzip.compress(b" " * 50 * MEGABYTE)),
    "a bomb": lambda: compressed(bomb(b'{"text":"', 100, b'"}')),
    "a bomb in a form": lambda: compressed(bomb(file_part(b"")[:-2], 100, b"\r\n--B--\r\n"), FORM),
    "many bombs in one": lambda: compressed(gzip.compress(b" " * 10_000) * 20_000),
    "much that is empty when it is decompressed": lambda: compressed(gzip.compress(b"") * 200_000),
    "deep JSON": lambda: with_length(b'{"none":' + b"[" * MEGABYTE + b"]" * MEGABYTE + b"}"),
    "deep JSON of objects": lambda: with_length(b'{"a":' * 20_000 + b"1" + b"}" * 20_000),
    "wide JSON": lambda: with_length(
        b"{" + b",".join(b'"%d":%d' % (n, n) for n in range(300_000)) + b"}"
    ),
    "JSON of many empty lists": lambda: with_length(b'{"none":[' + b"[]," * 500_000 + b"[]]}"),
    "JSON of escapes": lambda: with_length(b'{"text":"' + b"\\u20ac" * 500_000 + b'"}'),
    "JSON that is no text": lambda: with_length(b"\xff" * MEGABYTE),
    "a number of a million digits": lambda: with_length(b'{"number": ' + b"1" * MEGABYTE + b"}"),
    "a fraction of a million digits": lambda: with_length(
        b'{"number": 1.' + b"1" * MEGABYTE + b"}"
    ),
    "one key a hundred thousand times": lambda: with_length(
        b"{" + b",".join([b'"number": 1'] * 100_000) + b"}"
    ),
}


CODINGS = {
    "chunks twice": [b"Transfer-Encoding: chunked, chunked"],
    "two headers": [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
    "unknown": [b"Transfer-Encoding: xchunked"],
    "compressed": [b"Transfer-Encoding: gzip, chunked"],
    "identity": [b"Transfer-Encoding: identity"],
    "with a parameter": [b"Transfer-Encoding: chunked;x=y"],
    "with a length": [b"Transfer-Encoding: chunked", b"Content-Length: 5"],
    "after a length": [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
    "space before the colon": [b"Transfer-Encoding : chunked"],
    "folded": [b"Transfer-Encoding:\r\n chunked"],
    "empty": [b"Transfer-Encoding:"],
    "vertical tab": [b"Transfer-Encoding: \x0bchunked"],
}


def coded(name: str) -> bytes:
    """Return a request with these transfer codings, followed by requests that must not be read."""
    head = HEAD + b"".join(field + b"\r\n" for field in CODINGS[name])
    return head + b"\r\n" + b"2\r\n{}\r\n" + END + get(b"/smuggled") * 1000


CORPUS: dict[str, Callable[[], bytes]] = {
    **CHUNKS,
    **HEADS,
    **PIPELINES,
    **FORMS,
    **BODIES,
    **{f"coding of the transfer: {name}": functools.partial(coded, name) for name in CODINGS},
}
