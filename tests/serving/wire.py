"""A light HTTP client on asyncio: many concurrent connections, kept open as long as possible."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.support import HOST


@dataclass
class Answer:
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def content(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of an error; empty for a success."""
        return "" if self.status == 200 else str(self.content["code"])


class Connection:
    """One connection, opened on demand and reopened after it was closed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(HOST, self._port)

    async def close(self) -> None:
        """Close the connection, and discard the pending response."""
        writer, self._writer, self._reader = self._writer, None, None
        if writer is not None:
            writer.close()
            try:
                await writer.wait_closed()
            except ConnectionError:
                pass

    async def send(self, data: bytes) -> None:
        await self.open()
        assert self._writer is not None
        self._writer.write(data)
        await self._writer.drain()

    async def read_head(self) -> tuple[int, dict[str, str]]:
        """Return the status and the headers of a response, with header names in lower case."""
        assert self._reader is not None
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status_line, *lines = head[:-4].split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        return int(status_line.split(" ", 2)[1]), headers

    async def read_chunk(self) -> bytes:
        """Return the next chunk of a body; empty at its end."""
        assert self._reader is not None
        size = int(await self._reader.readline(), 16)
        return (await self._reader.readexactly(size + 2))[:size]

    async def read_answer(self) -> Answer:
        """Read one whole response. Close the connection if the server asks for it."""
        assert self._reader is not None
        status, headers = await self.read_head()
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while chunk := await self.read_chunk():
                body += chunk
        else:
            body = await self._reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            await self.close()
        return Answer(status, headers, body)


def request(
    path: str,
    body: bytes = b"",
    *,
    length: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """Return a POST with a JSON body; `length` replaces the true Content-Length."""
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {HOST}",
        "Content-Type: application/json",
        f"Content-Length: {len(body) if length is None else length}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
