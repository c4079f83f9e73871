"""The fast path changes no response: each request is answered as if it had come alone.

The server does not parse a request whose head it has seen before, byte for byte. So these tests
repeat requests with the same heads: whole, in pieces, pipelined, inside the bodies of other
requests, and between requests of all kinds.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import os
import random
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web_protocol

from tests.conftest import Serve
from tests.serving.callers import Caller, Journal, code_of, predicted, settle
from tests.serving.processes import MEGABYTE, Growth, pids
from tests.serving.segments import (
    Ask,
    Line,
    Seen,
    aligned,
    borders,
    chunked,
    cut,
    get,
    padded,
    post,
    predict,
)
from tests.support import HOST, Server, wait_until

IS_MODERN = hasattr(web_protocol, "MAX_MSG_QUEUE_SIZE")
"""Whether this aiohttp limits its queue of pipelined requests."""

COMPLAINTS = ["Fatal error", "deepaas/api", "aiohttp/web_protocol", "Unhandled", "cannot be read"]
"""Texts in the log of a server that failed."""


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all({}, "zoo.echo", "zoo.sized", "zoo.raises", "zoo.streaming:Plain")


# --- any requests, cut anywhere


def _usual() -> list[Ask]:
    """Return typical predictions: few distinct heads, and many bodies of the same length."""
    bodies = [padded(40, text=f"body {n}", number=n) for n in range(8)]
    asks = [predict("echo", f"?text={letter}") for letter in "abcd"]
    asks += [predict("echo", f"?text={letter}", b"", media="text/plain") for letter in "ef"]
    asks += [predict("echo", "", body) for body in bodies]
    asks += [predict("sized", "", padded(40, text="x" * n)) for n in range(3)]
    asks += [predict("echo", "", padded(40, number="many")), predict("echo", "", b"[" * 40)]
    asks += [predict("echo", "", body, "X-Request-Timeout: 15") for body in bodies[:3]]
    return asks


def _ways_to_say_it() -> list[Ask]:
    """Return the same prediction, with its head written in different ways."""
    body = padded(40, text="words")
    lengths = (
        "content-length: {}",
        "CONTENT-LENGTH:{}",
        "Content-Length:   {}",
        "Content-Length:\t{}",
        "Content-Length: {} ",
        "Content-Length: 000{}",
        "X-Length: 3\r\nContent-Length: {}",
    )
    asks = [predict("echo", "", body, length=length) for length in lengths]
    asks += [
        post("/v2/models/%65cho/predict/", body),
        post("//v2//models/echo/predict", body),
        post("http://localhost/v2/models/echo/predict", body),
        predict("echo", "", body, "Connection: keep-alive"),
        predict("echo", "", body, "Connection: keep-alive", version="HTTP/1.0"),
        predict("echo", "?text=%C3%B6&number=5", body),
        predict("echo", "", body, "X-Transfer-Encoding: chunked"),
        predict("echo", "", body, "X-Long: " + "x" * 5000),
        predict("echo", "", body, "Accept: text/event-stream"),
        predict("echo", "", b"text=form&number=3", media="application/x-www-form-urlencoded"),
        predict(
            "sized",
            "",
            b'--b\r\nContent-Disposition: form-data; name="text"\r\n\r\nabc\r\n--b--\r\n',
            media="multipart/form-data; boundary=b",
        ),
        predict("echo", "", gzip.compress(body, mtime=0), "Content-Encoding: gzip"),
        predict("echo", "", body, "Expect: 100-continue"),
    ]
    chunks = "Transfer-Encoding: chunked"
    hidden = predict("echo", "?text=a").data
    asks += [
        predict("echo", "", chunked(body[:7], body[7:]), chunks, length=None),
        predict("echo", "", chunked(body, extension=b";a=b"), chunks, length=None),
        predict("echo", "", chunked(body, trailer=b"X-Trailer: 5\r\n"), chunks, length=None),
        predict("echo", "", chunked(hidden), chunks, length=None),
        predict("echo", "", chunked(hidden, hidden), chunks, length=None),
    ]
    return asks


def _refused() -> list[Ask]:
    """Return requests that are refused, but leave the connection open."""
    hidden = predict("echo", "?text=a").data
    return [
        predict("nobody", "", padded(40, text="a")),
        predict("nobody", "", hidden),
        predict("echo", "", hidden),
        predict("echo", "", hidden * 3),
        predict("echo", "", hidden[:-2] + b"  "),
        predict("echo", "", padded(40, text="a"), "X-Request-Timeout: soon"),
        predict("echo", "", hidden, "X-Request-Timeout: -1"),
        predict("raises", "?kind=value"),
        predict("raises", "", padded(40, kind="aiohttp-422")),
        predict("raises", "", padded(40, kind="werkzeug-503")),
        predict("raises", "", padded(40, kind="none")),
        post("/v2/models/echo/train/", b"{}"),
        post("/v2/models/echo/", b"{}"),
    ]


def _others() -> list[Ask]:
    """Return requests that are not predictions, and predictions with large responses."""
    file = {"do": "file", "accept": "application/octet-stream"}
    return [
        get("/v2/models/"),
        get("/v2/health/live", "Connection: keep-alive"),
        get("/nowhere"),
        get("/v2/models/echo/predict/"),
        get("/v2/models/echo/predict/?text=a", method="HEAD"),
        get("/", method="OPTIONS"),
        Ask(
            get("/v2/health/live", "Content-Length: 108").head,
            predict("echo", "?text=a").data[:108],
        ),
        Ask(b"\r\n" + predict("echo", "?text=a").head, b"{}"),
        predict("sized", "", padded(80, size=300_000, **file)),
        predict("sized", "", padded(80, size=5_120, **file)),
        predict("sized", "", padded(80, do="json", size=2_000_000)),
        predict("sized", "", padded(80, do="json", size=60_000)),
        predict("echo", "", padded(70_000, text="large")),
        predict("echo", "", padded(200_000, text="larger")),
        predict("streaming", "", padded(80, count=3)),
        predict("streaming", "", padded(80, count=2), "Accept: text/event-stream"),
        predict("streaming", "", padded(80, count=2, end="raise")),
        predict("streaming", "", padded(80, kind="count", count=0, end="raise")),
        *[
            predict("echo", "?text=a", b"{}", "Connection: Upgrade", "Upgrade: h2c", alone=True)
            for _ in range(IS_MODERN)  # an older aiohttp reads no body here
        ],
    ]


def _last() -> list[Ask]:
    """Return requests that end the connection."""
    body = padded(40, text="end")
    ends: list[dict[str, Any]] = [
        {"version": "HTTP/1.0"},
        {"length": "Content-Length: {0}\r\nContent-Length: {0}", "alone": True},
        {"length": "Content-Length: {0}\r\nContent-Length: 2", "alone": True},
        {"length": "Content-Length: +{}", "alone": True},
        {"length": "Content-Length: {}, 5", "alone": True},
        {"length": "Content-Length : {}", "alone": True},
        {"length": "Content-Length: {}\r\nTransfer-Encoding: chunked", "alone": True},
        {"version": "HTTP/1,1", "alone": True},
    ]
    asks = [predict("echo", "", body, last=True, **one) for one in ends]
    asks += [
        predict("echo", "", body, "Connection: close", last=True),
        predict("nobody", "", body, "Connection: close", last=True),
        predict("streaming", "", padded(80, count=3), "Connection: close", last=True),
        predict("streaming", "", padded(80, count=3), version="HTTP/1.0", last=True),
        get("/v2/health/live", "Connection: close", last=True),
        Ask(b"\x16\x03\x01\x00\r\n\r\n", last=True, alone=True),
        get(
            "/v2/health/live",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            last=True,
            alone=True,
        ),
    ]
    return asks


KINDS = [_usual(), _ways_to_say_it(), _refused(), _others()]


class Truth:
    """The response to each request when it is sent whole, on a new connection.

    A header that is unique to the request prevents the fast path.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._known: dict[Ask, asyncio.Task[Seen]] = {}

    async def of(self, ask: Ask) -> Seen:
        if ask not in self._known:
            self._known[ask] = asyncio.create_task(self._ask(ask))
        return await self._known[ask]

    async def _ask(self, ask: Ask) -> Seen:
        async with Line(self._port) as line:
            await line.send(ask.marked())
            return await line.answer(ask)


class Talk:
    """A random conversation on one connection."""

    def __init__(self, seed: str, length: int) -> None:
        self._random = random.Random(seed)
        self.asks = [self._ask() for _ in range(length)]
        self.asks.append(self._random.choice(_last()))

    def _ask(self) -> Ask:
        kind = self._random.choices(KINDS, weights=(12, 3, 2, 3))[0]
        return self._random.choice(kind)

    def groups(self) -> list[list[Ask]]:
        """Return the requests in groups; each group is sent without waiting for responses."""
        groups: list[list[Ask]] = []
        for ask in self.asks:
            together = groups and not ask.alone and not groups[-1][-1].alone
            if together and self._random.random() < 0.4:
                groups[-1].append(ask)
            else:
                groups.append([ask])
        return groups

    def segments(self, group: Sequence[Ask]) -> list[bytes]:
        data = b"".join(aligned(group))
        if group[0].alone:
            return [data]
        places = [self._random.randrange(len(data)) for _ in range(self._random.randrange(6))]
        edges = borders(group)
        match self._random.randrange(6):
            case 0:
                return [data]
            case 1:
                return cut(data, places)
            case 2:
                return cut(data, edges)
            case 3:
                return cut(data, self._random.sample(edges, len(edges) // 2) + places[:1])
            case _:
                return aligned(group)

    def pause(self) -> float:
        return self._random.choice((0, 0, 0.0005, 0.003))

    async def hold(self, port: int, truth: Truth) -> None:
        """Send all requests, and check that each gets the expected response, in order."""
        number = itertools.count()
        async with Line(port) as line:
            for group in self.groups():
                sending = asyncio.create_task(line.send(*self.segments(group), pause=self.pause()))
                for ask in group:
                    seen, expected = await line.answer(ask), await truth.of(ask)
                    if seen != expected:
                        pytest.fail(f"answer {next(number)}, to {ask}: {seen}, not {expected}")
                await sending
            assert await line.rest() == b""


@pytest.mark.parametrize("seed", range(20))
async def test_every_answer_is_the_same_in_any_company(server: Server, seed: int) -> None:
    """Four clients at a time send requests with the same heads."""
    before = len(server.log())
    workers = pids(server, "echo") + pids(server, "sized")
    truth = Truth(server.port)
    talks = [Talk(f"{seed}/{number}", 30) for number in range(4)]
    await asyncio.gather(*(one.hold(server.port, truth) for one in talks))
    new = server.log()[before:]
    assert not [text for text in COMPLAINTS if text in new]
    assert pids(server, "echo") + pids(server, "sized") == workers
    wait_until(lambda: not server.temporary_files(), within=5, what="removal of all files")


async def test_truth_is_told_by_every_request_alone(server: Server) -> None:
    """The responses that `Truth` collects are the correct ones."""

    async def statuses(asks: list[Ask]) -> list[int]:
        truth = Truth(server.port)
        return [(await truth.of(ask)).status for ask in asks]

    usual, ways, refused, others, last = [await statuses(k) for k in (*KINDS, _last())]
    assert usual == [200] * 17 + [422, 400] + [200] * 3
    assert ways == [200] * (len(ways) - 2) + [400] * 2
    assert set(refused) <= {400, 404, 405, 422, 500, 501, 503, 200, 204}
    assert refused.count(200) == 1
    assert others.count(200) >= 13
    assert last == [200] + [400] * 7 + [200, 404] + [200] * 3 + [400, 200]


# --- a request stays one request: it is never split, and never joined with another

KNOWN = predict("echo", "", padded(60, text="known"))
END = predict("echo", "", padded(60, text="the end"))


def echoed(text: str, number: int | None = None) -> dict[str, Any]:
    numbers = {} if number is None else {"number": ["int", number]}
    return {"text": ["str", text], **numbers}


class Speaker:
    """A client that waits until the server has read each segment; the server knows its heads."""

    def __init__(self, server: Server, line: Line) -> None:
        self._server = server
        self.line = line

    async def prepare(self) -> None:
        for _ in range(3):
            assert (await self.line.ask(KNOWN)).predicted == echoed("known")

    async def say(self, *segments: bytes) -> None:
        for segment in segments:
            await self.line.send(segment)
            await asyncio.to_thread(settle, self._server)

    async def end(self) -> None:
        """Check that no surplus response precedes the response to a new request."""
        assert (await self.line.ask(END)).predicted == echoed("the end")
        assert (await self.line.ask(KNOWN)).predicted == echoed("known")


async def speak(
    server: Server, *segments: bytes, asks: Sequence[Ask | None] = (None,)
) -> list[Seen]:
    """Send the segments after known requests; return the responses, and check their number."""
    async with Line(server.port) as line:
        speaker = Speaker(server, line)
        await speaker.prepare()
        await speaker.say(*segments)
        answers = [await line.answer(ask) for ask in asks]
        await speaker.end()
        return answers


@pytest.mark.parametrize("before", [[], [get("/v2/health/live")], [KNOWN, END]])
@pytest.mark.parametrize("size", [1, 30, 46, 48, 49, 55, 57, 58])
async def test_known_request_that_begins_within_a_head_is_a_part_of_it(
    server: Server, size: int, before: list[Ask]
) -> None:
    """The first line of the known request is the value of a header, at any segment border."""
    start = b"POST /v2/models/echo/predict/?number=5 HTTP/1.1\r\nX-Value: "
    first = b"".join(aligned(before)) + start[:size]
    *_, seen = await speak(server, first, start[size:], KNOWN.data, asks=[*before, None])
    assert seen.predicted == echoed("known", 5)


@pytest.mark.parametrize("already", [0, 1, 30])
async def test_known_request_that_is_a_body_is_a_body(server: Server, already: int) -> None:
    """The length announces the body, and the known request is sent where the body continues."""
    body = padded(already, text="it") if already >= 14 else b" " * already
    whole = predict("echo", "?text=query", body + KNOWN.data)
    (seen,) = await speak(server, whole.head + body, KNOWN.data)
    assert seen.status == 400


async def test_known_request_in_a_text_stays_there(server: Server) -> None:
    """The known request is a value in a form. The model returns it unchanged."""
    start, end = b"number=5&text=", b"&x=y"
    ask = predict("echo", "", start + KNOWN.data + end, media="application/x-www-form-urlencoded")
    cases = [[ask.head + start, KNOWN.data, end], [ask.head, start, KNOWN.data + end]]
    for segments in cases:
        (seen,) = await speak(server, *segments)
        text = seen.predicted["text"][1]
        assert text.startswith("POST /v2/models/echo/predict/ HTTP/1.1")
        assert seen.predicted["number"] == ["int", 5]


async def test_known_request_in_a_chunk_stays_there(server: Server) -> None:
    ask = predict("echo", "", b"", "Transfer-Encoding: chunked", length=None)
    size = b"%x\r\n" % len(KNOWN.data)
    (seen,) = await speak(server, ask.head + size, KNOWN.data, b"\r\n0\r\n\r\n")
    assert seen.status in (400, 422)


async def test_known_request_behind_chunks_is_a_request(server: Server) -> None:
    chunks = chunked(b'{"text": "chunks"}')
    ask = predict("echo", "", chunks, "Transfer-Encoding: chunked", length=None)
    first, second = await speak(server, ask.data, KNOWN.data, asks=[ask, KNOWN])
    assert (first.predicted, second.predicted) == (echoed("chunks"), echoed("known"))


@pytest.mark.parametrize("path", ["/nowhere", "/v2/models/echo/predict/?text=a"])
@pytest.mark.parametrize("fields", [[], ["X-Request-Timeout: never"]], ids=["plain", "refused"])
async def test_known_request_that_is_a_body_is_one_after_the_answer_too(
    server: Server, path: str, fields: list[str]
) -> None:
    """The server refuses before the body comes, or it waits for the body."""
    ask = post(path, KNOWN.data, *fields)
    early = path == "/nowhere" or bool(fields)
    async with Line(server.port) as line:
        speaker = Speaker(server, line)
        await speaker.prepare()
        await line.send(ask.head)
        seen = await line.answer(ask) if early else None
        await speaker.say(KNOWN.data)
        seen = seen or await line.answer(ask)
        await speaker.end()
    assert seen.status == (404 if path == "/nowhere" else 400)


async def test_body_that_was_asked_for_is_a_body(server: Server) -> None:
    ask = predict("echo", "", KNOWN.data, "Expect: 100-continue")
    (seen,) = await speak(server, ask.head, KNOWN.data)
    assert seen.interim == ("HTTP/1.1 100 Continue",)
    assert seen.status == 400


@pytest.mark.parametrize("short", [1, 30, 60])
async def test_known_head_with_less_of_its_body_waits_for_the_rest(
    server: Server, short: int
) -> None:
    (seen,) = await speak(server, KNOWN.data[:-short], KNOWN.data[-short:])
    assert seen.predicted == echoed("known")


async def test_known_head_with_a_longer_body_takes_the_next_request_in(server: Server) -> None:
    head = KNOWN.head.replace(b"Content-Length: 60", b"Content-Length: %d" % len(KNOWN.data))
    (seen,) = await speak(server, head, KNOWN.data)
    assert seen.status == 400


@pytest.mark.parametrize("missing", [1, 20, 59])
async def test_known_head_with_less_of_its_body_takes_the_next_bytes(
    server: Server, missing: int
) -> None:
    """This is so even if these bytes are a known request. The rest of them is not a request."""

    async with Line(server.port) as line:
        speaker = Speaker(server, line)
        await speaker.prepare()
        await speaker.say(KNOWN.data[:-missing], KNOWN.data)
        assert (await line.answer()).json() == {"json": ["Invalid JSON body."]}
        refusal = await line.answer()
        assert refusal.status_line.startswith("HTTP/1.0 400 The request is malformed: ")
        assert await line.rest() == b""


@pytest.mark.parametrize("size", [1, 2, 40, len(END.head), len(END.head) + 1, len(END.data)])
async def test_known_head_with_more_than_its_body_is_two_requests(
    server: Server, size: int
) -> None:
    """One segment holds the known request and the beginning of the next."""
    segments = [KNOWN.data + END.data[:size], END.data[size:]]
    first, second = await speak(server, *filter(None, segments), asks=[KNOWN, END])
    assert (first.predicted, second.predicted) == (echoed("known"), echoed("the end"))


async def test_line_ends_before_a_known_request_are_nothing(server: Server) -> None:
    for ends in (b"\r\n", b"\r\n\r\n", b"\r\n\r\n\r\n"):
        (seen,) = await speak(server, ends, KNOWN.data)
        assert seen.predicted == echoed("known")


async def test_line_ends_behind_a_known_request_are_nothing(server: Server) -> None:
    """Old clients send line ends after a body."""
    (seen,) = await speak(server, KNOWN.data + b"\r\n")
    assert seen.predicted == echoed("known")


@pytest.mark.parametrize("fields", [["Content-Length: 60"], ["Content-Length: 0"]])
async def test_known_body_with_two_lengths_is_refused(server: Server, fields: list[str]) -> None:
    ask = predict("echo", "", KNOWN.body, *fields)

    async with Line(server.port) as line:
        await Speaker(server, line).prepare()
        await line.send(ask.data, KNOWN.data)
        assert (await line.answer()).status == 400
        assert b"HTTP/1.1" not in await line.rest()


# --- the head of a request is never confused with another head


class Mix:
    """Two requests with bodies of the same length, whose responses must not be swapped."""

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.asks = {
            text: predict("echo", f"?text={text}", padded(60, number=7))
            for text in (f"{name}-A", f"{name}-B")
        }

    async def check(self) -> None:
        """Send both on a connection that is in use, so that the fast path can serve them."""
        async with Line(self.server.port) as line:
            assert (await line.ask(get("/v2/health/live"))).status == 200
            for text, ask in [*self.asks.items(), *self.asks.items()]:
                assert (await line.ask(ask)).predicted == echoed(text, 7)


@pytest.mark.parametrize("name", ["slow-prediction", "slow-file"])
async def test_head_is_not_taken_for_that_of_the_request_before_it(
    server: Server, name: str
) -> None:
    """All requests wait, each read separately, while the connection serves a slow request.

    The requests with known heads wait too.
    """
    size = {"slow-prediction": MEGABYTE, "slow-file": 64 * MEGABYTE}[name]
    busy = predict("sized", "", padded(90, do="file", size=size, accept="application/octet-stream"))
    mix = Mix(server, name)

    async with Line(server.port) as line:
        speaker = Speaker(server, line)
        await speaker.prepare()
        asks = [KNOWN, *mix.asks.values(), KNOWN]
        await speaker.say(busy.marked(), *aligned(asks))
        assert len((await line.answer(busy)).body) == size
        assert (await line.answer()).predicted == echoed("known")
        for text, ask in mix.asks.items():
            assert (await line.answer(ask)).predicted == echoed(text, 7)
        assert (await line.answer()).predicted == echoed("known")
    await mix.check()


async def test_head_is_not_taken_for_that_of_a_request_just_before_it(server: Server) -> None:
    """The requests are pipelined. The test repeats them, since the timing is random."""

    async with Line(server.port) as line:
        await Speaker(server, line).prepare()
        for number in range(150):
            mix = Mix(server, f"{number:03d}")
            await line.send(*aligned(mix.asks.values()))
            for text, ask in mix.asks.items():
                assert (await line.answer(ask)).predicted == echoed(text, 7)
            for text, ask in mix.asks.items():
                assert (await line.ask(ask)).predicted == echoed(text, 7)


@pytest.mark.parametrize(
    "other", [get("/v2/health/live"), predict("nobody"), predict("echo", "", b"[")]
)
async def test_head_is_not_learned_from_what_came_before(server: Server, other: Ask) -> None:
    mix = Mix(server, f"other-{len(other.data)}-{other.head[5:9].hex()}")

    async with Line(server.port) as line:
        await Speaker(server, line).prepare()
        asks = [other, *mix.asks.values(), other, *mix.asks.values()]
        await line.send(*aligned(asks))
        for ask in asks:
            await line.answer(ask)
    await mix.check()


# --- clients that read nothing

MOST_GROWTH = 24 * MEGABYTE


@pytest.mark.skipif(
    not IS_MODERN,
    reason="this aiohttp itself keeps all that is sent one behind the other",
)
@pytest.mark.parametrize(
    ("size", "most", "together"), [(0, 100_000, 50), (20_000, 20_000, 1)], ids=["small", "large"]
)
def test_client_that_sends_and_never_reads_fills_no_memory(
    server: Server, size: int, most: int, together: int
) -> None:
    """The client can send only as long as the server has room for the unread responses."""
    ask = predict("sized", "", padded(60, do="json", size=size))
    with socket.create_connection((HOST, server.port), timeout=25) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(ask.data)
        assert client.recv(16).startswith(b"HTTP/1.1 200")
        with Growth(server.pid) as growth:
            sent = send_while_it_is_taken(client, ask.data * together, most // together)
            wait_until(
                lambda: growth.bytes >= MOST_GROWTH or is_idle(server),
                within=20,
                what="an end to what the server does",
            )
        assert growth.bytes < MOST_GROWTH, f"{sent * together} requests sent"
    settle(server)


def send_while_it_is_taken(client: socket.socket, data: bytes, most: int) -> int:
    """Send `data` until the server stops reading; return how often it was sent."""
    client.settimeout(1)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < most:
            client.sendall(data)
            sent += 1
    return sent


def is_idle(server: Server) -> bool:
    """Return whether the server and its workers use no CPU for a moment."""

    def used() -> float:
        times = [process.cpu_times() for process in server.processes()]
        return sum(one.user + one.system for one in times)

    before = used()
    time.sleep(0.3)
    return used() - before < 0.03


# --- the access log


async def test_every_request_has_its_line_in_the_log(server: Server) -> None:
    asks = [predict("echo", "?text=line", padded(60, number=n), "User-Agent: me") for n in range(7)]
    asks += [predict("echo", "?text=line", b"[" * 60, "User-Agent: me")] * 2
    before = len(server.log())
    async with Line(server.port) as connection:
        seen = [await connection.ask(ask) for ask in asks]
    assert [one.status for one in seen] == [200] * 7 + [400] * 2

    def lines() -> list[str]:
        return [line for line in server.log()[before:].splitlines() if "?text=line" in line]

    wait_until(lambda: len(lines()) >= len(asks), within=5, what="a line for each")
    assert len(lines()) == len(asks)
    start = '127.0.0.1 "POST /v2/models/echo/predict/?text=line HTTP/1.1"'
    for line, one in zip(lines(), seen, strict=True):
        words = line.partition(" INFO deepaas.access ")[2]
        assert words.startswith(f"{start} {one.status} ")
        assert words.endswith(f' "me" {one.request_id}')
        if one.status == 200:
            assert words.startswith(f"{start} 200 {len(one.body)} 0.")


# --- a server that stops


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
def ending() -> Iterator[Server]:
    """Yield a server for a test that stops it while the fast path waits for a prediction."""
    args = ["zoo.gated", "--noaccess-log", "--drain-timeout", "6"]
    server = Server(args=args).start()
    yield server
    server.kill()


def noted(journal: Journal, number: int, **arguments: Any) -> bytes:
    """Return a request whose head is the same for every call."""
    return predict("gated", "", padded(400, **journal.args(number, **arguments))).data


def under_way(server: Server, journal: Journal) -> Caller:
    """Return a client with a known head, whose call has begun."""
    caller = Caller(server)
    for number in (1, 2):
        caller.send(noted(journal, number))
        assert predicted(caller.answer())["number"] == number
    caller.send(noted(journal, 3, gate="gate"))
    journal.wait_for("begin", 3)
    return caller


def test_server_that_is_told_to_stop_answers_what_is_under_way(
    ending: Server, journal: Journal
) -> None:
    with under_way(ending, journal) as caller, Caller(ending) as other:
        other.send(noted(journal, 4))
        settle(ending)
        os.kill(ending.pid, signal.SIGTERM)
        wait_until(lambda: not ending.is_open(), within=5, what="the closed port")
        journal.open("gate")
        for one, number in ((caller, 3), (other, 4)):
            answer = one.answer()
            assert predicted(answer)["number"] == number
            assert answer.header("Connection") == "close"
            assert one.rest() == b""
    assert ending.wait_end() == 0
    assert "POST" not in ending.log()
    assert "(predictions: 2 of model gated)" in ending.log()
    assert not [text for text in COMPLAINTS if text in ending.log()]


def test_server_that_must_not_wait_longer_says_so(ending: Server, journal: Journal) -> None:
    with under_way(ending, journal) as caller:
        os.kill(ending.pid, signal.SIGTERM)
        answer = caller.answer()
        assert (answer.status, code_of(answer)) == (503, "server_stopping")
        assert answer.header("Connection") == "close"
        assert answer.header("Retry-After") is not None
        assert caller.rest() == b""
    assert ending.wait_end() == 0
    assert journal.numbers("end") == [1, 2]
    assert not [text for text in COMPLAINTS if text in ending.log()]
