"""Fuzz tests of a real server with many hostile clients at once: every connection must end."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tests.fuzz.mutations import cut
from tests.serving.processes import pids
from tests.support import HOST, Server

SECONDS = 40.0
"""Seconds within which the server must have answered or closed every connection, however busy the
machine is. The server's own limit is one second.
"""

LIMITS = ["--receive-timeout", "1", "--client-rate-window", "1"]
COMPLAINTS = ["Traceback", "ERROR", "Fatal error", "Unhandled"]


LAST = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
"""A last request that closes the connection: the server keeps an idle connection open."""

PATIENCE = 3.0
"""Seconds between two sends of LAST on a connection that stays open."""


def _send(sock: socket.socket, pieces: Sequence[bytes]) -> None:
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            sock.sendall(piece)


def _read_to_the_end(socks: Sequence[socket.socket]) -> None:
    deadline = time.monotonic() + SECONDS
    with selectors.DefaultSelector() as selector:
        for sock in socks:
            selector.register(sock, selectors.EVENT_READ)
        asked = time.monotonic()
        while open_now := [one for one in socks if one in selector.get_map()]:
            assert time.monotonic() < deadline, f"{len(open_now)} connections are still open"
            for key, _ in selector.select(PATIENCE / 10):
                assert isinstance(key.fileobj, socket.socket)
                if _has_ended(key.fileobj):
                    selector.unregister(key.fileobj)
            if time.monotonic() - asked > PATIENCE:
                asked = time.monotonic()
                for sock in open_now:
                    _send(sock, [LAST])


def _has_ended(sock: socket.socket) -> bool:
    try:
        return not sock.recv(2**16)
    except ConnectionError:
        return True


@contextlib.contextmanager
def strangers() -> Iterator[Callable[[Any], None]]:
    """Check that the server closes each connection, keeps its workers, and logs no error."""
    with Server({}, args=["zoo.received", *LIMITS]) as server:
        workers = pids(server, "received")

        def check(inputs: Sequence[tuple[bytes, list[int]]]) -> None:
            with contextlib.ExitStack() as stack:
                socks = []
                for data, chosen in inputs:
                    sock = stack.enter_context(
                        socket.create_connection((HOST, server.port), timeout=SECONDS)
                    )
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    _send(sock, cut(data, chosen))
                    socks.append(sock)
                _read_to_the_end(socks)
            answer = server.predict("received", json={"text": "a"})
            assert answer.json()["predictions"] == {"text": "'a'"}, answer
            assert pids(server, "received") == workers
            log = server.log()
            assert not [word for word in COMPLAINTS if word in log], log[-3000:]

        yield check
