"""What happens in the server: events that the log, the metrics and others listen to."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

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


class Times(NamedTuple):
    """The parts of the time of one prediction, in seconds, as its worker has measured them.

    `queue` is the time from the arrival of the whole request until the worker took the call.
    `validate` is the validation of the arguments, `batch_wait` the wait for other calls of the same
    batch, `predict` the model's function, and `encode` the encoding of its result. For a call in a
    batch, `predict` is the time of the whole batch. For a stream, `predict` and `encode` are the
    times until its first item.

    No part is negative, and their sum is not more than the time of the whole request. A worker can
    send wrong times, but not change that.
    """

    queue: float = 0.0
    validate: float = 0.0
    batch_wait: float = 0.0
    predict: float = 0.0
    encode: float = 0.0


class RequestEnded(NamedTuple):
    """A request whose response was sent, or whose client has gone (status CLIENT_CLOSED).

    `target` is its target with secrets masked. `model` is the model of its route, or empty. `code`
    is the kind of an error, or empty. `length` is the size of the response body that was sent, in
    bytes, and `seconds` the time from the arrival of the request to the end of its response.
    `principal` is the name of the client, if it has signed in. `times` are the parts of the time,
    if a worker has answered.
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
    times: Times | None = None


@dataclass(frozen=True)
class RequestRefused:
    """A request that the server, not the model, has refused; `code` is the reason."""

    model: str
    code: str


@dataclass(frozen=True)
class BatchRun:
    """A worker has called `predict_batch` with `size` calls, which took `seconds`.

    A batch of several calls that has failed is not reported, because it has no results: the worker
    calls `predict_batch` again for each of its calls.
    """

    model: str
    size: int
    seconds: float


@dataclass(frozen=True)
class WorkerReady:
    """A worker takes calls, `seconds` after its start. `worker` is its name, such as echo[0].

    The processes that only validate arguments are not reported, neither here nor at their end.
    """

    model: str
    worker: str
    pid: int
    seconds: float


@dataclass(frozen=True)
class WorkerEnded:
    """The process of a worker has ended.

    `cause` is "died" if the server has not decided to end it, and also if it has closed its sockets
    or sent invalid messages. It is "not_ready" if it ended before `WorkerReady`. Otherwise it is
    the reason of the server: "replaced" (by a reload, or for its number of requests or its memory),
    "suspended", "cut_short", "cancelled", "too_slow" or "stopped". `ending` says how the process
    has ended, such as "was ended by signal 9 (SIGKILL)".
    """

    model: str
    worker: str
    pid: int
    cause: str
    ending: str


@dataclass(frozen=True)
class JobChanged:
    """A training or an asynchronous prediction has a new status.

    The server that is responsible for a job reports each of its statuses once, in order, also if
    another process has set it: "queued", "running", and "done", "error" or "cancelled". If that
    server has exited, another server of its state directory reports them. Only a server that is
    killed while it reports a status may have reported it before.

    `kind` is "train" or "predict". `seconds` is the duration of its work, or None if it has not
    ended or was never begun.
    """

    model: str
    kind: str
    uuid: str
    status: str
    seconds: float | None


@dataclass
class Events:
    """All events of a server."""

    request_ended: Event[RequestEnded] = field(default_factory=Event)
    request_refused: Event[RequestRefused] = field(default_factory=Event)
    batch_run: Event[BatchRun] = field(default_factory=Event)
    worker_ready: Event[WorkerReady] = field(default_factory=Event)
    worker_ended: Event[WorkerEnded] = field(default_factory=Event)
    job_changed: Event[JobChanged] = field(default_factory=Event)
