"""Sends requests at a fixed rate, whether or not the answers to earlier ones have come.

A request's time counts from the moment it was due, not from when it was sent: what a stall of the
server (or of this program) delays is counted as late, never left out. A request that is due while
all connections wait for an answer gets a new one, up to a number that means the server is lost.

wrk sends the next request when an answer comes, so it cannot do this. h2load sends those of all its
connections together every so many milliseconds, and counts from when they were sent.
"""

import gc
import re
import select
import socket
import time
from collections import deque
from dataclasses import dataclass

from benchmarks.servers import REQUEST_SECONDS, BenchmarkError, Server

FIRST_CONNECTIONS = 8
MOST_CONNECTIONS = 512
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Pace:
    """What came of one run; times in milliseconds."""

    asked: float
    held: float
    """Answers a second: less than asked for if the server does not keep up."""
    p50: float
    p99: float
    late: float
    """How late all but the latest 1 % of the requests were sent, which their times include."""

    @property
    def spread(self) -> float:
        return self.p99 / self.p50


class _Connection:
    """One request at a time."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.socket = socket.create_connection(("127.0.0.1", server.port), REQUEST_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.number = self.socket.fileno()
        self.due = 0.0
        self.answer = b""

    def send(self, message: bytes, due: float) -> None:
        self.due, self.answer = due, b""
        self.socket.sendall(message)

    def receive(self) -> bool:
        """Whether the answer is complete."""
        data = self.socket.recv(65536)
        if not data:
            raise self.server.fault("closed a connection instead of answering")
        self.answer += data
        head, end, body = self.answer.partition(b"\r\n\r\n")
        if not end:
            return False
        length = LENGTH.search(head)
        if not head.startswith(b"HTTP/1.1 200") or length is None:
            raise self.server.fault(f"answered {self.answer[:300]!r}")
        return len(body) >= int(length[1])


def pace(server: Server, rate: float, seconds: int) -> Pace:
    """One run, checked by hand before and after as those of wrk are."""
    with server.awake():
        server.verify()
        gc.collect()
        gc.disable()
        try:
            result = _Sender(server, rate, seconds).run()
        except OSError as error:
            raise server.fault(f"at {rate:.0f} requests a second: {error!r}") from error
        finally:
            gc.enable()
        server.verify()
        server.tidy()
    return result


class _Sender:
    def __init__(self, server: Server, rate: float, seconds: int) -> None:
        self.server = server
        self.rate = rate
        self.count = max(1, round(rate * seconds))
        self.message = _message(server)
        self.idle = deque(_Connection(server) for _ in range(FIRST_CONNECTIONS))
        self.busy: dict[int, _Connection] = {}
        """By file descriptor: `select` is fastest with numbers."""
        self.sent = 0
        self.times: list[float] = []
        self.late: list[float] = []

    def run(self) -> Pace:
        start = time.perf_counter() + 0.01
        end = start + self.count / self.rate + REQUEST_SECONDS
        try:
            while len(self.times) < self.count:
                now = time.perf_counter()
                if now > end:
                    raise self.server.fault(f"leaves requests without answer: {len(self.busy)}")
                due = start + self.sent / self.rate
                if self.sent == self.count or len(self.busy) == MOST_CONNECTIONS:
                    self._receive(1.0)
                elif due <= now:
                    self._send(due)
                    self._receive(0)
                else:
                    self._receive(due - now)
            seconds = time.perf_counter() - start
        finally:
            for connection in (*self.idle, *self.busy.values()):
                connection.socket.close()
        return Pace(
            asked=self.rate,
            held=self.count / max(seconds, self.count / self.rate),
            p50=_percentile(self.times, 50) * 1e3,
            p99=_percentile(self.times, 99) * 1e3,
            late=_percentile(self.late, 99) * 1e3,
        )

    def _send(self, due: float) -> None:
        connection = self.idle.popleft() if self.idle else _Connection(self.server)
        connection.send(self.message, due)
        self.late.append(time.perf_counter() - due)
        self.busy[connection.number] = connection
        self.sent += 1

    def _receive(self, seconds: float) -> None:
        """What comes until the time is over, or a little of it."""
        readable, _, _ = select.select(self.busy, (), (), seconds)
        for number in readable:
            connection = self.busy[number]
            if connection.receive():
                self.times.append(time.perf_counter() - connection.due)
                del self.busy[number]
                self.idle.append(connection)


def _message(server: Server) -> bytes:
    request = server.kind.request(server.case)
    head = (
        f"POST {server.kind.path(server.case)} HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{server.port}\r\n"
        f"Content-Type: {request.content_type}\r\n"
        f"Content-Length: {len(request.body)}\r\n\r\n"
    )
    return head.encode() + request.body


def _percentile(values: list[float], percent: int) -> float:
    """The value that so many percent of them do not exceed."""
    if not values:
        raise BenchmarkError("no request was answered")
    return sorted(values)[-(-len(values) * percent // 100) - 1]
