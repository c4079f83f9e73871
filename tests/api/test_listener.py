"""When clients wait for a connection, and which idle connections are closed for them.

The tests run in virtual time with real sockets. A client has connected before the loop continues,
so the loop sees it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from deepaas.http.listener import IDLE_SECONDS, LOOK_SECONDS, UNUSED_SECONDS, Listener
from tests.clock import in_virtual_time, now
from tests.support import HOST

FULL = "New clients have to wait: the maximum of 2 connections is reached"
ROOM = "New clients no longer have to wait"


class Connection(asyncio.Protocol):
    """A connection.

    `state` is None while it is busy; otherwise it says whether the connection was used, and since
    when it is idle.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self.state: tuple[bool, float] | None = (False, now())
        self.closed_at: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._server.made.append(self)
        self._server.open.add(self)
        self._server.on_open(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._server.open.discard(self)
        self._server.on_closed()

    def idle_since(self) -> tuple[bool, float] | None:
        return self.state

    def force_close(self) -> None:
        self.closed_at = now()
        self._transport.close()


class Server:
    """The part of the server that a listener needs."""

    def __init__(self) -> None:
        self.made: list[Connection] = []
        self.open: set[Connection] = set()
        self.on_open: Callable[[Connection], object] = lambda _: None
        self.on_closed: Callable[[], object] = lambda: None

    def __call__(self) -> Connection:
        return Connection(self)


class Door:
    """A listener for at most two connections."""

    def __init__(self) -> None:
        self.server = Server()
        self._socket = socket.socket()
        self._socket.bind((HOST, 0))
        self.address = self._socket.getsockname()
        self.listener = Listener(self._socket, cast(Any, self.server), 2)
        self.listener.open(16)
        self._clients = contextlib.ExitStack()

    async def connect(self, number: int = 1) -> None:
        for _ in range(number):
            self._clients.enter_context(socket.create_connection(self.address))
            for _ in range(5):
                await asyncio.sleep(0)

    def close(self) -> None:
        self.listener.close()
        for one in list(self.server.open):
            one.force_close()
        self._clients.close()


@contextlib.contextmanager
def opened() -> Iterator[Door]:
    door = Door()
    try:
        yield door
    finally:
        door.close()


async def seconds_until(condition: Callable[[], object]) -> float:
    began = now()
    while not condition():
        await asyncio.sleep(0.0625)
    return now() - began


@in_virtual_time
async def test_client_waits_while_all_connections_are_busy() -> None:
    with opened() as door:
        await door.connect(2)
        for one in door.server.made:
            one.state = None
        await door.connect()
        await asyncio.sleep(3600)
        assert len(door.server.made) == 2
        door.server.made[0].force_close()
        assert await seconds_until(lambda: len(door.server.made) == 3) <= LOOK_SECONDS
        assert door.server.made[1].closed_at is None


@in_virtual_time
async def test_unused_connection_is_closed_for_a_client_that_waits_after_half_a_second() -> None:
    """It is closed even if another connection has been idle for longer."""
    with opened() as door:
        await door.connect(2)
        used, _ = door.server.made
        used.state = (True, now() - 3600)
        await door.connect()
        took = await seconds_until(lambda: len(door.server.made) == 3)
        assert UNUSED_SECONDS <= took <= UNUSED_SECONDS + 2 * LOOK_SECONDS
        assert used.closed_at is None


@in_virtual_time
async def test_used_connection_is_closed_for_a_client_that_waits_after_two_seconds() -> None:
    """The connection that has been idle longest is closed."""
    with opened() as door:
        await door.connect(2)
        longer, shorter = door.server.made
        longer.state, shorter.state = (True, now()), (True, now() + 0.01)
        await door.connect()
        took = await seconds_until(lambda: len(door.server.made) == 3)
        assert IDLE_SECONDS <= took <= IDLE_SECONDS + 2 * LOOK_SECONDS
        assert (longer.closed_at is None, shorter.closed_at is None) == (False, True)


@in_virtual_time
async def test_idle_connection_is_kept_while_nobody_waits() -> None:
    with opened() as door:
        await door.connect(2)
        await asyncio.sleep(3600)
        assert [one.closed_at for one in door.server.made] == [None, None]


@in_virtual_time
async def test_wait_of_clients_is_said_once_and_its_end_when_it_was_quiet_for_a_second(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "deepaas")
    with opened() as door:
        await door.connect(2)
        for _ in range(10):  # a client waits and gets a connection, repeatedly
            for one in door.server.made:
                one.state = None
            await door.connect()
            await asyncio.sleep(0.5)
            next(iter(door.server.open)).force_close()
            await asyncio.sleep(0.25)
            assert len(door.server.open) == 2
        assert caplog.text.count(FULL) == 1
        assert ROOM not in caplog.text
        door.server.made[-1].force_close()
        await asyncio.sleep(5)
        assert caplog.text.count(ROOM) == 1
        await door.connect(2)
        assert caplog.text.count(FULL) == 2
