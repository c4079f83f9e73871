"""One connection to a server in this process: it sends bytes in given pieces, and returns all that
the server sends until it waits for more input or closes the connection.

The test inspects the server's state, so it needs no pause to know that the server waits.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import logging
import os
import re
import socket
import termios
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from deepaas.http.connection import Connection
from tests.serving.inside import House
from tests.support import HOST

SECONDS = 20.0
"""Seconds within which the server must answer each input or close the connection."""

TURNS = 100
"""Turns of the event loop in which the server reads a piece, unless it has paused reading."""

_CHANGING = [
    (re.compile(rb"\r\nDate: [^\r]*"), b""),
    (re.compile(rb"\r\nX-Request-ID: [^\r]*"), b""),
    (re.compile(rb"\r\nServer-Timing: [^\r]*"), b""),
    (re.compile(rb"\r\nConnection: close"), b""),  # missing if the end was not yet known
    (re.compile(rb"\btmp\w{8}\b"), b"tmp"),
    (re.compile(rb'"request_id":"[^"]*"'), b""),
]


@dataclass(frozen=True)
class Outcome:
    """All that a client sees; `ended` says whether the server has closed the connection."""

    answers: bytes
    ended: bool

    @property
    def statuses(self) -> list[int]:
        return [int(found) for found in re.findall(rb"HTTP/1\.[01] (\d\d\d) ", self.answers)]


class Complaints(logging.Handler):
    """Collects the errors that the server logs and the exceptions that the event loop reports."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))

    def on_exception(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.found.append(repr(context))


@contextlib.contextmanager
def complaints(loop: asyncio.AbstractEventLoop) -> Iterator[list[str]]:
    handler = Complaints()
    loggers = [logging.getLogger(name) for name in ("deepaas", "aiohttp", "asyncio")]
    loop.set_exception_handler(handler.on_exception)
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield handler.found
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        loop.set_exception_handler(None)


def _asked(fd: int, request: int) -> int:
    number = array.array("i", [0])
    fcntl.ioctl(fd, request, number)
    return number[0]


class Talk:
    """A connection to `house`."""

    def __init__(self, house: House, sock: socket.socket, connection: Connection) -> None:
        self._house = house
        self._sock = sock
        self._connection = connection
        self._answers = bytearray()
        self._ended = False

    async def all(self, pieces: Sequence[bytes]) -> Outcome:
        for piece in pieces:
            await self.send(piece)
        return await self.outcome()

    async def send(self, piece: bytes) -> None:
        """Send a piece, and wait until the server has read it, unless it has paused reading."""
        rest = memoryview(piece)
        while rest and not self._ended:
            with contextlib.suppress(BlockingIOError):
                try:
                    rest = rest[self._sock.send(rest) :]
                except ConnectionError:
                    break
            await asyncio.sleep(0)
            self._read()
        for _ in range(TURNS):
            if self._ended or self._is_taken():
                return
            await asyncio.sleep(0)

    def _is_taken(self) -> bool:
        transport = self._connection.transport
        if transport is None or transport.is_closing():
            return True
        fd = transport.get_extra_info("socket").fileno()
        return not _asked(self._sock.fileno(), termios.TIOCOUTQ) and not _asked(
            fd, termios.FIONREAD
        )

    def _read(self) -> None:
        try:
            while data := self._sock.recv(2**16):
                self._answers += data
        except BlockingIOError:
            return
        except ConnectionError:
            pass
        self._ended = True

    def _waits(self) -> bool:
        """Return whether the server can do nothing more until the client sends more."""
        connection = self._connection
        transport = connection.transport
        if transport is None or transport.is_closing() or not self._is_taken():
            return False
        fd = transport.get_extra_info("socket").fileno()
        if _asked(fd, termios.TIOCOUTQ) or transport.get_write_buffer_size():
            return False
        if connection._held or self._house.pool.calls or not transport.is_reading():
            return False
        waiters = [connection._waiter]
        if not connection._payload.is_eof():
            waiters.append(connection._payload._waiter)
        return not connection._messages and any(one and not one.done() for one in waiters)

    async def outcome(self) -> Outcome:
        """Wait until the server waits for input or has closed; return all that it sent."""
        turns = 0
        while not self._ended:
            waits = self._waits()
            self._read()
            if waits:
                break
            turns += 1
            await asyncio.sleep(0 if turns < TURNS else 0.001)
        answers = bytes(self._answers)
        for pattern, replacement in _CHANGING:
            answers = pattern.sub(replacement, answers)
        return Outcome(answers, self._ended)


async def _accepted(house: House, sock: socket.socket) -> Connection:
    address = sock.getsockname()

    def found() -> list[Connection]:
        return [
            one
            for one in house.http.open
            if isinstance(one, Connection)
            and one.transport
            and one.transport.get_extra_info("peername") == address
        ]

    await house.until(found, "a connection")
    return found()[0]


async def talk(house: House, pieces: Sequence[bytes]) -> Outcome:
    """Send the pieces on a new connection, and check that nothing is left when it is closed."""
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await house.loop.sock_connect(sock, (HOST, house.port))
        talk = Talk(house, sock, await _accepted(house, sock))
        outcome = await asyncio.wait_for(talk.all(pieces), SECONDS)
    await house.until(lambda: not house.http.open, "an end to the connection")
    await house.until_nothing_is_under_way()
    assert house.http.unfinished.total == 0
    limits = house.app.limits
    await house.until(lambda: not limits.receiving, "an end to all bodies")
    await house.until(lambda: not os.listdir(house.directory), "the removal of all files")
    return outcome
