"""Ten times more requests than the model can answer: it goes on answering as many as it can.

The model sleeps, so what it can do depends little on the machine, and the senders have little to
do. Other work on the machine may still disturb a measurement, so the best of a few counts: a server
that gives way under load fails in each.
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
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from tests.conftest import Serve
from tests.serving.processes import MEGABYTE
from tests.serving.traces import memory, traces, wait_for_traces
from tests.serving.wire import Answer, Connection, request
from tests.support import HOST, Server

MILLISECONDS = 50
"""How long the model takes: it can answer 20 requests a second."""

SHORT = 5
"""Milliseconds that it takes where many requests are to be refused soon."""

OFFERED = 200
SECONDS = 4.0
ATTEMPTS = 4
PATIENCE = 20.0
QUEUE = 10
BURST = 400
PATH = "/v2/models/plain/predict/"


@dataclass
class Seen:
    """One answer: when it came, and how long it took."""

    answer: Answer
    at: float
    seconds: float


@dataclass
class Senders:
    """Connections that are used again when they are free."""

    port: int
    milliseconds: int = MILLISECONDS
    seen: list[Seen] = field(default_factory=list)
    refused: int = 0
    _free: list[Connection] = field(default_factory=list)
    _busy: dict[asyncio.Task[None], Connection] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1_000_000))

    async def send(self) -> None:
        """One request; what comes back is noted."""
        connection = self._free.pop() if self._free else Connection(self.port)
        await self._send(connection)

    async def _send(self, connection: Connection) -> None:
        number = next(self._numbers)
        began = time.monotonic()
        body = b'{"id": %d, "ms": %d}' % (number, self.milliseconds)
        await connection.send(request(PATH, body))
        answer = await asyncio.wait_for(connection.read_answer(), PATIENCE)
        now = time.monotonic()
        if answer.status == 200:
            assert answer.content["predictions"]["id"] == number
        self.seen.append(Seen(answer, now, now - began))
        self.refused += answer.code == "queue_full"
        self._free.append(connection)

    def begin(self) -> None:
        """Send one request without waiting for what comes of it."""
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
        """Close all connections, also those that are being waited on. What failed comes out."""
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


async def capacity(port: int) -> float:
    """Answers a second to two callers who ask again when they are answered."""
    senders = Senders(port)
    began = time.monotonic()

    async def caller() -> None:
        while time.monotonic() < began + SECONDS / 2:
            await senders.send()

    await asyncio.gather(caller(), caller())
    took = time.monotonic() - began
    await senders.leave()
    assert {one.answer.status for one in senders.seen} == {200}
    return len(senders.seen) / took


async def offer(senders: Senders, rate: float, seconds: float) -> None:
    """Send that many requests a second, whether or not they are answered."""
    began = time.monotonic()
    for number in range(int(rate * seconds)):
        pause = began + number / rate - time.monotonic()
        if pause > 0:
            await asyncio.sleep(pause)
        senders.begin()


async def goodput(senders: Senders) -> float:
    """Predictions a second while ten times as many are asked for."""
    began = time.monotonic()
    await offer(senders, OFFERED, SECONDS + 0.5)
    assert time.monotonic() - began < 2 * SECONDS, "the senders are too slow"
    inside = [one for one in senders.of_code("") if began + 0.5 <= one.at < began + 0.5 + SECONDS]
    return len(inside) / SECONDS


async def best_of(attempts: int, measure: Callable[[], Awaitable[float]]) -> float:
    """The first share that is at least 0.9, or the best there is."""
    best = 0.0
    for _ in range(attempts):
        best = max(best, await measure())
        if best >= 0.9:
            break
    return best


def check_refusals(refused: list[Seen]) -> None:
    """They come at once, and say when to come again."""
    assert len(refused) > OFFERED * SECONDS / 2
    for one in refused:
        assert one.answer.status == 503
        assert 1 <= int(one.answer.headers["retry-after"]) <= 3600
        assert "wait for model plain" in one.answer.content["message"]
    assert statistics.median(one.seconds for one in refused) < 0.010


# --- a short queue


def test_goodput_stays_under_ten_times_the_load(serve: Serve) -> None:
    server = serve({}, "zoo.turmoil:plain", "--model-name", "plain", "--queue-size", str(QUEUE))

    async def run() -> None:
        best = await best_of(ATTEMPTS, measure)
        assert best >= 0.9
        check_refusals(senders.of_code("queue_full"))

    async def measure() -> float:
        able = await capacity(server.port)
        senders.seen.clear()
        offered = await goodput(senders)
        await senders.all_answered()
        check_everyone(senders.seen)
        return offered / able

    senders = Senders(server.port)
    asyncio.run(finished(senders, run))
    check_no_traces(server)


async def finished(senders: Senders, run: Callable[[], Awaitable[None]]) -> None:
    try:
        await run()
    finally:
        await senders.leave()


def check_everyone(seen: list[Seen]) -> None:
    """Each has an answer of one of two kinds, and none of the accepted has waited for long."""
    assert len(seen) == int(OFFERED * (SECONDS + 0.5))
    assert set(Counter(one.answer.code for one in seen)) == {"", "queue_full"}
    accepted = [one.seconds for one in seen if one.answer.status == 200]
    longest = (QUEUE + 2) * MILLISECONDS / 1000
    assert statistics.median(accepted) < 2 * longest
    assert max(accepted) < 5 * longest


def check_no_traces(server: Server) -> None:
    """No connection is left, and the server answers at once."""
    wait_for_traces(server, traces(server))
    began = time.monotonic()
    assert server.predict("plain", params={"id": 1}).status_code == 200
    assert time.monotonic() - began < 2
    assert server.get("/v2/health/ready").status_code == 200


# --- memory


def test_ten_thousand_refusals_cost_nothing_that_stays(serve: Serve) -> None:
    server = serve({}, "zoo.turmoil:plain", "--model-name", "plain", "--queue-size", str(QUEUE))

    async def run() -> None:
        await flood(senders, 1000)
        size = memory(server)
        await flood(senders, 10_000)
        assert memory(server) - size < 4 * MEGABYTE
        assert set(Counter(one.answer.status for one in senders.seen)) == {200, 503}

    senders = Senders(server.port, SHORT)
    asyncio.run(finished(senders, run))
    check_no_traces(server)


async def flood(senders: Senders, refusals: int) -> None:
    """Let fifty callers ask again and again until so many have been refused, whoever they are."""
    until = senders.refused + refusals

    async def caller() -> None:
        while senders.refused < until:
            await senders.send()

    await asyncio.gather(*(caller() for _ in range(50)))


def test_default_queue_holds_a_thousand(serve: Serve) -> None:
    """Those beyond are refused at once; when all have gone the server is idle at once."""
    server = serve({}, "zoo.turmoil:plain", "--model-name", "plain")

    async def run() -> None:
        size = memory(server)
        for _ in range(1100):
            senders.begin()
            await asyncio.sleep(0.0005)
        await offer(senders, OFFERED, 2.0)
        refused = senders.of_code("queue_full")
        check_refusals_of_full_queue(refused)
        assert 950 <= senders.waiting <= 1010
        assert memory(server) - size < 60 * MEGABYTE
        began = time.monotonic()
        await senders.leave()
        await senders.send()
        assert senders.seen[-1].answer.status == 200
        assert time.monotonic() - began < 5  # and not fifty, for a thousand calls

    senders = Senders(server.port)
    asyncio.run(finished(senders, run))
    check_no_traces(server)


def check_refusals_of_full_queue(refused: list[Seen]) -> None:
    assert len(refused) > 300
    assert all(one.answer.status == 503 for one in refused)
    last = refused[-200:]
    # A thousand calls of 50 ms: that is what the client is told.
    told = [int(one.answer.headers["retry-after"]) for one in last]
    assert 20 <= statistics.median(told) <= 120
    assert statistics.median(one.seconds for one in last) < 0.010


# --- descriptors


@contextlib.contextmanager
def soft_limit(descriptors: int) -> Iterator[None]:
    """Let what is started in the block have so many descriptors, as is usual."""
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


def test_usual_limit_of_descriptors_leaves_no_one_without_an_answer(serve: Serve) -> None:
    """The default queue is as long as the limit of descriptors that most shells give."""
    with soft_limit(1024):
        server = serve({}, "zoo.turmoil:plain", "--model-name", "plain")

    async def run() -> None:
        kept = [Connection(server.port) for _ in range(100)]
        for connection in kept:
            assert await is_live(connection)
        for _ in range(1200):
            senders.begin()
            await asyncio.sleep(0.0005)
        kept.append(Connection(server.port))
        for connection in kept:
            assert await is_live(connection)
            await connection.close()
        assert len(senders.of_code("queue_full")) > 100
        assert senders.waiting > 950

    senders = Senders(server.port)
    asyncio.run(finished(senders, run))
    check_no_traces(server)


def test_burst_of_new_connections_need_not_ask_again(serve: Serve) -> None:
    """While the server is busy with something else: who asks again does so after a second."""
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
