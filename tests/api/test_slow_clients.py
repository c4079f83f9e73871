"""Clients that send a body slowly or do not read their responses, and JSON that is too large."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import uvloop

from tests.clock import TurnedLoop
from tests.conftest import Serve
from tests.serving.inside import LIVE, Client, House
from tests.serving.segments import predict
from tests.support import HOST, Part, Server, multipart, predictions

new_loop = uvloop.new_event_loop
"""The loop of the tests and of their `House`: the one that servers use."""

MEGABYTE = 1024 * 1024
HEAD = b"POST /v2/models/gated/predict/ HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
WINDOW = 0.5


@pytest.fixture(scope="module")
async def house() -> AsyncIterator[House]:
    """Yield a server that expects 500 bytes in each half second."""
    async with House(limits={"rate": 1000, "rate_window": WINDOW}) as opened:
        yield opened


class Slow:
    """A client that sends a body in small pieces."""

    def __init__(self, house: House, framing: bytes) -> None:
        self._house = house
        self._head = HEAD + framing + b"\r\n\r\n"

    async def __aenter__(self) -> Slow:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._house.port)
        self.writer.write(self._head)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def drip(self, piece: bytes, every: float, count: int) -> None:
        for _ in range(count):
            if self.writer.transport.is_closing():
                return
            self.writer.write(piece)
            await asyncio.sleep(every)


LENGTH = b"Content-Length: 1000000"
CHUNKS = b"Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    ("framing", "piece"), [(LENGTH, b" "), (CHUNKS, b"1\r\n \r\n"), (LENGTH, b"")]
)
async def test_client_that_sends_slower_than_the_rate_is_408(
    house: House, framing: bytes, piece: bytes
) -> None:
    async with Slow(house, framing) as client:
        dripping = asyncio.create_task(client.drip(piece, 0.02, 1000))
        began = time.monotonic()
        answer = await client.reader.read()  # until the server closes the connection
        dripping.cancel()
        assert answer.startswith(b"HTTP/1.1 408 The request body arrives too slowly")
        assert b'"code":"receive_timeout"' in answer
        assert time.monotonic() - began >= WINDOW


async def test_hundreds_of_dripping_clients_end(house: House) -> None:
    async def answer_to(client: Slow) -> bytes:
        dripping = asyncio.create_task(client.drip(b" ", 0.1, 1000))
        answer = await client.reader.readline()
        dripping.cancel()
        return answer

    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Slow(house, LENGTH)) for _ in range(300)]
        answers = await asyncio.gather(*map(answer_to, clients))
    assert all(b" 408 " in answer[:20] for answer in answers)
    await house.until_nothing_is_under_way()


LONG_WINDOW = 30.0


@pytest.fixture(scope="module")
def turned() -> Iterator[House]:
    """Yield a server that expects 1000 bytes per second, on average over a long window."""
    limits = {"rate": 1000, "rate_window": LONG_WINDOW}
    with House(limits=limits, new_loop=TurnedLoop, receive_timeout=0, seconds=2000.0) as opened:
        yield opened


async def drip_in_time(house: House, client: Slow, piece: bytes, every: float, count: int) -> None:
    """Send pieces, and move the clock ahead after each."""
    for number in range(1, count + 1):
        client.writer.write(piece)
        await house.until_received(number * len(piece))
        await house.turn(every)


def test_client_that_sends_fast_enough_takes_as_long_as_it_likes(turned: House) -> None:
    async def asking() -> None:
        async with Slow(turned, b"Content-Length: 600002") as client:
            await drip_in_time(turned, client, b" " * 12_000, 6, 50)  # 2 kB a second
            client.writer.write(b"{}")
            assert b" 200 " in await client.reader.readline()

    turned.run(asking())


def test_client_that_sends_faster_at_first_is_408_when_it_sends_slower(turned: House) -> None:
    async def asking() -> None:
        async with Slow(turned, b"Content-Length: 600002") as client:
            await drip_in_time(turned, client, b" " * 12_000, 6, 10)
            await turned.turn(LONG_WINDOW)
            await turned.turn(LONG_WINDOW)
            assert b" 408 " in await client.reader.readline()

    turned.run(asking())


def test_small_rest_may_take_a_whole_window(turned: House) -> None:
    async def asking() -> None:
        async with Slow(turned, b"Content-Length: 2") as client:
            await drip_in_time(turned, client, b"{", 0.6 * LONG_WINDOW, 1)
            client.writer.write(b"}")
            assert b" 200 " in await client.reader.readline()

    turned.run(asking())


def test_rate_of_zero_is_no_limit() -> None:
    async def asking() -> None:
        async with Slow(patient, b"Content-Length: 12") as client:
            await drip_in_time(patient, client, b" ", 100, 10)
            client.writer.write(b"{}")
            assert b" 200 " in await client.reader.readline()

    limits = {"rate": 0, "rate_window": 0.1}
    with House(limits=limits, new_loop=TurnedLoop, receive_timeout=0, seconds=2000.0) as patient:
        patient.run(asking())


async def test_time_in_which_the_server_does_not_read_does_not_count(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow disk repeatedly blocks the server for longer than the window."""
    from deepaas.http.files import RequestFiles

    flush = RequestFiles.flush

    async def slowly(self: RequestFiles) -> None:
        await flush(self)
        await asyncio.sleep(WINDOW / 4)

    monkeypatch.setattr(RequestFiles, "flush", slowly)
    body = json.dumps({"text": "x" * 4 * MEGABYTE}).encode()
    async with Client(house) as client:
        began = time.monotonic()
        seen = await client.ask(predict("gated", "", body))
        assert seen.predicted["text"] == 4 * MEGABYTE
        assert time.monotonic() - began > 2 * WINDOW


def test_rate_is_an_option(serve: Serve) -> None:
    flags = ("--client-min-rate", "1000", "--client-rate-window", "0.3")
    server = serve({"echo": "zoo.echo"}, *flags)
    head = (
        b"POST /v2/models/echo/predict/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
    )
    assert server.raw(head).status == 408


# --- responses that clients do not read

MOST = 4 * MEGABYTE


@pytest.fixture(scope="module")
async def small() -> AsyncIterator[House]:
    async with House(settings={"max_unsent": MOST}) as opened:
        yield opened


@pytest.fixture(scope="module")
async def unbounded() -> AsyncIterator[House]:
    async with House(settings={"max_unsent": 0}) as opened:
        yield opened


SIZE = 12 * MEGABYTE
"""More than the buffers of a connection hold. A file is sent in pieces of 256 KiB."""

KINDS = {
    "json": {"do": "json", "size": 900_000},
    "file": {"do": "file", "size": SIZE, "accept": "application/octet-stream"},
}


async def ask_and_not_read(house: House, kind: str) -> Client:
    """Send requests until the server cannot send some of the responses."""
    client = Client(house)
    await client.__aenter__()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    body = json.dumps(KINDS[kind]).encode()
    await client.send(*[predict("gated", "", body).data] * (20 if kind == "json" else 1))
    return client


def held(house: House) -> int:
    return sum(connection.unsent() for connection in house.http.open)


@pytest.mark.parametrize("kind", KINDS)
async def test_answers_that_nobody_reads_are_bounded_together(small: House, kind: str) -> None:
    """The server drops the responses that have stalled longest, and serves other clients."""
    clients: list[Client] = []
    try:
        while len(clients) < 100 and all(not is_cut(client) for client in clients):
            clients.append(await ask_and_not_read(small, kind))
            async with Client(small) as honest:
                assert (await honest.ask(LIVE)).status == 200
            await small.until(
                lambda: len(small.http.connections) <= len(clients), "an end to the honest one"
            )
            await settled(small)
            assert held(small) <= MOST + MEGABYTE
            if len(small.http.connections) < len(clients):
                break
        assert len(small.http.connections) < len(clients)
    finally:
        for client in clients:
            client.writer.transport.abort()
    await small.until_nothing_is_under_way()
    await small.until(lambda: small.http.unsent.total == 0, "an end to what is held")


def is_cut(client: Client) -> bool:
    return client.writer.transport.is_closing()


async def settled(house: House) -> None:
    """Wait until the amount of unsent data stops changing."""
    still, before = 0, -1
    while still < 3:
        await asyncio.sleep(0.02)
        now = held(house)
        still = still + 1 if now == before else 0
        before = now


async def test_without_a_bound_all_are_held(unbounded: House) -> None:
    clients = [await ask_and_not_read(unbounded, "json") for _ in range(10)]
    await settled(unbounded)
    assert len(unbounded.http.connections) == 10
    for client in clients:
        client.writer.transport.abort()
    await unbounded.until_nothing_is_under_way()


# --- JSON that is too large


@pytest.fixture(scope="module")
def limited(serve_all: Serve) -> Server:
    return serve_all(
        {"echo": "zoo.echo", "files": "zoo.files"},
        *("--client-max-json", "10000", "--client-max-size", "1000000"),
    )


@pytest.mark.parametrize(
    "kind", ["application/json", "application/json; charset=utf-8", "a/b+json"]
)
def test_json_beyond_its_bound_is_413(limited: Server, kind: str) -> None:
    for size, status in ((9900, 200), (10_000, 413)):
        body = json.dumps({"text": "x" * size}).encode()
        response = limited.predict("echo", content=body, headers={"Content-Type": kind})
        assert response.status_code == status
    assert response.json()["code"] == "too_large"
    assert "10000 bytes, the limit for JSON and urlencoded forms" in response.json()["message"]


def test_bound_holds_for_a_request_whose_head_is_known(limited: Server) -> None:
    with socket.create_connection((HOST, limited.port)) as connection:
        for size, status in ((10, b"200"), (20, b"200"), (9900, b"200"), (10_000, b"413")):
            body = json.dumps({"text": "x" * size}).encode()
            head = (
                "POST /v2/models/echo/predict/ HTTP/1.1\r\nHost: localhost\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            connection.sendall(head.encode() + body)  # usually arrives in one piece
            assert connection.recv(MEGABYTE).split(b" ", 2)[1] == status


def test_urlencoded_form_beyond_that_bound_is_413(limited: Server) -> None:
    assert limited.predict("echo", data={"text": "x" * 10_000}).status_code == 413


def test_json_in_chunks_is_bound_by_that(limited: Server) -> None:
    pieces = iter([b'{"text": "', b"x" * 10_000, b'"}'])
    headers = {"Content-Type": "application/json"}
    assert limited.predict("echo", content=pieces, headers=headers).status_code == 413


def test_files_are_not_bound_by_that(limited: Server) -> None:
    response = limited.predict("files", **multipart(Part("data", b"x" * 500_000, "a.bin")))
    assert response.status_code == 200
    response = limited.predict("files", **multipart(Part("data", b"x" * 1_100_000, "a.bin")))
    assert response.json()["message"] == "The request body is larger than 1000000 bytes"


def test_json_without_a_bound(serve: Serve) -> None:
    server = serve({"echo": "zoo.echo"})
    text = "x" * 5 * MEGABYTE
    assert predictions(server.predict("echo", json={"text": text}))["text"] == ["str", text]
