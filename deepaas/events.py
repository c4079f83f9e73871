"""What happens in the server: events that the log, the metrics and others listen to."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

logger = logging.getLogger("deepaas")

T = TypeVar("T")

CLIENT_CLOSED = 499
"""The status of a request whose client has gone before its response was complete. No response has
this status; nginx uses the same number."""


class Event(Generic[T]):
    """Something that happens repeatedly.

    Code that reports it checks `listeners` before it makes the value, so an event without
    listeners costs nothing.
    """

    __slots__ = ("listeners",)

    def __init__(self) -> None:
        self.listeners: tuple[Callable[[T], object], ...] = ()

    def listen(self, listener: Callable[[T], object]) -> None:
        """Call `listener` with the value of each event from now on."""
        self.listeners += (listener,)

    def report(self, value: T) -> None:
        """Call all listeners. An error of one is logged, and does not reach the reporter."""
        for listener in self.listeners:
            try:
                listener(value)
            except Exception:  # noqa: PERF203
                logger.exception("A listener of an event failed")


@dataclass(slots=True)
class RequestEnded:
    """A request whose response was sent, or whose client has gone (status CLIENT_CLOSED).

    `target` is its target with secrets masked. `model` is the model of its route, or empty. `code`
    is the kind of an error, or empty. `length` is the size of the response body that was sent, in
    bytes, and `seconds` the time from the arrival of the request to the end of its response.
    `principal` is the name of the client, if it has signed in.
    """

    remote: str
    method: str
    target: str
    model: str
    status: int
    code: str
    length: int
    seconds: float
    agent: str
    request_id: str
    principal: str
    is_fast: bool = False


@dataclass(frozen=True)
class RequestRefused:
    """A request that the server, not the model, has refused; `code` is the reason."""

    model: str
    code: str


@dataclass
class Events:
    """All events of a server."""

    request_ended: Event[RequestEnded] = field(default_factory=Event)
    request_refused: Event[RequestRefused] = field(default_factory=Event)
