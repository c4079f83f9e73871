"""A call, from when it is accepted until its worker has finished it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar

from deepaas.exceptions import RequestError, StreamFailedError
from deepaas.model.v2.exchange import Reply
from deepaas.protocol import messages

if TYPE_CHECKING:
    from deepaas.serving.worker_handle import WorkerHandle


class ReplyStream:
    """The parts of a streamed reply, for one reader: an asynchronous iterator of bytes.

    `on_taken` is called with the number of bytes that the reader has sent: when it asks for the
    next part, it has sent the last one. It is called a few times per `limit` bytes.
    """

    def __init__(self, on_taken: Callable[[int], None], limit: int = 1) -> None:
        self._on_taken = on_taken
        self._worth_telling = max(1, limit // 4)
        self._untold = 0
        self._parts: deque[bytes] = deque()
        self._given = 0
        self._end: messages.Closed | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def unread(self) -> bool:
        """Whether there is data that the reader has not taken or not sent yet."""
        return bool(self._parts or self._given)

    def feed(self, data: bytes) -> None:
        self._parts.append(data)
        self._wake()

    def close(self, end: messages.Closed) -> None:
        if self._end is None:
            self._end = end
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> ReplyStream:
        return self

    async def __anext__(self) -> bytes:
        """Return the data since the last call. Raises StreamFailedError if the stream failed."""
        if self._given:
            self._untold += self._given
            self._given = 0
            if self._untold >= self._worth_telling and self._end is None:
                taken, self._untold = self._untold, 0
                self._on_taken(taken)
        while not self._parts:
            if self._end is not None:
                if self._end.code:
                    raise StreamFailedError(self._end.reason, self._end.code)
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._given = len(data)
        return data


class Prediction:
    """A call that the server has accepted, until its reply comes or it fails.

    A subclass decides what happens then, in `set_reply` and `fail`.
    """

    __slots__ = (
        "abandoned",
        "alone",
        "cancelled",
        "context",
        "deadline",
        "ended",
        "id",
        "leave",
        "on_end",
        "packet",
        "since",
        "stream",
        "submitted",
        "timer",
        "worker",
    )

    id: int
    packet: bytes
    context: bytes  # what the model may ask about the request; see deepaas/context.py
    leave: Callable[[Prediction], None]  # to be called when no caller waits any more
    is_validation: ClassVar[bool] = False  # only its arguments are checked

    def __init__(self) -> None:
        self.context = b""
        self.submitted = monotonic()  # when its request had arrived; the loop's clock is coarser
        self.worker: WorkerHandle | None = None  # the one it was handed to
        self.since = 0.0  # when that was, or when its stream last moved
        self.stream: ReplyStream | None = None
        self.alone = False  # to be retried alone: its batch killed a worker
        self.abandoned = False  # no caller waits for it
        self.cancelled = False  # its worker got a Cancel message
        self.ended = False  # no worker has it or will get it
        self.on_end: list[Callable[[], None]] = []
        self.timer: asyncio.TimerHandle | None = None
        self.deadline = 0.0  # the time until which its caller waits; 0: no limit

    def pack(self, call_id: int, meta: bytes, body: bytes, directory: str) -> None:
        """Set the id and the packet. A large packet goes to a file in `directory`, until the call
        has ended. Raises OSError if there is no room for the file."""
        packet = messages.encode_call(call_id, meta, body, self.context)
        if len(packet) > messages.MAX_PACKET:
            packet, path = messages.spill(call_id, packet, directory)
            self.on_end.append(partial(_unlink, path))
        self.id = call_id
        self.packet = packet

    def __enter__(self) -> Prediction:
        """Wait for the reply in the block; leaving it before the end abandons the call."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Discard a reply that was never fetched, and abandon the call if it has not ended."""
        self.release()
        if not self.ended:
            self.leave(self)

    @property
    def reader_is_slow(self) -> bool:
        """Whether its stream waits for the caller to read."""
        return self.stream is not None and self.stream.unread and not self.abandoned

    async def reply(self) -> Reply:
        """Return the reply, once. Raises the RequestError of a failed call."""
        raise NotImplementedError

    def set_reply(self, reply: Reply) -> None:
        """Take the reply."""
        raise NotImplementedError

    def fail(self, error: RequestError) -> None:
        """Fail the call, or the stream of its reply; may be called more than once."""
        raise NotImplementedError

    def release(self) -> None:
        """Discard a reply that was never fetched."""
        raise NotImplementedError

    def fail_stream(self, error: RequestError) -> None:
        """End the stream, if the reply is one, with an error."""
        if self.stream is not None:
            self.stream.close(messages.Closed(str(error), error.code))

    def end(self) -> None:
        """Mark the call as ended: no worker has it any more or will get it."""
        self.ended = True
        self.worker = None
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        for callback in self.on_end:
            callback()


class Awaited(Prediction):
    """A prediction whose reply is awaited."""

    __slots__ = ("_future", "_unclaimed")

    def __init__(self) -> None:
        super().__init__()
        self._future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._unclaimed: Reply | None = None

    async def reply(self) -> Reply:
        reply = await self._future
        self._unclaimed = None
        return reply

    def set_reply(self, reply: Reply) -> None:
        if self._future.done():
            reply.discard()
        else:
            self._unclaimed = reply
            self._future.set_result(reply)

    def fail(self, error: RequestError) -> None:
        self.fail_stream(error)
        if not self._future.done():
            self._future.set_exception(error)
            self._future.exception()  # mark it as seen: the caller may have left

    def release(self) -> None:
        if self._unclaimed is not None:
            self._unclaimed.discard()
            self._unclaimed = None


class Validation(Awaited):
    """A call that only validates its arguments.

    Its worker is never ended for it, and it is not retried when a worker has died with it.
    """

    __slots__ = ()
    is_validation = True


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
