"""The server bounds how much it reads from a connection."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator

import pytest
import uvloop

from deepaas.http import intake
from tests.api.hostile import CHUNKED, CODINGS, CORPUS, END, with_length
from tests.fuzz.talk import complaints
from tests.serving.inside import LIVE, Client, House
from tests.serving.segments import chunked, predict

new_loop = uvloop.new_event_loop
"""The loop of the tests and of their `House`: the one that servers use."""


@pytest.fixture(scope="module")
async def house() -> AsyncIterator[House]:
    async with House() as opened:
        yield opened


# --- chunks


async def ask(house: House, *pieces: bytes, pause: float = 0.0) -> bytes:
    """Send the pieces; return everything that the server sends until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(pause)
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.transport.abort()


def statuses(answers: bytes) -> list[bytes]:
    return re.findall(rb"HTTP/1\.[01] (\d\d\d) ", answers)


@pytest.mark.parametrize("size", [1, 2, 7, 100, 4096, 100_000])
async def test_chunks_of_any_size_are_the_same_body(house: House, size: int) -> None:
    body = json.dumps({"text": "abc" * 20_000}).encode()
    sent = chunked(*(body[start : start + size] for start in range(0, len(body), size)))
    async with Client(house) as client:
        for _ in range(2):
            one = predict("gated", "", sent, "Transfer-Encoding: chunked", length=None)
            assert (await client.ask(one)).predicted["text"] == 60_000
        assert (await client.ask(predict("gated", "", b"{}"))).status == 200


async def test_body_of_little_but_framing_is_refused(house: House) -> None:
    answer = await ask(house, CORPUS["chunks with long extensions"]())
    assert answer.startswith(b"HTTP/1.1 400 The request body has too little content")
    assert statuses(answer) == [b"400"]


async def test_framing_is_allowed_at_first(house: House) -> None:
    body = CHUNKED + b"2;" + b"x" * 60_000 + b"\r\n{}\r\n" + END
    answer = await ask(house, body + b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200 OK") == 2


# --- heads

SMALL_HEADS = {"head": 2000, "heads_memory": 20_000}


@pytest.fixture(scope="module")
async def strict() -> AsyncIterator[House]:
    async with House(limits=SMALL_HEADS) as opened:
        yield opened


@pytest.fixture(scope="module")
async def lenient() -> AsyncIterator[House]:
    async with House(limits={"head": 0, "heads_memory": 0}) as opened:
        yield opened


def head_of(size: int, *, field: int = 500) -> bytes:
    """Return a complete head of `size` bytes that asks to close the connection."""
    head = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    while len(head) + 2 < size:
        left = size - 2 - len(head)
        take = left if left <= field else min(field, left - 20)
        head += b"X: " + b"a" * (take - 5) + b"\r\n"
    assert len(head) + 2 == size
    return head + b"\r\n"


OTHER = b"POST /v2/models/gated/predict/ HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
BEFORE = {
    "nothing": b"",
    "a request": LIVE.data,
    "a request with a body": with_length(b"{}"),
    "a chunked request": CHUNKED + END,
    "a known request": with_length(b"{}"),
}


async def test_bound_of_heads_holds_for_a_known_head_with_a_longer_value(strict: House) -> None:
    async with Client(strict) as client:
        for length, status in ((10, 200), (10, 200), (1000, 200), (2000, 431)):
            forwarded = f"X-Forwarded-For: {'1' * length}"
            seen = await client.ask(predict("gated", "", b"{}", forwarded))
            assert seen.status == status


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("step", [1, 700, 10_000])
@pytest.mark.parametrize(("size", "status"), [(2000, b"200"), (2001, b"431"), (9000, b"431")])
async def test_head_is_bounded_however_it_comes(
    strict: House, before: str, step: int, size: int, status: bytes
) -> None:
    data = BEFORE[before] + head_of(size)
    pieces = [data[start : start + step] for start in range(0, len(data), step)]
    answers = await ask(strict, *pieces)
    assert statuses(answers) == [b"200"] * (before != "nothing") + [status]
    if status == b"431":
        assert (
            b'{"message":"The head of the request has more than 2000 bytes",'
            b'"code":"head_too_large","request_id":"'
        ) in answers


async def test_unfinished_head_that_is_too_large_is_refused_at_once(strict: House) -> None:
    answer = await ask(strict, head_of(5000)[:-2])
    assert answer.split()[1] == b"431"


async def test_large_head_without_a_limit(lenient: House) -> None:
    answer = await ask(lenient, head_of(200_000, field=5000))
    assert answer.startswith(b"HTTP/1.1 200 OK")


async def unfinished(house: House, size: int) -> asyncio.StreamReader:
    """Open a connection, and send a head without its last line."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(head_of(size)[:-2])
    connections.append(writer)
    return reader


connections: list[asyncio.StreamWriter] = []


@pytest.fixture(autouse=True)
def _close_connections() -> Iterator[None]:
    yield
    for writer in connections:
        writer.transport.abort()
    connections.clear()


async def test_all_unfinished_heads_are_bounded_together(strict: House) -> None:
    """The server closes the connections whose heads began first."""
    readers = [await unfinished(strict, 1900) for _ in range(15)]
    await asyncio.wait_for(readers[0].read(), 5)
    assert strict.http.unfinished.total <= SMALL_HEADS["heads_memory"]
    assert not readers[-1].at_eof()
    connections[-1].write(b"\r\n")
    assert (await readers[-1].readline()).startswith(b"HTTP/1.1 200")


async def test_memory_of_heads_is_given_back(strict: House) -> None:
    for end in (b"\r\n", b"", b"X\x00\r\n\r\n"):
        reader = await unfinished(strict, 1500)
        await strict.until(lambda: strict.http.unfinished.total > 1400, "a head")
        connections[-1].write(end)
        if not end:
            connections[-1].transport.abort()
        else:
            await reader.read()
        await strict.until(lambda: strict.http.unfinished.total == 0, "an end to it")


async def test_many_unfinished_heads_without_a_limit(lenient: House) -> None:
    readers = [await unfinished(lenient, 5000) for _ in range(30)]
    await lenient.until(lambda: lenient.http.unfinished.total > 30 * 4900, "all of them")
    assert not any(reader.at_eof() for reader in readers)


# --- garbage after a request, and in its body

GARBAGE = {
    "words": b"garbage and more\r\n\r\n",
    "bytes": bytes(range(256)),
    "no version": b"GET / NONSENSE\r\nHost: x\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
}


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("before", [kind for kind in BEFORE if kind != "nothing"])
@pytest.mark.parametrize(
    ("count", "step"), [(1, 0), (3, 0), (40, 0), (1, 1), (3, 1), (1, 50), (3, 50), (40, 50)]
)
async def test_requests_before_garbage_are_answered(
    house: House, garbage: str, before: str, count: int, step: int
) -> None:
    data = BEFORE[before] * count + GARBAGE[garbage]
    size = step or len(data)
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    answers = await ask(house, *pieces)
    assert statuses(answers) == [b"200"] * count + [b"400"]


@pytest.mark.parametrize("chunks", [b"zz\r\n{}\r\n", b"2\r\n{}x", b"-2\r\n{}\r\n"])
@pytest.mark.parametrize("pause", [0, 0.05])
async def test_malformed_chunks_are_400_at_once(house: House, chunks: bytes, pause: float) -> None:
    """The chunks come in the segment of the head, or in a separate one."""
    pieces = [CHUNKED, b"1\r\n \r\n", chunks] if pause else [CHUNKED + b"1\r\n \r\n" + chunks]
    answer = await asyncio.wait_for(ask(house, *pieces, pause=pause), 5)
    assert answer.startswith(b"HTTP/1.1 400 The request body is malformed: ")
    assert statuses(answer) == [b"400"]


@pytest.mark.parametrize("pause", [0, 0.05])
@pytest.mark.parametrize(
    "chunks",
    [b"zz\r\n", b"1\r\n \r\n-2\r\n", b"1;" + b"x" * 70_000],
    ids=["first", "second", "framing"],
)
@pytest.mark.parametrize(
    ("path", "form", "status"),
    [
        (b"/v2/models/gated/predict/", b"\r\n--B\r\n\r\n\r\n", b"400"),
        (b"/v2/models/gated/predictions", b"", b"404"),
        (b"/v2/models/", b"", b"405"),
    ],
    ids=["400", "404", "405"],
)
async def test_a_body_that_becomes_malformed_behind_its_answer_is_no_error_of_the_server(
    house: House, path: bytes, form: bytes, status: bytes, chunks: bytes, pause: float
) -> None:
    """The response does not wait for this part of the body, and no second response follows."""
    head = (
        b"POST %b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Type: multipart/form-data; boundary=B\r\n\r\n" % path
    )
    first = head + (b"%x\r\n%b\r\n" % (len(form), form) if form else b"")
    pieces = [first, chunks] if pause else [first + chunks]
    with complaints(house.loop) as complained:
        answers = await asyncio.wait_for(ask(house, *pieces, pause=pause), 20)
    assert statuses(answers) == [status]
    assert complained == []


@pytest.mark.parametrize("step", [0, 1, 7, 40])
async def test_first_of_two_errors_in_a_body_is_told_however_it_is_cut(
    house: House, step: int
) -> None:
    form = b"--B\r\n\r\n\r\n--B--\r\n"
    data = (
        b"POST /v2/models/gated/predict/ HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: multipart/form-data; boundary=B\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"%x\r\n%b\r\nzz\r\n" % (len(form), form)
    )
    size = step or len(data)
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    answers = await asyncio.wait_for(ask(house, *pieces, pause=0.001 if step else 0), 20)
    assert statuses(answers) == [b"400"]
    assert b"A part of the multipart body has no name" in answers


# --- transfer codings

VERSIONS = (b"1.1", b"1.0")
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("path", [b"/v2/models/gated/predict/", b"/nowhere", b"/v2/models/"])
@pytest.mark.parametrize(
    ("coding", "version"),
    [("chunked", b"1.0"), *((coding, version) for coding in CODINGS for version in VERSIONS)],
)
async def test_other_codings_than_chunked_are_refused(
    house: House, coding: str, path: bytes, version: bytes
) -> None:
    """The server closes the connection, and does not read the following bytes as a request."""
    fields = CODINGS.get(coding, [b"Transfer-Encoding: chunked"])
    head = b"POST %b HTTP/%b\r\nHost: x\r\nConnection: keep-alive\r\n" % (path, version)
    data = head + b"".join(field + b"\r\n" for field in fields) + b"\r\n0\r\n\r\n" + SMUGGLED
    answer = await asyncio.wait_for(ask(house, data), 15)
    assert statuses(answer) == [b"400"]


def test_constants_fit_together() -> None:
    assert intake.SLICE < intake.MAX_HELD
