"""Accepts connections, and no more of them at once than there may be.

Further clients wait in the system's queue until there is room. So that idle clients cannot keep
others out, their connections are closed when somebody waits: first those that have not been used
yet, then those that have been idle the longest.

asyncio's own servers accept whatever comes until no descriptor is left, and cannot pause.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
import socket
import struct

from deepaas.api.fast_path import Connection, Server

logger = logging.getLogger("deepaas")

ACCEPTED_AT_ONCE = 64
"""Then other connections are looked after, before more are accepted."""

LOOK_SECONDS = 0.25
"""How often it is looked, at the limit, whether clients wait and connections are idle."""

UNUSED_SECONDS = 0.5
IDLE_SECONDS = 2.0
"""How long a connection without, or with, an earlier request is idle before it may be closed."""

CLOSED_AT_ONCE = 0.25
"""The share of the connections that may be closed at each look."""

LOOKED_AT = 4096
"""How many connections are looked at each time: all of them would take too long."""

QUIET_SECONDS = 1.0
"""How long there is room before it is said that there is."""


_QUEUE = struct.Struct("=I")
_QUEUE_AT = 24
"""Where the length of the queue is in the kernel's `tcp_info` of a socket that listens."""


class Listener:
    """Accepts connections for `server` on a socket that is bound, at most `most` at once."""

    def __init__(self, sock: socket.socket, server: Server, most: int) -> None:
        self._sock = sock
        self._server = server
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._coming: set[Connection] = set()  # accepted, and not made yet
        self._welcoming: set[asyncio.Task[None]] = set()
        self._is_open = False
        self._is_paused = False
        self._resuming = False
        self._paused_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        state = "paused" if self._is_paused else "accepting" if self._is_open else "closed"
        return f"<Listener {state}, {self.connections} of {self._most} connections>"

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._server.open) + len(self._coming)

    def open(self, backlog: int) -> None:
        """Listen; let the system keep `backlog` connections until they are accepted."""
        self._sock.setblocking(False)
        self._sock.listen(backlog)
        self._server.on_open = self._coming.discard
        self._server.on_closed = self._has_closed
        self._is_open = True
        self._loop.add_reader(self._sock, self._accept)

    def close(self) -> None:
        """Stop listening. Connections go on."""
        if not self._is_open:
            return
        self._is_open = False
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def _accept(self) -> None:
        for accepted in range(ACCEPTED_AT_ONCE):
            if self.connections >= self._most:
                if not accepted:  # else it is not known whether another client waits
                    self._pause(f"{self._most} connections are open, and no more may be")
                return
            try:
                sock, _ = self._sock.accept()
            except BlockingIOError:
                return
            except ConnectionError:  # the client has gone already
                continue
            except OSError as error:  # there are no descriptors, or is no memory, in the system
                self._pause(f"no connection can be accepted: {error.strerror}")
                return
            connection = self._server()
            self._coming.add(connection)
            task = self._loop.create_task(self._welcome(connection, sock))
            self._welcoming.add(task)
            task.add_done_callback(self._welcoming.discard)

    async def _welcome(self, connection: Connection, sock: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: connection, sock)
        except OSError:  # the client has gone already
            sock.close()
        finally:
            self._coming.discard(connection)

    def _pause(self, why: str) -> None:
        """Accept nothing until there is room, and say so if that was not said before."""
        if self._timer is None:
            logger.warning("New clients have to wait: %s", why)
            self._timer = self._loop.call_later(LOOK_SECONDS, self._look)
        self._is_paused = True
        self._paused_at = self._loop.time()
        self._loop.remove_reader(self._sock)

    def _has_closed(self) -> None:
        """A connection is closing; its descriptor is free in the next turn of the loop."""
        if self._is_paused and not self._resuming:
            self._resuming = True
            self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        self._resuming = False
        if self._is_open and self._is_paused and self.connections < self._most:
            self._is_paused = False
            self._loop.add_reader(self._sock, self._accept)

    def _look(self) -> None:
        """Look after clients that wait. Say when none has had to wait for a while."""
        self._timer = None
        if not self._is_paused and self._loop.time() - self._paused_at >= QUIET_SECONDS:
            logger.info("New clients are accepted at once again: %d are there", self.connections)
            return
        self._timer = self._loop.call_later(LOOK_SECONDS, self._look)
        self._resume()
        if self._is_paused and (waiting := self._waiting()):
            self._paused_at = self._loop.time()
            self._close_idle(min(waiting, max(1, int(self._most * CLOSED_AT_ONCE))))

    def _waiting(self) -> int:
        """How many clients wait in the system's queue."""
        info = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _QUEUE_AT + _QUEUE.size)
        return int(_QUEUE.unpack_from(info, _QUEUE_AT)[0])

    def _close_idle(self, most: int) -> None:
        """Close up to so many idle connections; used ones only if no other is idle."""
        connections = list(self._server.open)
        if len(connections) > LOOKED_AT:
            connections = random.sample(connections, LOOKED_AT)
        unused, used = [], []
        for connection in connections:
            match connection.idle_since():
                case (False, since):
                    unused.append((since, id(connection), connection))
                case (True, since):
                    used.append((since, id(connection), connection))
        latest = self._loop.time() - (UNUSED_SECONDS if unused else IDLE_SECONDS)
        for since, _, connection in heapq.nsmallest(most, unused or used):
            if since <= latest:
                connection.force_close()
