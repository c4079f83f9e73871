"""Process calls in batches, for models with `predict_batch`."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

from deepaas import context
from deepaas.log import get_logger
from deepaas.model.v2.exchange import NOT_MEASURED, Call, Measured, Reply
from deepaas.protocol import messages
from deepaas.worker.host import Host
from deepaas.worker.reply_sender import ReplySender

logger = get_logger("deepaas.worker")


@dataclass(slots=True)
class _Received:
    """A call that was taken at `taken`; its arguments are validated from `since` on."""

    id: int
    concurrency: int
    call: Call
    taken: float
    since: float


@dataclass(slots=True)
class _Member:
    """A call in a batch, with valid arguments. To validate them took `seconds`."""

    received: _Received
    arguments: dict[str, Any]
    media_type: str
    seconds: float

    def measured(self, began: float, ended: float, encode: float, size: int) -> Measured:
        """Return the times of this call in a batch that was predicted between these times."""
        taken = self.received.taken
        wait = began - taken - self.seconds
        return taken, self.seconds, wait, ended - began, encode, size


class BatchingLoop:
    def __init__(self, host: Host, requests: socket.socket, replies: ReplySender) -> None:
        self._host = host
        self._requests = requests
        self._replies = replies
        self._buffer = bytearray(messages.MAX_PACKET)
        self._arrivals = select.poll()
        self._arrivals.register(requests, select.POLLIN)
        self._size = 0  # size of the last batch
        self._held: _Received | None = None  # the call for the next batch, which it must not share

    def serve(self) -> None:
        while (batch := self._gather()) is not None:
            if batch:
                self._answer(batch)

    def _gather(self) -> list[_Member] | None:
        """Return the next batch: waiting calls and those that arrive a little later.

        Wait while the batch is smaller than the expected number of calls, which the newest call
        contains. Return None after the server has closed the connection.
        """
        received = self._held or self._receive()
        if received is None:
            return None
        if received is self._held:
            received.since = monotonic()
            self._held = None
        batch: list[_Member] = []
        until = monotonic() + self._host.calling.wait
        while True:
            if received.concurrency == messages.ALONE and batch:
                self._held = received
                return batch
            member = self._load(received)
            if member is not None:
                batch.append(member)
            if received.concurrency == messages.ALONE or len(batch) >= self._host.calling.at_once:
                return batch
            missing = min(received.concurrency, self._host.calling.at_once) - len(batch)
            more = self._receive_until(until) if missing > 0 else self._receive_now()
            if more is None:
                return batch
            received = more

    def _receive(self, flags: int = 0) -> _Received | None:
        size = self._requests.recv_into(self._buffer, 0, flags)
        if not size:
            return None
        taken = monotonic()
        packet = memoryview(self._buffer)[:size]
        call_id, call = messages.decode_call(packet)
        return _Received(call_id, messages.concurrency_of(packet), call, taken, taken)

    def _receive_now(self) -> _Received | None:
        try:
            return self._receive(socket.MSG_DONTWAIT)
        except BlockingIOError:  # no call, or the server has reclaimed it
            return None

    def _receive_until(self, until: float) -> _Received | None:
        """Return the next call: one that is waiting or arrives before `until`."""
        while (received := self._receive_now()) is None:
            left = until - monotonic()
            if left <= 0 or not self._arrivals.poll(left * 1000):
                return None
        return received

    def _load(self, received: _Received) -> _Member | None:
        """Return the call with validated arguments.

        Return None if the reply has been sent: the arguments are not valid, or were only to be
        checked.
        """
        context.set_requests((received.call.context,))
        if received.call.validate:
            self._send(received, self._host.validate(received.call), NOT_MEASURED)
            return None
        try:
            arguments, media_type = self._host.invocation.arguments.load(received.call)
        except BaseException as error:
            wait = received.since - received.taken
            validate = monotonic() - received.since
            self._fail(received, error, (received.taken, validate, wait, 0.0, 0.0, 0))
            return None
        return _Member(received, arguments, media_type, monotonic() - received.since)

    def _answer(self, batch: list[_Member]) -> None:
        context.set_requests([member.received.call.context for member in batch])
        size = len(batch)
        began = monotonic()
        try:
            results = self._host.invocation.predict_batch([member.arguments for member in batch])
        except BaseException as error:
            measured = batch[0].measured(began, monotonic(), 0.0, size)
            self._host.runtime.recover(error)
            if size == 1:
                self._fail(batch[0].received, error, measured)
                return
            logger.warning("A batch of %d calls has failed; each call is retried alone", size)
            for member in batch:
                member.received.since = monotonic()
                again = self._load(member.received)  # the model may have changed its arguments
                if again is not None:
                    self._answer([again])
            return
        ended = monotonic()
        self._host.runtime.end_if_forked()
        self._replies.send_all(self._replies_to(batch, results, began, ended))
        self._host.runtime.recover()

    def _replies_to(
        self, batch: list[_Member], results: list[Any], began: float, ended: float
    ) -> Iterator[tuple[int, Reply]]:
        """Yield the replies to a batch that was predicted between these times."""
        size = len(batch)
        for member, result in zip(batch, results, strict=True):
            encoding = monotonic()
            reply = self._reply(member, result)
            reply.measured = member.measured(began, ended, monotonic() - encoding, size)
            yield member.received.id, reply
            size = 0  # only the first reply has it

    def _reply(self, member: _Member, result: Any) -> Reply:
        context.set_requests((member.received.call.context,))
        try:
            reply = self._host.invocation.encode(result, member.media_type)
        except BaseException as error:
            self._host.runtime.recover(error)
            reply = self._host.runtime.failed(error)
        reply.unknown = member.received.call.unknown
        return reply

    def _fail(self, received: _Received, error: BaseException, measured: Measured) -> None:
        self._send(received, self._host.runtime.failed(error), measured)

    def _send(self, received: _Received, reply: Reply, measured: Measured) -> None:
        reply.unknown = received.call.unknown
        reply.measured = measured
        self._replies.send(received.id, reply)
