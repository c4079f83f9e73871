"""Clients that stall while sending or receiving; the tests move the server's clock ahead.

`test_timeouts.py` has tests with real servers and the real clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clock import TurnedLoop
from tests.serving.callers import Journal
from tests.serving.inside import LIVE, Client, House
from tests.serving.segments import Ask, chunked, get, padded, post, predict
from tests.support import Part, multipart

LIMIT = 30.0
LESS, MORE = 0.6 * LIMIT, 1.4 * LIMIT
MEGABYTE = 1024 * 1024
FORM = multipart(Part("data", b"x" * 300_000, "a.bin"))
BODIES = {
    "small": predict("gated", "", b'{"text": "abc"}'),
    "large": predict("gated", "", b'{"text": "' + b"x" * 300_000 + b'"}'),
    "form": predict("gated", "", FORM["content"], media=FORM["headers"]["Content-Type"]),
}
REPLIES: dict[str, dict[str, Any]] = {
    "file": {"do": "file", "size": 64 * MEGABYTE, "accept": "application/octet-stream"},
    "stream": {"do": "stream", "size": 0},
}


def make(limit: float) -> House:
    return House(
        receive_timeout=limit,
        settings={"send_timeout": limit},
        limits={"rate": 0},
        keepalive=1000.0,
        new_loop=TurnedLoop,
    )


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with make(LIMIT) as opened:
        yield opened


@pytest.fixture(scope="module")
def unlimited() -> Iterator[House]:
    with make(0) as opened:
        yield opened


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


def noted(journal: Journal, number: int, **arguments: Any) -> Ask:
    return predict("gated", "", padded(400, **journal.args(number, **arguments)))


# --- --receive-timeout


@pytest.mark.parametrize("kind", BODIES)
def test_client_that_stops_sending_is_408(house: House, kind: str) -> None:
    """The client stops before the body, inside it, or before its last byte."""
    ask = BODIES[kind]
    whole = len(ask.body)
    parts = [0, whole // 2, whole - 1]

    async def asking() -> None:
        async with contextlib.AsyncExitStack() as opened:
            clients = [await opened.enter_async_context(Client(house)) for _ in parts]
            for client, sent in zip(clients, parts, strict=True):
                await client.send(ask.head + ask.body[:sent])
            await house.until_received(*parts)
            answers = [asyncio.create_task(client.answer()) for client in clients]
            await house.turn(LESS)
            assert not any(answer.done() for answer in answers)
            await house.turn(LESS)
            for answer in await asyncio.gather(*answers):
                assert answer.status == 408
                told = json.loads(answer.body)
                assert told["code"] == "receive_timeout"
                assert "30 s" in told["message"]
        await house.until_nothing_is_under_way()

    house.run(asking())


def test_client_that_stops_sending_chunks_is_408(house: House) -> None:
    fields = ("Transfer-Encoding: chunked",)
    ask = post("/v2/models/gated/predict/", b"", *fields, length=None)

    async def asking() -> None:
        async with Client(house) as client:
            await client.send(ask.head + chunked(b'{"text": ')[:-5])
            await house.until_received(9)
            await house.turn(LESS)
            await house.turn(LESS)
            assert (await client.answer()).status == 408

    house.run(asking())


def test_rest_that_comes_after_the_refusal_is_no_request(house: House, journal: Journal) -> None:
    """The connection is closed, or it continues with the request after the rest of the body."""
    smuggled = get("/smuggled").data

    async def asking() -> None:
        before = house.handled
        async with Client(house) as client:
            await client.send(predict("gated", "", smuggled).head)
            await house.until_received(0)
            await house.turn(MORE)
            assert (await client.answer()).status == 408
            answered = 1
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await client.send(smuggled, noted(journal, 2).data)
                assert (await client.answer()).predicted["number"] == 2
                answered = 2
        assert house.handled - before == answered

    house.run(asking())


def test_connection_that_rests_between_two_requests_is_kept(house: House) -> None:
    async def asking() -> None:
        async with Client(house) as client:
            for _ in range(2):
                assert (await client.ask(LIVE)).status == 200
                await house.turn(MORE)  # more than a body may pause
            assert (await client.ask(LIVE)).status == 200

    house.run(asking())


def test_client_that_sends_slowly_but_surely_is_served(house: House) -> None:
    """The body takes longer than the limit in total, but no pause does."""
    ask = BODIES["small"]

    async def asking() -> None:
        async with Client(house) as client:
            await client.send(ask.head)
            for place in range(0, len(ask.body), 4):
                await house.until_received(place)
                await house.turn(LESS)
                await client.send(ask.body[place : place + 4])
            assert (await client.answer()).predicted["text"] == 3

    house.run(asking())


def test_time_to_predict_is_not_counted(house: House, journal: Journal) -> None:
    form = multipart(Part("data", b"x" * 300_000, "a.bin"))
    query = f"?number=1&gate=gate&journal={journal.directory}"
    ask = predict("gated", query, form["content"], media=form["headers"]["Content-Type"])

    async def asking() -> None:
        async with Client(house) as client:
            answer = asyncio.create_task(client.ask(ask))
            await house.until(lambda: journal.numbers("begin") == [1], "its begin")
            await house.turn(MORE)
            assert not answer.done()
            journal.open("gate")
            assert (await answer).predicted["number"] == 1

    house.run(asking())


def test_receive_timeout_of_0_is_no_limit(unlimited: House) -> None:
    ask = BODIES["small"]

    async def asking() -> None:
        async with Client(unlimited) as client:
            for start in (ask.head[:20], ask.head[20:], ask.body[:5]):
                await client.send(start)
                await unlimited.turn(MORE / 2)
            await unlimited.until_received(5)
            await unlimited.turn(MORE)
            await client.send(ask.body[5:])
            assert (await client.answer()).predicted["text"] == 3

    unlimited.run(asking())


# --- --send-timeout


def take_little(client: Client) -> None:
    """Shrink the client's receive buffer; otherwise the system may buffer tens of megabytes."""
    sock = client.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)


async def until_stuck(house: House) -> None:
    """Wait until the server holds bytes that the client does not read."""
    still = 0
    while still < 20:
        before = house.unsent
        await asyncio.sleep(0.005)
        still = still + 1 if house.unsent == before > 0 else 0


@pytest.mark.parametrize("kind", REPLIES)
def test_client_that_takes_nothing_is_cut_off(house: House, journal: Journal, kind: str) -> None:
    """The server waits until the limit."""

    async def asking() -> None:
        pids = house.pool.pids
        async with Client(house) as client:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            take_little(client)
            await client.send(noted(journal, 1, **REPLIES[kind]).data)
            await until_stuck(house)
            await house.turn(LESS)
            assert len(house.connections) == 1
            await house.turn(MORE)
            await house.until(lambda: not house.connections, "the end of the connection")
            client.writer.transport.abort()
        await house.until_nothing_is_under_way()
        if kind == "stream":
            await house.until(lambda: journal.numbers("closed") == [1], "the end of the stream")
        assert house.pool.pids == pids

    house.run(asking())


def test_client_that_takes_slowly_but_surely_gets_all(house: House, journal: Journal) -> None:
    """The response takes longer than the limit in total, but no pause does."""

    async def asking() -> None:
        async with Client(house) as client:
            transport = client.writer.transport
            take_little(client)
            await client.send(noted(journal, 1, **REPLIES["file"]).data)
            for _ in range(3):
                await client.reader.readexactly(16 * MEGABYTE)
                transport.pause_reading()  # type: ignore[attr-defined]
                await until_stuck(house)
                await house.turn(LESS)
                transport.resume_reading()  # type: ignore[attr-defined]
            rest = 0
            while rest < 16 * MEGABYTE:
                data = await client.reader.read(MEGABYTE)
                assert data
                rest += len(data)

    house.run(asking())


def test_model_that_is_slow_to_yield_is_no_client_that_takes_nothing(
    house: House, journal: Journal
) -> None:
    async def asking() -> None:
        async with Client(house) as client:
            answer = asyncio.create_task(
                client.ask(noted(journal, 1, gate="gate", do="stream", size=2))
            )
            await house.until(lambda: journal.numbers("waits") == [1], "its wait")
            await house.turn(MORE)
            assert not answer.done()
            journal.open("gate")
            assert (await answer).whole

    house.run(asking())


def test_send_timeout_of_0_is_no_limit(unlimited: House, journal: Journal) -> None:
    async def asking() -> None:
        async with Client(unlimited) as client:
            transport = client.writer.transport
            transport.pause_reading()  # type: ignore[attr-defined]
            await client.send(noted(journal, 1, **REPLIES["file"]).data)
            await until_stuck(unlimited)
            await unlimited.turn(2 * MORE)
            transport.resume_reading()  # type: ignore[attr-defined]
            assert len((await client.answer()).body) == REPLIES["file"]["size"]

    unlimited.run(asking())
