"""Requests whose response is read later, without a thread for each."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

from tests.support import ANSWER_SECONDS, HOST, Server

ALIKE = 2000
"""The length of the bodies of `alike` requests, in bytes."""


@dataclass
class Answer:
    """A response; `whole` is false if the connection was cut before the end of the body."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    whole: bool

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of an error; empty for a success."""
        return "" if self.status == 200 else str(self.json()["code"])

    @property
    def message(self) -> str:
        return str(self.json()["message"])

    @property
    def predicted(self) -> Any:
        """The value that the model returned. The status must be 200."""
        assert self.status == 200, f"{self.status} {self.body!r}"
        content = self.json()
        assert content["status"] == "OK"
        return content["predictions"]


class Asked:
    """A prediction whose request has been sent; `answer()` reads the response. A context manager.

    An `alike` request has its parameters in a body of a fixed length and is sent in one piece. All
    such requests have the same head, so the server may use its fast path when the head comes again.
    """

    def __init__(
        self,
        server: Server,
        model: str,
        *,
        alike: bool = False,
        headers: Mapping[str, str] | None = None,
        timeout: float = ANSWER_SECONDS,
        **parameters: Any,
    ) -> None:
        path = f"/v2/models/{model}/predict/"
        body = b""
        if alike:
            body = json.dumps(parameters, default=str).encode().ljust(ALIKE)
            assert len(body) == ALIKE
        else:
            path += f"?{urlencode(parameters)}"
        head = [
            f"POST {path} HTTP/1.1",
            f"Host: {HOST}:{server.port}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            *(f"{name}: {value}" for name, value in (headers or {}).items()),
        ]
        self._socket = socket.create_connection((HOST, server.port), timeout=timeout)
        self._socket.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        self._response: http.client.HTTPResponse | None = None

    def begin(self) -> http.client.HTTPResponse:
        """Wait for the head of the response."""
        if self._response is None:
            self._response = http.client.HTTPResponse(self._socket, method="POST")
            self._response.begin()
        return self._response

    def read_until(self, text: bytes) -> bytes:
        """Read the body until it contains `text`, and return the part that was read."""
        response = self.begin()
        read = b""
        while text not in read:
            more = response.read1(65536)
            assert more, f"the body ended after {read!r}"
            read += more
        return read

    def answer(self) -> Answer:
        """Read the whole response, or the rest of it after `read_until`."""
        with self:
            response = self.begin()
            whole = True
            try:
                body = response.read()
            except http.client.IncompleteRead as error:
                body, whole = error.partial, False
            except ConnectionResetError:
                body, whole = b"", False
            return Answer(response.status, response.headers, body, whole)

    def __enter__(self) -> Asked:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._response is not None:
            self._response.close()
        self._socket.close()


def settle(server: Server) -> None:
    """Wait until the server has read everything sent before: it answers in order."""
    for _ in range(3):
        assert server.get("/v2/health/live").status_code == 200


def make_known(server: Server, model: str, headers: Mapping[str, str] | None = None) -> None:
    """Send `alike` requests to this model, so that the server has cached their head."""
    for _ in range(2):
        assert Asked(server, model, alike=True, headers=headers).answer().status == 200
