"""A client that reads a response step by step, and helpers of tests of batches and streams."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urlencode

from tests.support import ANSWER_SECONDS, HOST, Server

T = TypeVar("T")


def together(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Make all calls at the same time in threads, and return their results."""
    with ThreadPoolExecutor(len(calls)) as executor:
        running = [executor.submit(call) for call in calls]
        return [one.result(timeout=2 * ANSWER_SECONDS) for one in running]


def settle(server: Server) -> None:
    """Wait until the server has read everything sent before."""
    for _ in range(2):
        assert server.get("/v2/health/live").status_code == 200


def lines(path: Path) -> list[Any]:
    """Return the JSON values that a model has written to a file, one per line."""
    if not path.exists():
        return []
    text = path.read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


class Caller:
    """A POST to a model's predict endpoint, whose response is read step by step.

    `ended` is None until the response has ended, then True for a proper end and False otherwise.
    """

    def __init__(
        self,
        server: Server,
        model: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
        version: str = "1.1",
        receive_buffer: int = 0,
        **parameters: Any,
    ) -> None:
        self._body = bytearray()
        self.ended: bool | None = None
        self.headers: dict[str, str] = {}
        self.status = 0
        self.reason = ""
        self._raw = b""
        self._was_reset = False
        self._socket = socket.socket()
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(ANSWER_SECONDS)
        self._socket.connect((HOST, server.port))
        target = f"/v2/models/{model}/predict/?{urlencode(parameters)}"
        head = [f"POST {target} HTTP/{version}", f"Host: {HOST}:{server.port}"]
        head += [f"Content-Length: {len(content)}"]
        head += [f"{key}: {value}" for key, value in (headers or {}).items()]
        self._socket.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + content)

    @property
    def body(self) -> bytes:
        """The part of the body that was read so far."""
        return bytes(self._body)

    # --- reading

    def read_head(self) -> Caller:
        """Read up to the start of the body."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while b"\r\n\r\n" not in self._raw:
            if not self._receive(deadline):
                raise ConnectionError(f"the connection ended after {self._raw!r}")
        head, _, self._raw = self._raw.partition(b"\r\n\r\n")
        first, *rest = head.decode("latin-1").split("\r\n")
        _, status, self.reason = first.split(" ", 2)
        self.status = int(status)
        pairs = (line.partition(":") for line in rest)
        self.headers = {key.lower(): value.strip() for key, _, value in pairs}
        self._decode()
        return self

    def read_until(self, wanted: bytes, *, within: float = ANSWER_SECONDS) -> bytes:
        """Read until the body contains `wanted`; return the body so far. Fails if it ends first."""
        return self._read_while(lambda: wanted not in self._body, within)

    def read_some(self, size: int, *, within: float = ANSWER_SECONDS) -> bytes:
        """Read until the body has at least `size` bytes, and return the body so far."""
        return self._read_while(lambda: len(self._body) < size, within)

    def read_rest(self, *, within: float = ANSWER_SECONDS) -> bytes:
        """Read to the end, proper or not (see `ended`), and return the whole body."""
        deadline = time.monotonic() + within
        if not self.status:
            self.read_head()
        while self.ended is None:
            self._read_on(deadline)
        return self.body

    def _read_while(self, more: Callable[[], bool], within: float) -> bytes:
        deadline = time.monotonic() + within
        if not self.status:
            self.read_head()
        while more():
            if self.ended is not None:
                raise ConnectionError(f"the body ended ({self.ended}) after {self._end!r}")
            self._read_on(deadline)
        return self.body

    def _read_on(self, deadline: float) -> None:
        if not self._receive(deadline):
            chunked = "transfer-encoding" in self.headers
            self.ended = not (chunked or self._was_reset or self._misses())
        self._decode()

    @property
    def _end(self) -> bytes:
        return bytes(self._body[-200:])

    def _misses(self) -> bool:
        return len(self._body) < int(self.headers.get("content-length", 0))

    def _receive(self, deadline: float) -> bool:
        """Receive more bytes; return False if the connection has ended in any way."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"nothing more in time; so far {self._end!r}")
        self._socket.settimeout(left)
        try:
            data = self._socket.recv(256 * 1024)
        except ConnectionResetError:
            self._was_reset = True
            return False
        self._raw += data
        return bool(data)

    def _decode(self) -> None:
        if self.headers.get("transfer-encoding") != "chunked":
            self._body += self._raw
            self._raw = b""
            if "content-length" in self.headers and not self._misses():
                self.ended = True
            return
        parts = []
        position = 0
        while (line_end := self._raw.find(b"\r\n", position)) >= 0:
            size = int(self._raw[position:line_end], 16)
            end = line_end + 2 + size + 2
            if len(self._raw) < end:
                break
            parts.append(self._raw[line_end + 2 : end - 2])
            position = end
            if not size:
                self.ended = True
                break
        self._raw = self._raw[position:]
        self._body += b"".join(parts)

    # --- the response

    def json(self) -> Any:
        """Return the whole response as JSON. It must be complete."""
        body = self.read_rest()
        assert self.ended, body
        return json.loads(body)

    def predicted(self) -> Any:
        """Return the prediction."""
        content = self.json()
        assert (self.status, content["status"]) == (200, "OK"), content
        return content["predictions"]

    def failure(self) -> tuple[int, str, str]:
        """Return the status, the code and the message of an error."""
        content = self.json()
        assert set(content) == {"message", "code", "request_id"}
        return self.status, content["code"], content["message"]

    # --- leaving

    def close(self) -> None:
        self._socket.close()

    def abort(self) -> None:
        """Abort the connection; the server receives a reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def __enter__(self) -> Caller:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
