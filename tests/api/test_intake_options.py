"""Options that limit heads and unread responses, tested with a real server."""

from __future__ import annotations

import contextlib
import socket

from tests.conftest import Serve
from tests.support import HOST, wait_until

HEAD = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n"


def test_head_may_have_as_many_bytes_as_the_option_says(serve: Serve) -> None:
    server = serve({"bare": "zoo.bare"}, "--client-max-head", "2000")
    assert server.get("/v2/health/live", headers={"X-Padding": "x" * 1000}).status_code == 200
    answer = server.get("/v2/health/live", headers={"X-Padding": "x" * 2000})
    assert answer.status_code == 431
    assert answer.json()["code"] == "head_too_large"


def test_unfinished_heads_may_take_as_many_bytes_as_the_option_says(serve: Serve) -> None:
    server = serve({"bare": "zoo.bare"}, "--max-heads-memory", "5000")
    with contextlib.ExitStack() as connections:
        first, second = (
            connections.enter_context(socket.create_connection((HOST, server.port), timeout=25))
            for _ in range(2)
        )
        first.sendall(HEAD + b"X: " + b"x" * 3000)
        wait_until(lambda: server.get("/v2/health/live").status_code == 200, within=10)
        second.sendall(HEAD + b"X: " + b"x" * 3000)
        with contextlib.suppress(ConnectionResetError):
            assert first.recv(1) == b""
        second.sendall(b"\r\n\r\n")
        assert second.recv(12) == b"HTTP/1.1 200"


def test_unread_answers_may_take_as_many_bytes_as_the_option_says(serve: Serve) -> None:
    server = serve({"sized": "zoo.sized"}, "--max-unsent", "1000000")
    target = "/v2/models/sized/predict/?do=json&size=900000"
    request = f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    with contextlib.ExitStack() as connections:
        for _ in range(10):
            client = connections.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((HOST, server.port))
            client.sendall(request.encode() * 8)
        wait_until(lambda: "more than --max-unsent" in server.log(), within=20, what="the cut")
        assert server.get("/v2/health/live").status_code == 200
