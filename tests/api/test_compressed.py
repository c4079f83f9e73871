"""Compressed bodies of every kind are read and bounded, and refused if they are broken."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import random
import socket
import zlib
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import httpx
import pytest

from deepaas.exceptions import BadRequestError, TooLargeError
from deepaas.http.body import BodyLimits, _decompressed
from deepaas.http.encodings import PIECE
from tests.api.test_file_parts import Ask, every_way, seen, wait_no_upload
from tests.conftest import Serve
from tests.serving.processes import MEGABYTE, Growth, pids
from tests.support import HOST, Part, Server, multipart, predictions

Compress = Callable[[bytes], bytes]


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


CODINGS: dict[str, tuple[str, Compress]] = {
    "gzip": ("gzip", gzip.compress),
    "zlib": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
}
every_coding = pytest.mark.parametrize("name", CODINGS)

CONTENT = random.Random(1).randbytes(300_000)
FORM = multipart(Part("file", CONTENT, "a.bin"), Part("text", b"x" * 1000))
KINDS: dict[str, tuple[str, bytes]] = {
    "json": ("application/json", json.dumps({"text": "x" * 1000}).encode()),
    "large json": ("application/json", json.dumps({"text": CONTENT.hex()}).encode()),
    "urlencoded": ("application/x-www-form-urlencoded", b"text=" + b"x" * 1000),
    "form": (FORM["headers"]["Content-Type"], FORM["content"]),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all({"sources": "zoo.sources"})


@pytest.fixture(scope="module")
def limited(serve_all: Serve) -> Server:
    limits = ("--client-max-size", "2000000", "--client-max-decompressed", "1000000")
    return serve_all({"sources": "zoo.sources"}, *limits)


@pytest.fixture(autouse=True)
def _no_file_stays(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    for name in {"server", "limited"} & set(request.fixturenames):
        wait_no_upload(request.getfixturevalue(name))


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def sent(coding: str, kind: str, body: bytes | Iterator[bytes]) -> dict[str, Any]:
    headers = {"Content-Type": kind, "Content-Encoding": coding}
    return {"content": body, "headers": headers}


# --- good bodies


@every_coding
@every_kind
def test_compressed_body_is_read(server: Server, name: str, kind: str) -> None:
    coding, compress = CODINGS[name]
    content_type, body = KINDS[kind]
    got = predictions(server.predict("sources", **sent(coding, content_type, compress(body))))
    text = repr("x" * 1000)
    if kind == "large json":
        text = hashlib.sha256(repr(CONTENT.hex()).encode()).hexdigest()
    assert got["text"] == ["str", text]
    if kind == "form":
        assert got["file"][1] == hashlib.sha256(CONTENT).hexdigest()


@every_way
def test_compressed_form_is_read_in_every_way(server: Server, ask: Ask) -> None:
    content_type, body = KINDS["form"]
    got = seen(server, ask(server, **sent("gzip", content_type, gzip.compress(body))))
    assert got["text"] == ["str", repr("x" * 1000)]
    assert got["file"][1] == hashlib.sha256(CONTENT).hexdigest()


@every_coding
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_compressed_body_may_come_in_chunks(server: Server, name: str, size: int) -> None:
    coding, compress = CODINGS[name]
    content_type, body = KINDS["json"]
    chunks = pieces(compress(body), size)
    got = predictions(server.predict("sources", **sent(coding, content_type, chunks)))
    assert got == {"text": ["str", repr("x" * 1000)]}


def test_compressed_request_that_comes_again_is_read_again(server: Server) -> None:
    content_type, body = KINDS["json"]
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        for _ in range(3):
            request = sent("gzip", content_type, gzip.compress(body))
            response = client.post("/v2/models/sources/predict/", **request)
            assert predictions(response) == {"text": ["str", repr("x" * 1000)]}


# --- broken bodies


@every_way
@every_coding
@every_kind
def test_body_that_breaks_off_is_400(server: Server, ask: Ask, name: str, kind: str) -> None:
    coding, compress = CODINGS[name]
    content_type, body = KINDS[kind]
    whole = compress(body)
    for cut in (1, len(whole) // 2, len(whole) - 1):
        response = ask(server, **sent(coding, content_type, whole[:cut]))
        assert response.status_code == 400
        error = response.json()
        assert error["code"] == "bad_request"
        assert error["message"] == (
            f"The request body ends before its {coding} data does; it was cut off"
        )


@every_coding
def test_chunked_body_that_breaks_off_is_400(server: Server, name: str) -> None:
    coding, compress = CODINGS[name]
    content_type, body = KINDS["form"]
    chunks = pieces(compress(body)[:-3], 10_000)
    response = server.predict("sources", **sent(coding, content_type, chunks))
    assert response.status_code == 400
    assert "it was cut off" in response.json()["message"]


@every_coding
@pytest.mark.parametrize("garbage", [b"x", b"\0\0x"])
def test_garbage_after_the_end_is_400(server: Server, name: str, garbage: bytes) -> None:
    coding, compress = CODINGS[name]
    content_type, body = KINDS["json"]
    response = server.predict("sources", **sent(coding, content_type, compress(body) + garbage))
    assert response.status_code == 400
    assert response.json()["message"].endswith("other bytes follow its end")


@pytest.mark.parametrize("coding", ["br", "gzip, gzip"])
@every_way
def test_unknown_compression_is_415_before_the_body_is_sent(
    server: Server, ask: Ask, coding: str
) -> None:
    response = ask(server, **sent(coding, "application/json", b"{}"))
    assert response.status_code == 415
    assert response.headers["Accept-Encoding"] == "gzip, deflate, identity"
    head = (
        "POST /v2/models/sources/predict/ HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Encoding: {coding}\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"
    )
    assert server.raw(head.encode(), timeout=25).status == 415


# --- limits


def bomb(size: int, kind: str) -> tuple[str, bytes]:
    """Return the type and the bytes of a small body that decompresses to a large one."""
    if kind == "json":
        return "application/json", gzip.compress(b'{"text": "' + b"a" * size + b'"}')
    form = multipart(Part("file", b"\0" * size, "a.bin"))
    return form["headers"]["Content-Type"], gzip.compress(form["content"])


@pytest.mark.parametrize("kind", ["json", "form"])
@pytest.mark.parametrize("size", [1_100_000, 50_000_000])
def test_body_that_becomes_too_large_is_413(limited: Server, kind: str, size: int) -> None:
    content_type, body = bomb(size, kind)
    (worker,) = pids(limited, "sources")
    with Growth(limited.pid) as growth, Growth(worker) as of_worker:
        response = limited.predict("sources", **sent("gzip", content_type, body))
    assert response.status_code == 413
    assert response.json()["code"] == "too_large"
    assert response.json()["message"].startswith(
        "The request body is larger than 1000000 bytes after decompression"
    )
    assert growth.bytes < 10 * MEGABYTE
    assert of_worker.bytes < 10 * MEGABYTE


def test_body_that_becomes_as_large_as_it_may_is_taken(limited: Server) -> None:
    frame = len(b'{"text": ""}')
    content_type, body = bomb(1_000_000 - frame, "json")
    response = limited.predict("sources", **sent("gzip", content_type, body))
    assert response.status_code == 200
    content_type, body = bomb(1_000_001 - frame, "json")
    response = limited.predict("sources", **sent("gzip", content_type, body))
    assert response.status_code == 413


def test_other_bodies_are_not_bound_by_that(limited: Server) -> None:
    response = limited.predict("sources", json={"text": "a" * 1_500_000})
    assert response.status_code == 200


def test_general_bound_is_for_the_decompressed_body(serve: Serve) -> None:
    server = serve({"sources": "zoo.sources"}, "--client-max-size", "100000")
    content_type, body = bomb(100_000, "json")
    response = server.predict("sources", **sent("gzip", content_type, body))
    assert response.status_code == 413
    assert response.json()["message"] == "The request body is larger than 100000 bytes"


def test_endless_members_without_content_are_bound_by_their_size(serve: Serve) -> None:
    server = serve({"sources": "zoo.sources"}, "--client-max-size", "100000")
    chunks = pieces(gzip.compress(b"") * 10_000, 5_000)
    response = server.predict("sources", **sent("gzip", "application/json", chunks))
    assert response.status_code == 413


def test_body_is_refused_as_soon_as_it_is_too_large(limited: Server) -> None:
    """The response does not wait for the rest of the body."""
    content_type, body = bomb(50_000_000, "json")
    head = (
        "POST /v2/models/sources/predict/ HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: {content_type}\r\nContent-Encoding: gzip\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((HOST, limited.port), timeout=25) as connection:
        connection.sendall(head.encode() + body[: len(body) // 2])
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


# --- other work runs meanwhile


async def in_chunks(data: bytes, size: int) -> AsyncGenerator[bytes]:
    for chunk in pieces(data, size):
        yield chunk


def runs_of_other_work(body: bytes, limits: BodyLimits) -> tuple[int, int]:
    """Return the size of the decompressed body, and how often other work ran meanwhile."""
    runs = 0

    async def others() -> None:
        nonlocal runs
        while True:
            runs += 1
            await asyncio.sleep(0)

    async def read() -> int:
        other = asyncio.create_task(others())
        size = 0
        async for piece in _decompressed(in_chunks(body, 65536), "gzip", limits):
            size += len(piece)
        other.cancel()
        return size

    return asyncio.run(read()), runs


def test_other_work_runs_while_a_body_is_decompressed() -> None:
    size = 100 * PIECE
    became, runs = runs_of_other_work(gzip.compress(b"\0" * size), BodyLimits())
    assert became == size
    assert runs >= 100


def test_other_work_runs_while_members_without_content_are_read() -> None:
    became, runs = runs_of_other_work(gzip.compress(b"") * 10_000, BodyLimits())
    assert became == 0
    assert runs >= 10


def test_other_work_runs_while_empty_blocks_are_read() -> None:
    empty_block = zlib.compressobj(wbits=31).flush(zlib.Z_FULL_FLUSH)
    body = empty_block + b"\0\0\0\xff\xff" * 200_000
    with pytest.raises(BadRequestError, match="it was cut off"):
        runs_of_other_work(body, BodyLimits())
    end = b"\1\0\0\xff\xff" + bytes(8)
    became, runs = runs_of_other_work(body + end, BodyLimits())
    assert became == 0
    assert runs >= len(body) // 65536


def test_bound_of_0_is_unlimited() -> None:
    body = gzip.compress(b"\0" * (257 * MEGABYTE), 1)
    assert runs_of_other_work(body, BodyLimits(decompressed=0))[0] == 257 * MEGABYTE
    with pytest.raises(TooLargeError, match="larger than 268435456 bytes after"):
        runs_of_other_work(body, BodyLimits())
