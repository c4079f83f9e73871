"""Accepts connections up to a maximum number.

Further clients wait in the system's queue until there is room. While clients wait, idle connections
are closed, so that idle clients cannot keep others out: first connections that have not been used
yet, then those that have been idle the longest.

asyncio's servers accept all connections until no descriptor is left, and cannot pause.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
import socket
import struct

from deepaas.http.base_connection import BaseConnection
from deepaas.http.connection import HTTPServer

logger = logging.getLogger("deepaas")

ACCEPTED_AT_ONCE = 64
"""After accepting this many connections, the event loop serves the others first."""

LOOK_SECONDS = 0.25
"""Interval, at the limit, of checks for waiting clients and idle connections."""

UNUSED_SECONDS = 0.5
IDLE_SECONDS = 2.0
"""How long a connection without, or with, an earlier request must be idle to be closed."""

CLOSED_AT_ONCE = 0.25
"""The share of the maximum number of connections that one check may close."""

LOOKED_AT = 4096
"""How many connections one check examines: all of them would take too long."""

QUIET_SECONDS = 1.0
"""After this long without a pause, the log says that clients no longer have to wait."""


_QUEUE = struct.Struct("=I")
_QUEUE_AT = 24
"""The offset of the queue's length in the kernel's `tcp_info` of a listening socket."""


class Listener:
    """Accepts connections for `server` on a bound socket, at most `most` at a time."""

    def __init__(self, sock: socket.socket, server: HTTPServer, most: int) -> None:
        self._sock = sock
        self._server = server
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._new: set[BaseConnection] = set()  # accepted, but not set up yet
        self._setting_up: set[asyncio.Task[None]] = set()
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
        """The number of open connections."""
        return len(self._server.open) + len(self._new)

    def open(self, backlog: int) -> None:
        """Listen; the system queues `backlog` connections until they are accepted."""
        self._sock.setblocking(False)
        self._sock.listen(backlog)
        self._server.on_open = self._new.discard
        self._server.on_closed = self._has_closed
        self._is_open = True
        self._loop.add_reader(self._sock, self._accept)

    def close(self) -> None:
        """Stop listening. Open connections stay open."""
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
                if not accepted:  # otherwise it is not known whether another client waits
                    self._pause(f"the maximum of {self._most} connections is reached")
                return
            try:
                sock, _ = self._sock.accept()
            except BlockingIOError:
                return
            except ConnectionError:  # the client has closed it already
                continue
            except OSError as error:  # the system has no descriptors or no memory left
                self._pause(f"no connection can be accepted: {error.strerror}")
                return
            connection = self._server()
            self._new.add(connection)
            task = self._loop.create_task(self._set_up(connection, sock))
            self._setting_up.add(task)
            task.add_done_callback(self._setting_up.discard)

    async def _set_up(self, connection: BaseConnection, sock: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: connection, sock)
        except OSError:  # the client has closed it already
            sock.close()
        finally:
            self._new.discard(connection)

    def _pause(self, why: str) -> None:
        """Accept no connections until there is room; log it unless the log says so already."""
        if self._timer is None:
            logger.warning("New clients have to wait: %s", why)
            self._timer = self._loop.call_later(LOOK_SECONDS, self._check)
        self._is_paused = True
        self._paused_at = self._loop.time()
        self._loop.remove_reader(self._sock)

    def _has_closed(self) -> None:
        """Resume in the next turn of the loop, when the closing connection's descriptor is free."""
        if self._is_paused and not self._resuming:
            self._resuming = True
            self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        self._resuming = False
        if self._is_open and self._is_paused and self.connections < self._most:
            self._is_paused = False
            self._loop.add_reader(self._sock, self._accept)

    def _check(self) -> None:
        """Make room for waiting clients. Log when no client has had to wait for a while."""
        self._timer = None
        if not self._is_paused and self._loop.time() - self._paused_at >= QUIET_SECONDS:
            logger.info(
                "New clients no longer have to wait: %d connections are open", self.connections
            )
            return
        self._timer = self._loop.call_later(LOOK_SECONDS, self._check)
        self._resume()
        if self._is_paused and (waiting := self._waiting()):
            self._paused_at = self._loop.time()
            self._close_idle(min(waiting, max(1, int(self._most * CLOSED_AT_ONCE))))

    def _waiting(self) -> int:
        """Return how many clients wait in the system's queue."""
        info = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _QUEUE_AT + _QUEUE.size)
        return int(_QUEUE.unpack_from(info, _QUEUE_AT)[0])

    def _close_idle(self, most: int) -> None:
        """Close at most `most` idle connections; used ones only if no unused one is idle."""
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
