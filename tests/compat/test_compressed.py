"""Requests with a compressed body."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from typing import Any

import httpx
import pytest

from tests.conftest import Serve
from tests.support import Part, Server, multipart, predictions

TEXT = "abcdefghij" * 100
CONTENT = bytes(range(256)) * 50


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all({"sources": "zoo.sources"})


@pytest.fixture
def doomed(serve_doomed: Serve) -> Server:
    """A server for requests that may hang the reference release."""
    return serve_doomed({"sources": "zoo.sources"})


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


def gzip_of_two(data: bytes) -> bytes:
    return gzip.compress(data[:10]) + gzip.compress(data[10:])


CODINGS: dict[str, tuple[str, Any]] = {
    "gzip": ("gzip", gzip.compress),
    "GZIP": ("GZIP", gzip.compress),
    "two members": ("gzip", gzip_of_two),
    "zlib": ("deflate", zlib.compress),
    "raw": ("deflate", raw_deflate),
    "identity": ("identity", bytes),
}


def send(
    server: Server, coding: str, body: bytes, kind: str = "application/json", **kwargs: Any
) -> httpx.Response:
    headers = {"Content-Type": kind, "Content-Encoding": coding}
    return server.predict("sources", content=body, headers=headers, **kwargs)


@pytest.mark.parametrize("name", CODINGS)
def test_compressed_json_is_read(server: Server, name: str) -> None:
    coding, compress = CODINGS[name]
    response = send(server, coding, compress(json.dumps({"text": TEXT}).encode()))
    assert predictions(response) == {"text": ["str", repr(TEXT)]}


@pytest.mark.parametrize("name", CODINGS)
def test_compressed_form_is_read(server: Server, name: str) -> None:
    coding, compress = CODINGS[name]
    kind = "application/x-www-form-urlencoded"
    response = send(server, coding, compress(f"text={TEXT}".encode()), kind)
    assert predictions(response) == {"text": ["str", repr(TEXT)]}


@pytest.mark.parametrize("name", CODINGS)
def test_file_in_a_compressed_form_is_whole(server: Server, name: str) -> None:
    coding, compress = CODINGS[name]
    form = multipart(Part("file", CONTENT, "a"), Part("text", TEXT.encode()))
    response = send(server, coding, compress(form["content"]), form["headers"]["Content-Type"])
    got = predictions(response)
    assert got["text"] == ["str", repr(TEXT)]
    assert got["file"][1] == hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.mended("it is not known")
def test_old_name_of_gzip_is_known(server: Server) -> None:
    response = send(server, "x-gzip", gzip.compress(b'{"number": 5}'))
    assert predictions(response) == {"number": ["int", "5"]}


@pytest.mark.mended("500")
def test_gzip_may_be_padded(server: Server) -> None:
    response = send(server, "gzip", gzip.compress(b'{"number": 5}') + b"\0" * 20)
    assert predictions(response) == {"number": ["int", "5"]}


@pytest.mark.mended("500, part of it, or no answer at all")
@pytest.mark.parametrize("name", ["gzip", "zlib", "raw"])
def test_body_that_breaks_off_is_400(doomed: Server, patience: float, name: str) -> None:
    coding, compress = CODINGS[name]
    kind = "application/x-www-form-urlencoded"
    whole = compress(f"text={TEXT}".encode())
    response = send(doomed, coding, whole[:-6], kind, timeout=patience)
    assert response.status_code == 400
    error = response.json()
    assert error["code"] == "bad_request"
    assert error["message"] == (
        f"The request body ends before its {coding} data does; it was cut off"
    )


@pytest.mark.mended("500")
@pytest.mark.parametrize(
    "body", [gzip.compress(b"{}") + b"x", b"{}", zlib.compress(b"{}")], ids=["more", "none", "zlib"]
)
def test_body_that_is_not_gzip_is_400(server: Server, body: bytes) -> None:
    response = send(server, "gzip", body)
    assert response.status_code == 400
    assert response.json()["code"] == "bad_request"


@pytest.mark.mended("it is read as it is, or 400")
@pytest.mark.parametrize("coding", ["nope", "br", "zstd", "compress", "gzip, gzip", "gzip, br"])
def test_unknown_compression_is_415(server: Server, coding: str) -> None:
    response = send(server, coding, b"{}")
    assert response.status_code == 415
    assert response.headers["Accept-Encoding"] == "gzip, deflate, identity"
    assert response.json()["code"] == "unsupported_encoding"
