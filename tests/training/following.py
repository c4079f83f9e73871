"""Follows the log of a training as text or as events, and records when each chunk arrived."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import httpx

from tests.support import ANSWER_SECONDS, Server

EVENTS = "text/event-stream"


@dataclass
class Event:
    """One event of an event stream. A missing id is empty."""

    id: str = ""
    kind: str = ""
    data: str = ""

    @property
    def is_end(self) -> bool:
        return self.kind == "end"

    @property
    def status(self) -> str:
        """The status in an end event."""
        status: str = json.loads(self.data)["status"]
        return status


def parse(block: bytes) -> Event | None:
    """Parse the lines before a blank line; return None for a comment."""
    event = Event()
    for line in block.decode().split("\n"):
        name, _, value = line.partition(": ")
        match name:
            case "id":
                event.id = value
            case "event":
                event.kind = value
            case "data":
                event.data = value
            case _:
                assert line.startswith(":"), line
    return event if event != Event() else None


def whole_events(data: bytes) -> list[Event]:
    """Return the complete events; a client ignores an incomplete one at the end."""
    *blocks, _ = data.split(b"\n\n")
    return [event for event in map(parse, blocks) if event is not None]


@dataclass
class Follower:
    """Follows a log in a thread; as a context manager it joins the thread at the end.

    `chunks` contains the received chunks, each with its arrival time. With `most` the follower
    disconnects after that many bytes. `slowness` is the number of seconds before it starts to read.
    """

    server: Server
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    offset: int | None = None
    most: int = 0
    slowness: float = 0.0

    def __post_init__(self) -> None:
        self.chunks: list[tuple[float, bytes]] = []
        self.status = 0
        self.answer_headers: httpx.Headers = httpx.Headers()
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._follow)
        self.answered = threading.Event()

    def _follow(self) -> None:
        query = {"follow": "true"} | ({} if self.offset is None else {"offset": str(self.offset)})
        try:
            with (
                httpx.Client(base_url=self.server.url, trust_env=False, timeout=60) as client,
                client.stream("GET", self.path, params=query, headers=self.headers) as answer,
            ):
                self.status = answer.status_code
                self.answer_headers = answer.headers
                self.answered.set()
                time.sleep(self.slowness)
                self._read(answer.iter_raw())
        except httpx.TransportError as error:
            self.error = error
        finally:
            self.answered.set()

    def _read(self, pieces: Iterator[bytes]) -> None:
        size = 0
        for piece in pieces:
            self.chunks.append((time.time(), piece))
            size += len(piece)
            if self.most and size >= self.most:
                return

    def __enter__(self) -> Follower:
        self._thread.start()
        assert self.answered.wait(ANSWER_SECONDS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.join()

    def join(self, within: float = 120.0) -> Follower:
        """Wait until the log or the connection ends."""
        self._thread.join(within)
        assert not self._thread.is_alive(), f"still follows {self.path}"
        return self

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    @property
    def data(self) -> bytes:
        data = b"".join(piece for _, piece in list(self.chunks))
        return data[: self.most] if self.most else data

    @property
    def events(self) -> list[Event]:
        return whole_events(self.data)

    @property
    def lines(self) -> list[str]:
        return [event.data for event in self.events if not event.is_end]


def follow(server: Server, path: str, **kwargs: Any) -> Follower:
    """Follow a log as text."""
    return Follower(server, path, **kwargs)


def follow_events(server: Server, path: str, last_id: str = "", **kwargs: Any) -> Follower:
    """Follow a log as an EventSource does; with `last_id` resume after that event."""
    headers = {"Accept": EVENTS} | ({"Last-Event-ID": last_id} if last_id else {})
    return Follower(server, path, headers, **kwargs)
