"""The state of the server that is looked up whenever the metrics are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

WORKER_STATES = ("starting", "ready", "ending")
"""A worker is ending from when it gets no more calls; it may still finish some."""

JOB_KINDS = ("train", "predict")
JOB_STATUSES = ("queued", "starting", "running")


@dataclass(frozen=True)
class WorkerState:
    """A worker process. `state` is one of WORKER_STATES, `memory` its resident memory in bytes."""

    name: str
    state: str
    memory: int


@dataclass(frozen=True)
class ModelState:
    """A model: how many of its calls wait for a worker or are processed, its workers, and the
    number of its jobs by kind and status (JOB_KINDS, JOB_STATUSES)."""

    waiting: int = 0
    running: int = 0
    workers: Sequence[WorkerState] = ()
    jobs: Mapping[tuple[str, str], int] = field(default_factory=dict)


class ServerState(Protocol):
    """Looks up the state of the server. Every method takes less than a millisecond."""

    def active_requests(self) -> int:
        """Return the number of requests in progress."""

    def memory(self) -> int:
        """Return the resident memory of the server process in bytes."""

    def model(self, name: str) -> ModelState:
        """Return the state of the model with this name."""
