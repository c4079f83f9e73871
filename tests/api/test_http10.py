"""HTTP/1.0, with and without keep-alive, and HTTP/1.1 with `Connection: close`.

Under HTTP/1.0, a response has a length, or it ends when the connection closes. Chunks do not exist.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.conftest import Serve
from tests.serving.segments import SECONDS, Ask, Line, get, post, predict
from tests.support import Server
from tests.training.trainings import Trainings

MODELS = {
    "plain": "zoo.streaming:Plain",
    "async": "zoo.streaming:Async",
    "returns": "zoo.returns",
    "trains": "zoo.trains",
}
KEEP = ("Connection: keep-alive",)
CLOSE = ("Connection: close",)

Make = Callable[..., Ask]


@dataclass
class Place:
    """A server, and the path of the log of a training that has ended."""

    server: Server
    log: str


@pytest.fixture(scope="module")
def place(serve_all: Serve) -> Place:
    server = serve_all(MODELS, "--debug-endpoint", "--notrain-warm", "--noreload-after-train")
    trainings = Trainings(server)
    uuid = trainings.begin()
    trainings.wait(uuid, "done")
    return Place(server, f"{trainings.path}{uuid}/logs")


def version_of(version: str, ask: Ask) -> Ask:
    return Ask(ask.head.replace(b" HTTP/1.1\r\n", f" {version}\r\n".encode(), 1), ask.body)


def returns(kind: str, *fields: str) -> Ask:
    return predict("returns", f"?kind={kind}", b"{}", *fields)


WHOLE: dict[str, tuple[int, Make]] = {
    "JSON": (200, lambda *fields: returns("dict", *fields)),
    "bytes": (200, lambda *fields: returns("bytes", "Accept: image/png", *fields)),
    "file": (200, lambda *fields: returns("file", "Accept: application/zip", *fields)),
    "nothing": (200, lambda *fields: returns("none", "Accept: image/png", *fields)),
    "no such path": (404, lambda *fields: get("/nowhere", *fields)),
    "wrong method": (405, lambda *fields: post("/v2/", b"{}", *fields)),
    "invalid arguments": (422, lambda *fields: predict("returns", "", b"{}", *fields)),
    "failure": (500, lambda *fields: returns("object", *fields)),
    "debug page": (200, lambda *fields: get("/v2/debug/", *fields)),
    "page": (200, lambda *fields: get("/api", *fields)),
    "description": (200, lambda *fields: get("/swagger.json", *fields)),
    "head": (200, lambda *fields: get("/v2/models/", *fields, method="HEAD")),
    "trainings": (200, lambda *fields: get("/v2/models/trains/train/", *fields)),
}
whole = pytest.mark.parametrize(("status", "make"), WHOLE.values(), ids=list(WHOLE))


@whole
async def test_answer_with_a_length_keeps_the_connection_if_that_is_asked(
    place: Place, status: int, make: Make
) -> None:
    ask = version_of("HTTP/1.0", make(*KEEP))

    async with Line(place.server.port) as line:
        for _ in range(3):
            seen = await line.ask(ask)
            assert seen.status == status
            assert seen.header("Connection") == "keep-alive"
            assert seen.header("Transfer-Encoding") is None
            assert seen.header("Content-Length") is not None


@whole
@pytest.mark.parametrize(("version", "fields"), [("HTTP/1.0", ()), ("HTTP/1.1", CLOSE)])
async def test_answer_ends_the_connection_otherwise(
    place: Place, status: int, make: Make, version: str, fields: tuple[str, ...]
) -> None:
    ask = version_of(version, make(*fields))

    async with Line(place.server.port) as line:
        seen = await line.ask(ask)
        assert seen.status == status
        assert seen.header("Content-Length") is not None
        assert await line.rest() == b""


STREAMS: dict[str, tuple[Callable[[Place], Ask], bytes]] = {
    "stream": (lambda _: predict("plain"), b'{"n":2}\n'),
    "stream of events": (
        lambda _: predict("plain", "", b"{}", "Accept: text/event-stream"),
        b'data: {"n":2}\n\n',
    ),
    "asynchronous stream": (lambda _: predict("async"), b'{"n":2}\n'),
    "stream that fails": (lambda _: predict("plain", "?end=raise"), b"\n"),
    "log": (lambda place: get(place.log), b"\n"),
    "log that is followed": (lambda place: get(f"{place.log}?follow=true"), b"\n"),
    "log as events": (
        lambda place: get(f"{place.log}?follow=true", "Accept: text/event-stream"),
        b'data: {"status":"done"}\n\n',
    ),
}
streams = pytest.mark.parametrize(("make", "end"), STREAMS.values(), ids=list(STREAMS))


def with_fields(ask: Ask, *fields: str) -> Ask:
    lines = "".join(f"{field}\r\n" for field in fields).encode()
    return Ask(ask.head[:-2] + lines + b"\r\n", ask.body)


@streams
@pytest.mark.parametrize("fields", [(), KEEP], ids=["alone", "keep-alive"])
async def test_answer_without_a_length_ends_with_the_connection(
    place: Place, make: Callable[[Place], Ask], end: bytes, fields: tuple[str, ...]
) -> None:
    ask = version_of("HTTP/1.0", with_fields(make(place), *fields))

    async with Line(place.server.port) as line:
        seen = await line.ask(ask)  # reads until the connection ends
        assert seen.status == 200
        assert seen.header("Connection") in (None, "close")
        assert seen.header("Transfer-Encoding") is None
        assert seen.body.endswith(end)


async def test_text_that_fails_midway_is_cut_off(place: Place) -> None:
    """A normal close would look like the end of the text, so the server resets the connection."""
    ask = predict("plain", "?end=raise&kind=texts&accept=text/plain", b"{}", *KEEP)

    async with Line(place.server.port) as line:
        await line.send(version_of("HTTP/1.0", ask).data)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(line.reader.read(), SECONDS)


@streams
@pytest.mark.parametrize("fields", [(), CLOSE], ids=["keep-alive", "close"])
async def test_answer_in_chunks_keeps_the_connection_unless_told_to_close(
    place: Place, make: Callable[[Place], Ask], end: bytes, fields: tuple[str, ...]
) -> None:
    ask = with_fields(make(place), *fields)

    async with Line(place.server.port) as line:
        for _ in range(1 if fields else 2):
            seen = await line.ask(ask)
            assert (seen.status, seen.whole) == (200, True)
            assert seen.header("Transfer-Encoding") == "chunked"
            assert seen.header("Connection") == ("close" if fields else None)
            assert seen.body.endswith(end)
        if fields:
            assert await line.rest() == b""
