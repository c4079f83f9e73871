"""Requests as bytes, cut into segments, and the responses on one connection."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from tests.support import HOST

SECONDS = 60.0
"""Seconds within which a response must come, however busy the machine is."""

_numbers = itertools.count(1)
_TEMPORARY = re.compile(r"\btmp\w{8}\b")


@dataclass(frozen=True)
class Ask:
    """A request, byte for byte."""

    head: bytes  # up to and including the blank line
    body: bytes = b""
    last: bool = False  # the server closes the connection after its response
    alone: bool = False  # not pipelined: sent while no other request is pending

    @property
    def data(self) -> bytes:
        return self.head + self.body

    def marked(self) -> bytes:
        """Return the request with an additional header that no other request has."""
        return self.head[:-2] + b"X-Only: %d\r\n\r\n" % next(_numbers) + self.body


def post(
    path: str,
    body: bytes = b"{}",
    *fields: str,
    version: str = "HTTP/1.1",
    length: str | None = "Content-Length: {}",
    media: str = "application/json",
    last: bool = False,
    alone: bool = False,
) -> Ask:
    """Return a POST. `length` is the header line for the body's length, or None to omit it."""
    lines = [f"POST {path} {version}", f"Host: {HOST}", f"Content-Type: {media}"]
    if length is not None:
        lines.append(length.format(len(body)))
    head = "\r\n".join([*lines, *fields]).encode("latin-1") + b"\r\n\r\n"
    return Ask(head, body, last=last, alone=alone)


def predict(model: str, query: str = "", body: bytes = b"{}", *fields: str, **others: Any) -> Ask:
    """Return a prediction request, made with `post`."""
    return post(f"/v2/models/{model}/predict/{query}", body, *fields, **others)


def get(path: str, *fields: str, method: str = "GET", **others: Any) -> Ask:
    head = "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {HOST}", *fields])
    return Ask(head.encode() + b"\r\n\r\n", **others)


def padded(length: int, **arguments: Any) -> bytes:
    """Return arguments as a JSON body of this length."""
    body = json.dumps(arguments).encode()
    assert len(body) <= length
    return body.ljust(length)


def chunked(*parts: bytes, extension: bytes = b"", trailer: bytes = b"") -> bytes:
    """Return a chunked body."""
    chunks = [b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in parts]
    return b"".join(chunks) + b"0\r\n" + trailer + b"\r\n"


CHANGING = ("date", "x-request-id", "server-timing")


@dataclass(frozen=True)
class Seen:
    """All of a response that a client sees, except the date, the request id, the times, and the
    names of temporary files.

    `whole` is false if the response was cut off.
    """

    status_line: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    interim: tuple[str, ...] = ()
    whole: bool = True
    request_id: str = field(default="", compare=False)
    server_timing: str = field(default="", compare=False)

    @property
    def status(self) -> int:
        return int(self.status_line.split(" ", 2)[1])

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) < 2, values
        return values[0] if values else None

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def predicted(self) -> Any:
        assert self.status == 200, self
        return self.json()["predictions"]

    @property
    def code(self) -> str:
        """The code of an error; empty for a success."""
        return "" if self.status == 200 else str(self.json()["code"])


@dataclass
class Line:
    """One connection; an asynchronous context manager. It comes from the address `source`."""

    port: int
    limit: int = 2**16  # bytes that are buffered before they are read
    source: str = ""  # the system chooses
    asked: list[Ask] = field(default_factory=list)

    async def __aenter__(self) -> Line:
        local = (self.source, 0) if self.source else None
        self.reader, self.writer = await asyncio.open_connection(
            HOST, self.port, limit=self.limit, local_addr=local
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.leave()

    async def leave(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass

    async def send(self, *segments: bytes, pause: float = 0) -> None:
        """Send each segment separately."""
        for segment in segments:
            self.writer.write(segment)
            await self.writer.drain()
            await asyncio.sleep(pause)

    async def ask(self, ask: Ask) -> Seen:
        """Send a request in one piece, and return its response."""
        await self.send(ask.data)
        return await self.answer(ask)

    async def answer(self, ask: Ask | None = None) -> Seen:
        """Return the next response, which answers `ask`."""
        return await asyncio.wait_for(self._reply(ask), SECONDS)

    async def _reply(self, ask: Ask | None) -> Seen:
        interim = []
        while True:
            status_line, headers = await self._head()
            if not status_line.split(" ", 2)[1].startswith("1"):
                break
            interim.append(status_line)
        values = {name.lower(): value for name, value in headers}
        whole = True
        is_empty = status_line.split(" ", 2)[1] == "204"
        if is_empty or (ask is not None and ask.head.startswith(b"HEAD ")):
            body = b""
        elif values.get("transfer-encoding") == "chunked":
            body, whole = await self._chunks()
        elif "content-length" in values:
            body = await self.reader.readexactly(int(values["content-length"]))
        else:
            body = await self.reader.read()
        request_id = values.get("x-request-id", "")
        if request_id:
            length = str(len(body))
            body = body.replace(f'"request_id":"{request_id}"'.encode(), b'"request_id":""')
            headers = [
                (
                    name,
                    str(len(body))
                    if (name.lower(), value) == ("content-length", length)
                    else value,
                )
                for name, value in headers
            ]
        pairs = [pair for pair in headers if pair[0].lower() not in CHANGING]
        told = tuple((name, _TEMPORARY.sub("tmp", value)) for name, value in pairs)
        timing = values.get("server-timing", "")
        return Seen(status_line, told, body, tuple(interim), whole, request_id, timing)

    async def _head(self) -> tuple[str, list[tuple[str, str]]]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status_line, *lines = head[:-4].split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return status_line, [(name, value.strip()) for name, _, value in pairs]

    async def _chunks(self) -> tuple[bytes, bool]:
        body = b""
        try:
            while size := int(await self.reader.readline(), 16):
                body += (await self.reader.readexactly(size + 2))[:size]
            await self.reader.readexactly(2)
        except (ConnectionError, asyncio.IncompleteReadError, ValueError):
            return body, False
        return body, True

    async def rest(self) -> bytes:
        """Read until the server closes the connection, and return all that was read."""
        try:
            return await asyncio.wait_for(self.reader.read(), SECONDS)
        except ConnectionResetError:
            return b""


def aligned(asks: Iterable[Ask]) -> list[bytes]:
    """Return each request as one segment."""
    return [ask.data for ask in asks]


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut at these positions, and leave out empty pieces."""
    edges = [0, *sorted(set(places)), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(edges)]
    return [piece for piece in pieces if piece]


def borders(asks: Sequence[Ask]) -> list[int]:
    """Return the positions at which the heads and the bodies end in the concatenated requests."""
    return list(
        itertools.accumulate(size for ask in asks for size in (len(ask.head), len(ask.body)))
    )
