"""Bytes that are not valid text are refused, and never replaced by other characters."""

from __future__ import annotations

import json

import pytest

from tests.conftest import Serve
from tests.support import Server

NOT_TEXT = {"text": ["Not text in the charset of the request."]}


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all({"sources": "zoo.sources", "rich": "zoo.rich"})


@pytest.fixture(scope="module")
def without_extensions(serve_all: Serve) -> Server:
    """Start a server with aiohttp's Python parser: its C parser refuses raw bytes in a target."""
    return serve_all({"sources": "zoo.sources"}, env={"AIOHTTP_NO_EXTENSIONS": "1"})


def post(query: bytes = b"", headers: bytes = b"", body: bytes = b"") -> bytes:
    return (
        (
            b"POST /v2/models/sources/predict/"
            + query
            + b" HTTP/1.1\r\nHost: localhost\r\n"
            + headers
        )
        + b"Content-Length: %d\r\n\r\n" % len(body)
        + body
    )


@pytest.mark.parametrize("query", [b"?text=%FF", b"?text=%ed%a0%80", b"?text=x%E4&text=x"])
def test_query(server: Server, query: bytes) -> None:
    answer = server.raw(post(query))
    assert (answer.status, json.loads(answer.body)) == (422, NOT_TEXT)


def test_query_with_raw_bytes(without_extensions: Server) -> None:
    answer = without_extensions.raw(post(b"?text=\xff"))
    assert (answer.status, json.loads(answer.body)) == (422, NOT_TEXT)
    answer = without_extensions.raw(post("?text=ä".encode()))
    assert json.loads(answer.body)["predictions"] == {"text": ["str", "'ä'"]}


def test_value_that_no_argument_wants_may_be_anything(server: Server) -> None:
    assert server.raw(post(b"?other=%FF&%FF=1")).status == 200


@pytest.mark.parametrize("body", [b"text=%FF", b"text=x&text=%FF&number=1"])
def test_urlencoded_form(server: Server, body: bytes) -> None:
    headers = b"Content-Type: application/x-www-form-urlencoded\r\n"
    answer = server.raw(post(headers=headers, body=body))
    if body.startswith(b"text=x"):  # the first value is used
        assert answer.status == 200
    else:
        assert (answer.status, json.loads(answer.body)) == (422, NOT_TEXT)


@pytest.mark.parametrize(
    ("kind", "status"),
    [(b"text/plain", 400), (b"text/plain; charset=ascii", 400), (b"text/x", 422)],
)
def test_part_of_a_form(server: Server, kind: bytes, status: int) -> None:
    body = (
        b"--b\r\nContent-Disposition: form-data; name=text\r\nContent-Type: " + kind
    ) + b"\r\n\r\n\xff\r\n--b--\r\n"
    headers = b"Content-Type: multipart/form-data; boundary=b\r\n"
    answer = server.raw(post(headers=headers, body=body))
    assert answer.status == status
    assert b"charset" in answer.body


@pytest.mark.parametrize(
    ("value", "status"), [(b"\xff", 400), (b"\xe4", 400), ("ä".encode(), 200), (b"a", 200)]
)
def test_header_that_is_an_argument(server: Server, value: bytes, status: int) -> None:
    data = post(b"?required=r", b"Header: " + value + b"\r\n").replace(b"sources", b"rich")
    answer = server.raw(data)
    assert answer.status == status
    if status == 200:
        assert json.loads(answer.body)["predictions"]["header"] == value.decode()
    else:
        assert json.loads(answer.body)["message"] == "The header header is not valid UTF-8"


def test_other_headers_may_be_anything(server: Server) -> None:
    assert server.raw(post(headers=b"User-Agent: \xff\r\nAccept: \xff\r\n")).status == 200
