"""Ten times more requests than the model can answer: it continues to answer at its full rate.

The tests make no claim about speed, because other work may keep the cores busy. They set the load
relative to the model's answers, measure waits in answers, and measure work in CPU time.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import resource
import signal
import socket
import statistics
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from tests.conftest import Serve
from tests.serving.processes import MEGABYTE
from tests.serving.traces import memory, seconds_of_work, traces, wait_for_traces
from tests.serving.wire import Answer, Connection, request
from tests.support import HOST, Server

SHORT = 5
"""Milliseconds per prediction in tests in which many requests must soon be refused."""

MILLISECONDS = 20
"""Milliseconds per prediction under ten times the load."""

LONG = 500
"""Milliseconds per prediction in tests that fill the queue: a full one takes minutes to answer."""

TIMES = 10
ANSWERS = 100
PATIENCE = 240.0
"""Seconds after which a request hangs. A thousand that take `LONG` need more than twice as long."""
QUEUE = 10
SECONDS_OF_WORK = 0.002
"""CPU seconds that the server may use per request; it refuses most of them."""

BURST = 400
PATH = "/v2/models/plain/predict/"


@dataclass
class Seen:
    """A response, and the number of other answers between its request and itself."""

    answer: Answer
    others: int


@dataclass
class Senders:
    """Connections that are reused when they are free."""

    port: int
    milliseconds: int
    seen: list[Seen] = field(default_factory=list)
    refused: int = 0
    answered: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)
    _free: list[Connection] = field(default_factory=list)
    _busy: dict[asyncio.Task[None], Connection] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1_000_000))

    async def send(self) -> None:
        """Send one request and record the response."""
        connection = self._free.pop() if self._free else Connection(self.port)
        await self._send(connection)

    async def _send(self, connection: Connection) -> None:
        number = next(self._numbers)
        before = self.answered
        body = b'{"id": %d, "ms": %d}' % (number, self.milliseconds)
        await connection.send(request(PATH, body))
        answer = await asyncio.wait_for(connection.read_answer(), PATIENCE)
        self.seen.append(Seen(answer, self.answered - before))
        if answer.status == 200:
            assert answer.content["predictions"]["id"] == number
            self.answered += 1
        self.refused += answer.code == "queue_full"
        self.news.set()
        self._free.append(connection)

    def begin(self) -> None:
        """Send one request without waiting for the response."""
        connection = self._free.pop() if self._free else Connection(self.port)
        task = asyncio.create_task(self._send(connection))
        self._busy[task] = connection
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        connection = self._busy[task]
        if task.cancelled() or task.exception() is None:
            del self._busy[task]
        if task.cancelled():
            self._free.append(connection)

    @property
    def waiting(self) -> int:
        return len(self._busy)

    async def all_answered(self) -> None:
        await asyncio.gather(*self._busy)
        assert not self._busy

    async def leave(self) -> None:
        """Close all connections, also those with pending requests. Fails if a request failed."""
        tasks = list(self._busy)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        for connection in (*self._free, *self._busy.values()):
            await connection.close()
        self._free.clear()
        self._busy.clear()
        failed = Counter(repr(one) for one in ended if isinstance(one, Exception))
        assert not failed

    def of_code(self, code: str) -> list[Seen]:
        return [one for one in self.seen if one.answer.code == code]


async def offer(senders: Senders) -> int:
    """Send ten requests for each answer of the model, and return the number sent."""
    sent = 0
    while senders.answered < ANSWERS:
        for _ in range((senders.answered + 1) * TIMES + QUEUE - sent):
            senders.begin()
            sent += 1
        senders.news.clear()
        await senders.news.wait()
    return sent


def check_refusals(refused: list[Seen]) -> None:
    """Check that the refusals did not wait for the model and have a Retry-After header."""
    for one in refused:
        assert one.answer.status == 503
        assert 1 <= int(one.answer.headers["retry-after"]) <= 3600
        assert "wait for model plain" in one.answer.content["message"]
    assert statistics.median(one.others for one in refused) == 0


# --- a short queue


async def test_server_goes_on_answering_under_ten_times_the_load(serve: Serve) -> None:
    server = serve({}, "zoo.turmoil:plain", "--model-name", "plain", "--queue-size", str(QUEUE))

    async def run() -> None:
        before = seconds_of_work(server)
        sent = await offer(senders)
        await senders.all_answered()
        used = seconds_of_work(server) - before
        check_everyone(senders.seen, sent)
        refused = senders.of_code("queue_full")
        assert len(refused) > sent / 2
        check_refusals(refused)
        assert used / sent < SECONDS_OF_WORK

    senders = Senders(server.port, MILLISECONDS)
    await finished(senders, run)
    check_no_traces(server)


async def finished(senders: Senders, run: Callable[[], Awaitable[None]]) -> None:
    try:
        await run()
    finally:
        await senders.leave()


def check_everyone(seen: list[Seen], sent: int) -> None:
    """Check that each request was answered or refused, and that none overtook an accepted one.

    When a request is sent, the test may not yet have read QUEUE + 2 earlier answers; as many may
    come before its own.
    """
    assert len(seen) == sent
    assert set(Counter(one.answer.code for one in seen)) == {"", "queue_full"}
    assert max(one.others for one in seen if one.answer.status == 200) <= 2 * (QUEUE + 2)


def check_no_traces(server: Server) -> None:
    """Check that no connection is left and that the server answers."""
    wait_for_traces(server, traces(server))
    assert server.predict("plain", params={"id": 1}).status_code == 200
    assert server.get("/v2/health/ready").status_code == 200


# --- memory


async def test_ten_thousand_refusals_cost_nothing_that_stays(serve: Serve) -> None:
    server = serve({}, "zoo.turmoil:plain", "--model-name", "plain", "--queue-size", str(QUEUE))

    async def run() -> None:
        await flood(senders, 1000)
        size = memory(server)
        await flood(senders, 10_000)
        assert memory(server) - size < 4 * MEGABYTE
        assert set(Counter(one.answer.status for one in senders.seen)) == {200, 503}

    senders = Senders(server.port, SHORT)
    await finished(senders, run)
    check_no_traces(server)


async def flood(senders: Senders, refusals: int) -> None:
    """Let fifty callers send requests until `refusals` more have been refused in total."""
    until = senders.refused + refusals

    async def caller() -> None:
        while senders.refused < until:
            await senders.send()

    await asyncio.gather(*(caller() for _ in range(50)))


async def test_default_queue_holds_a_thousand(serve: Serve) -> None:
    """Further calls are refused at once. When all callers have left, the server is idle at once."""
    server = serve({}, "zoo.turmoil:plain", "--model-name", "plain")

    async def run() -> None:
        size = memory(server)
        await fill(senders, 300)
        assert 950 <= senders.waiting <= 1010
        check_refusals(senders.of_code("queue_full"))
        check_hints(senders.of_code("queue_full")[-200:])
        assert memory(server) - size < 60 * MEGABYTE
        await senders.leave()
        await senders.send()  # fails if the thousand calls before it are not withdrawn
        assert senders.seen[-1].answer.status == 200

    senders = Senders(server.port, LONG)
    await finished(senders, run)
    check_no_traces(server)


async def fill(senders: Senders, refusals: int) -> None:
    """Send requests until this many are refused; then wait until only accepted ones are pending."""
    while senders.refused < refusals:
        senders.begin()
        await asyncio.sleep(0.0005)
    while senders.waiting > 1010:
        senders.news.clear()
        await senders.news.wait()


def check_hints(refused: list[Seen]) -> None:
    """Check that Retry-After fits the wait for a thousand calls of half a second."""
    told = [int(one.answer.headers["retry-after"]) for one in refused]
    assert 200 <= statistics.median(told) <= 3600


# --- descriptors


@contextlib.contextmanager
def soft_limit(descriptors: int) -> Iterator[None]:
    """Limit the number of descriptors of processes that are started in the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(descriptors, soft), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def is_live(connection: Connection) -> bool:
    await connection.send(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = await asyncio.wait_for(connection.read_answer(), PATIENCE)
    return answer.status == 200


async def test_usual_limit_of_descriptors_leaves_no_one_without_an_answer(serve: Serve) -> None:
    """The default queue is about as long as the descriptor limit that most shells set."""
    with soft_limit(1024):
        server = serve({}, "zoo.turmoil:plain", "--model-name", "plain")

    async def run() -> None:
        kept = [Connection(server.port) for _ in range(100)]
        for connection in kept:
            assert await is_live(connection)
        await fill(senders, 150)
        kept.append(Connection(server.port))
        for connection in kept:
            assert await is_live(connection)
            await connection.close()
        assert senders.waiting > 900

    senders = Senders(server.port, LONG)
    await finished(senders, run)
    check_no_traces(server)


def test_burst_of_new_connections_need_not_ask_again(serve: Serve) -> None:
    """They connect while the server is stopped. A client whose SYN is dropped retries after 1 s."""
    server = serve({"plain": "zoo.turmoil:plain"})
    with contextlib.ExitStack() as connections:
        os.kill(server.pid, signal.SIGSTOP)
        try:
            opened = [
                connections.enter_context(
                    socket.create_connection((HOST, server.port), timeout=0.9)
                )
                for _ in range(BURST)
            ]
        finally:
            os.kill(server.pid, signal.SIGCONT)
        for one in opened:
            one.settimeout(PATIENCE)
            one.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert one.recv(10_000).startswith(b"HTTP/1.1 200 OK")
