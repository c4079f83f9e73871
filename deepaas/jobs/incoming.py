"""The requests for trainings and asynchronous predictions that are being received.

The number of places is limited, as each request has a record and a directory. A request holds a
place from before its body is received until it is queued or refused. When all places are taken, the
next request waits for one, and slow bodies are refused. So a client that sends next to nothing
blocks no other client.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol

from deepaas.exceptions import QueueFullError, RequestError, StoppingError
from deepaas.jobs.spec import JobDirectory

SLOW = 16 * 1024
"""Bytes per second: a slower body is refused if its place is needed."""

HEAD_START = 64 * 1024
"""Bytes added to the received size of a body, so that it has some seconds to begin."""

LOOK_SECONDS = 0.25
"""How often a request that waits for a place looks for a slow body."""

RETRY_AFTER = 60


class Body(Protocol):
    """The body of a request."""

    @property
    def is_complete(self) -> bool:
        """Whether all of it has been received."""

    @property
    def received(self) -> int:
        """How many bytes have been received."""

    def refuse(self, error: RequestError) -> None:
        """End the request with this error instead of receiving the rest of the body."""


@dataclass(eq=False)
class Incoming:
    """A request that is being received into `place`. It may turn out to be invalid."""

    uuid: str
    kind: str
    place: JobDirectory
    body: Body
    principal: str | None = None  # the name of the client, if it has signed in
    request_id: str = ""
    accepted: bool = False
    began: float = field(default_factory=time.monotonic)
    is_refused: bool = False

    @property
    def speed(self) -> float:
        """Bytes per second, on average."""
        return (HEAD_START + self.body.received) / (1 + time.monotonic() - self.began)


class Places:
    """The places for the requests of one kind. `option` names the option that sets their number."""

    def __init__(self, most: int, option: str) -> None:
        self._most = most
        self._option = option
        self._taken: set[Incoming] = set()
        self._waiting: dict[Incoming, asyncio.Future[None]] = {}
        self._look_at = 0.0

    def __repr__(self) -> str:
        return f"<Places: {len(self._taken)} of {self._most}, {len(self._waiting)} wait>"

    def __contains__(self, uuid: object) -> bool:
        return any(incoming.uuid == uuid for incoming in self._taken)

    @contextlib.asynccontextmanager
    async def take(self, incoming: Incoming) -> AsyncIterator[None]:
        """Wait for a place and hold it while the block runs.

        Raises StoppingError if the places are closed meanwhile.
        """
        try:
            await self._wait(incoming)
            yield
        finally:
            self._waiting.pop(incoming, None)
            self._taken.discard(incoming)
            self._pass_on_place()

    def close(self) -> None:
        """Refuse the requests that wait."""
        for turn in self._waiting.values():
            if not turn.done():
                turn.set_exception(StoppingError("The server is about to stop"))

    async def _wait(self, incoming: Incoming) -> None:
        if len(self._taken) < self._most:
            self._taken.add(incoming)
            return
        turn = self._waiting[incoming] = asyncio.get_running_loop().create_future()
        while not turn.done():
            self._refuse_the_slowest()
            await asyncio.wait((turn,), timeout=LOOK_SECONDS)
        turn.result()

    def _pass_on_place(self) -> None:
        """Give a free place to the next waiting request; complete requests go first."""
        if not self._waiting or len(self._taken) >= self._most:
            return
        complete = (one for one in self._waiting if one.body.is_complete)
        incoming = next(complete, None) or next(iter(self._waiting))
        turn = self._waiting.pop(incoming)
        if not turn.done():
            incoming.began = time.monotonic()
            self._taken.add(incoming)
            turn.set_result(None)

    def _refuse_the_slowest(self) -> None:
        now = time.monotonic()
        if now < self._look_at:
            return
        coming = [one for one in self._taken if not one.body.is_complete and not one.is_refused]
        slowest = min(coming, key=lambda one: one.speed, default=None)
        if slowest is None or slowest.speed >= SLOW:
            self._look_at = now + LOOK_SECONDS / 2
            return
        slowest.is_refused = True
        slowest.body.refuse(
            QueueFullError(
                f"More requests are being received than {self._option} allows, and the body of "
                "this one came the slowest",
                RETRY_AFTER,
            )
        )
