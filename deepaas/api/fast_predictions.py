"""Predictions on the fast path of `deepaas/http/fast_path.py`."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from deepaas.events import Times
from deepaas.exceptions import RequestError
from deepaas.http.connection import Connection
from deepaas.http.fast_path import FastRequest, KnownHead
from deepaas.model.v2.exchange import Call, Reply
from deepaas.protocol import messages
from deepaas.serving.pool import Pool
from deepaas.serving.prediction import Prediction
from deepaas.serving.times import times_of

logger = logging.getLogger("deepaas.api")


@dataclass(frozen=True)
class FastCall:
    """All of a call except its body: the target of the requests with one head."""

    pool: Pool
    description: dict[str, Any]  # of the model, when the head was cached
    meta: bytes
    deadline_seconds: float
    reads: Collection[str]  # the headers that are in `meta`

    @classmethod
    def of(cls, pool: Pool, call: Call, deadline_seconds: float) -> FastCall:
        meta = messages.encode_meta(call)
        return cls(pool, pool.description, meta, deadline_seconds, call.headers)

    def new_request(self, connection: Connection, known: KnownHead, data: bytes) -> FastRequest:
        return FastPrediction(self, connection, known, data)

    def submit(self, prediction: FastPrediction, body: bytes) -> bool:
        """Submit a call to the workers. Return False if the normal path has to answer."""
        if self.description is not self.pool.description:
            return False
        try:
            self.pool.dispatcher.submit(prediction, self.meta, body, self.deadline_seconds)
        except RequestError:  # the normal path reports it
            return False
        return True


class FastPrediction(Prediction):
    """A prediction on the fast path."""

    __slots__ = (
        "_times",
        "began",
        "call",
        "connection",
        "data",
        "head",
        "known",
        "outcome",
        "request_id",
    )

    request_id: bytes  # set by the middleware

    def __init__(
        self, call: FastCall, connection: Connection, known: KnownHead, data: bytes
    ) -> None:
        super().__init__()
        self.call = call
        self.connection = connection
        self.known = known
        self.head = known.head
        self.data = data
        self.began = self.submitted
        self.outcome: Reply | RequestError | None = None
        self._times: Times | None = None

    def begin(self, end: int) -> bool:
        self.context = self.request_id + self.known.trace
        return self.call.submit(self, self.data[end:])

    @property
    def times(self) -> Times | None:
        """The parts of its time, if a worker has answered. Made on first use."""
        if self._times is None and isinstance(self.outcome, Reply):
            self._times = times_of(self.submitted, self.outcome.measured)
        return self._times

    def set_reply(self, reply: Reply) -> None:
        if self.abandoned or self.outcome is not None:
            reply.discard()
        else:
            self._arrive(reply)

    def fail(self, error: RequestError) -> None:
        self.fail_stream(error)
        if self.outcome is None and not self.abandoned:
            self._arrive(error)

    def _arrive(self, outcome: Reply | RequestError) -> None:
        self.outcome = outcome
        try:
            if type(outcome) is Reply and outcome.is_plain:
                self.connection.respond(self, outcome.body)
            else:
                self.connection.fall_back(self)
        except Exception:  # a failure of this connection, not of the worker
            logger.exception("Answering POST %s failed", self.head.path)
            self.connection.force_close()

    async def reply(self) -> Reply:
        """Return or raise the outcome, for the normal path. Call this only once."""
        assert self.outcome is not None
        outcome, self.outcome = self.outcome, _RELEASED
        if isinstance(outcome, Reply):
            return outcome
        raise outcome

    def close(self) -> None:
        """Discard the reply. Abandon the call if its worker still works on it."""
        is_answered = self.outcome is not None and self.stream is None
        self.release()
        if not (self.ended or is_answered):
            self.leave(self)

    def release(self) -> None:
        outcome, self.outcome = self.outcome, _RELEASED
        if isinstance(outcome, Reply):
            outcome.discard()


_RELEASED = RequestError("The reply was already taken")
