"""Fuzz tests of client input: the outcome does not depend on how the input is cut or framed."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

from hypothesis import strategies as st

from deepaas.http import request_ids
from tests.fuzz.mutations import cut, mutated, of_tokens
from tests.fuzz.talk import Outcome, complaints, talk
from tests.serving.inside import House
from tests.serving.segments import chunked

PATH = b"/v2/models/received/predict/"
BOUNDARY = b"B"
FORM = b"multipart/form-data; boundary=B"
JSON = b"application/json"


@contextlib.contextmanager
def opened() -> Iterator[Callable[[Sequence[bytes]], Outcome]]:
    """Start a server and yield a function that sends it the pieces and returns the outcome."""
    numbers = itertools.count(16**7)  # so that all request ids have the same length
    ids = mock.patch.object(request_ids, "_numbers", numbers)
    with ids, House("zoo.received") as house, complaints(house.loop) as complained:

        def outcome(pieces: Sequence[bytes]) -> Outcome:
            complained.clear()
            found: Outcome = house.run(talk(house, pieces))
            assert not complained, complained
            assert not {status for status in found.statuses if status >= 500} - {501}, found
            return found

        yield outcome


# --- whole connections


def request(
    body: bytes = b"",
    *fields: bytes,
    start: bytes = b"POST " + PATH + b" HTTP/1.1",
    media: bytes = JSON,
    length: bool = True,
) -> bytes:
    lines = [start, b"Host: localhost", b"Content-Type: " + media, *fields]
    if length:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", body])


def part(name: bytes, body: bytes, *fields: bytes) -> bytes:
    disposition = b'Content-Disposition: form-data; name="' + name + b'"'
    return b"\r\n".join([b"--B", disposition, *fields, b"", body, b""])


FILE = (
    b'--B\r\nContent-Disposition: form-data; name="data"; filename="a.png"\r\n'
    b"Content-Type: image/png\r\n\r\n\x89PNG\r\n--b\r\n\0\xff\r\n"
)
FORMS = [
    part(b"text", b"abc") + FILE + b"--B--\r\n",
    FILE + b"--B--\r\n",
    b"before\r\n" + part(b"number", b"5", b"Content-Type: text/plain; charset=utf-8") + b"--B--",
    part(b"data", b"YWJj", b"Content-Transfer-Encoding: base64", b"Content-Type: image/png")
    + part(b"text", b"h=C3=A4", b"Content-Transfer-Encoding: quoted-printable")
    + b"--B--\r\nafter",
]
JSONS = [
    b"{}",
    b'{"text": "abc", "number": 5}',
    json.dumps(
        {"text": "\u00e4\ud83d\ude00", "anything": [1, 2.5, {"a": None}], "number": 2**70}
    ).encode(),
    b'{"anything": [[[[1]]], {"a": {"b": -0.0, "c": 1e308}}], "text": "\\ud800 \\u0000"}',
]
CHUNKS = b"Transfer-Encoding: chunked"
REQUESTS = [
    request(start=b"GET /v2/models/ HTTP/1.1"),
    request(start=b"GET / HTTP/1.0", media=b"x"),
    request(start=b"HEAD /v2/models/received/ HTTP/1.1"),
    request(start=b"OPTIONS * HTTP/1.1"),
    request(JSONS[1], b"Header: a"),
    request(JSONS[1]) * 2,
    request(JSONS[1], start=b"POST " + PATH + b"?text=a%20b&number=7 HTTP/1.1"),
    request(b"text=a&number=1", media=b"application/x-www-form-urlencoded"),
    request(FORMS[0], media=FORM),
    request(chunked(JSONS[1][:7], JSONS[1][7:]), CHUNKS, length=False),
    request(
        chunked(FORMS[1], trailer=b"A: b\r\n", extension=b";a=b"), CHUNKS, media=FORM, length=False
    ),
    request(JSONS[1], b"Expect: 100-continue"),
    request(gzip.compress(JSONS[1], mtime=0), b"Content-Encoding: gzip"),
    request(JSONS[1], b"Connection: close") + request(JSONS[0]),
    request(JSONS[1], b"Connection: keep-alive", start=b"POST " + PATH + b" HTTP/1.0"),
    request(JSONS[1], b"Upgrade: websocket", b"Connection: Upgrade"),
    request(b"{", start=b"PUT /v2/models/received/train/ HTTP/1.1"),
]
REQUEST_TOKENS = [
    *(b"\r\n", b"\r\n\r\n", b"\n", b"\r", b" ", b"\t", b":", b"\0", b"\xff", b",", b";", b"0"),
    *(b"GET / HTTP/1.1\r\n", b"POST ", PATH, b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"HTTP/1.1"),
    *(b"Host: localhost\r\n", b"Content-Length: 2\r\n", b"Content-Length: 0\r\n"),
    *(
        b"Content-Length: 99999999999999999999\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: +2\r\n",
    ),
    *(CHUNKS + b"\r\n", b"Transfer-Encoding: identity\r\n", b"TE: trailers\r\n"),
    *(b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Expect: 100-continue\r\n"),
    *(
        b"Content-Encoding: gzip\r\n",
        b"Content-Type: application/json\r\n",
        b"Content-Type: " + FORM,
    ),
    *(
        b"{}",
        b"2\r\n{}\r\n",
        b"0\r\n\r\n",
        b"ffffffffffffffff\r\n",
        b" folded\r\n",
        b"X: " + b"a" * 5000,
    ),
    *(b"%", b"%2e%2e", b"//", b"?", b"#", b"&", b"=", b"http://other/", b"--B\r\n", b"--B--\r\n"),
]
valid = st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=3).map(b"".join)
with_a_tail = st.builds(bytes.__add__, valid, of_tokens(REQUEST_TOKENS, most=3))
connections = mutated(valid, REQUEST_TOKENS) | with_a_tail | of_tokens(REQUEST_TOKENS)


@contextlib.contextmanager
def whole_connections() -> Iterator[Callable[[Any], None]]:
    with opened() as outcome:

        def check(drawn: tuple[bytes, list[int]]) -> None:
            data, chosen = drawn
            first = outcome([data])
            assert outcome(cut(data, chosen)) == first
            assert outcome([data]) == first  # now the server may have cached the head

        yield check


# --- bodies

STARTS_OF_BODIES = (b"", b"", b"", b" " * 130_000)
"""The last one makes the body too large to be kept in memory."""


def framings(body: bytes, media: bytes, chosen: Sequence[int]) -> Iterator[list[bytes]]:
    """Yield the body in requests of several kinds, each cut into pieces."""
    last = b"Connection: close"
    pieces = cut(body, chosen) if chosen else [body[:1], body[1:]]
    yield [request(body, last, media=media)]
    yield cut(request(body, last, media=media), chosen)
    if body:
        in_chunks = chunked(*filter(None, pieces))
        yield cut(request(in_chunks, last, CHUNKS, media=media, length=False), chosen)
        packed = gzip.compress(body, mtime=0)
        yield cut(request(packed, last, b"Content-Encoding: gzip", media=media), chosen)


def _bodies(media: bytes) -> Callable[[], contextlib.AbstractContextManager[Callable[[Any], None]]]:
    @contextlib.contextmanager
    def bodies() -> Iterator[Callable[[Any], None]]:
        with opened() as outcome:

            def check(drawn: tuple[bytes, bytes, list[int]]) -> None:
                start, body, chosen = drawn
                first, *others = (
                    outcome(pieces) for pieces in framings(start + body, media, chosen)
                )
                assert len(first.statuses) == 1
                for other in others:
                    assert other == first

            yield check

    return bodies


json_bodies = _bodies(JSON)
form_bodies = _bodies(FORM)
JSON_TOKENS = [
    *(b"{", b"}", b"[", b"]", b":", b",", b'"', b"\\", b"\\u0000", b"\\ud800", b"\\udc00"),
    *(b'"text"', b'"number"', b'"anything"', b"null", b"true", b"NaN", b"Infinity", b"-", b"."),
    *(b"0", b"1e400", b"1" * 30, b"-0", b"1E5", b" ", b"\n", b"\0", b"\xff", b"\xed\xa0\x80"),
    *(b"[" * 2000, b"]" * 2000, b'{"a":' * 1100, b"\xef\xbb\xbf", b"1" * 5000, b"/**/", b"'"),
]
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=8,
)
grown = st.fixed_dictionaries(
    {}, optional={"text": values, "number": values, "anything": values, "other": values}
).map(lambda value: json.dumps(value).encode())
json_texts = mutated(st.sampled_from(JSONS) | grown, JSON_TOKENS, most=3) | of_tokens(JSON_TOKENS)

FORM_TOKENS = [
    *(b"--B", b"--B\r\n", b"--B--", b"\r\n", b"\n", b"\r", b"-", b"--", b" ", b"\t", b":", b";"),
    *(b"Content-Disposition: form-data; name=text\r\n", b'name="data"; filename="x"', b"filename="),
    *(
        b"filename*=utf-8''%C3%A4",
        b"filename*0=a",
        b"name*=x",
        b'"',
        b"\\",
        b"=",
        b"%",
        b"\0",
        b"\xff",
    ),
    *(b"Content-Type: image/png\r\n", b"Content-Type: text/plain; charset=utf-16\r\n", b"../"),
    *(b"Content-Transfer-Encoding: base64\r\n", b"Content-Transfer-Encoding: quoted-printable\r\n"),
    *(
        b"Content-Encoding: gzip\r\n",
        b"X: " + b"a" * 5000,
        b";a=b" * 200,
        b"YWJj",
        b"=C3",
        b"a" * 300,
    ),
    *(b"text", b"number", b"data", b"other"),
]
form_texts = mutated(st.sampled_from(FORMS), FORM_TOKENS, most=4) | of_tokens(FORM_TOKENS)
