"""Process calls concurrently on an event loop, for models with `async def predict`."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from functools import partial
from time import monotonic
from types import AsyncGeneratorType, GeneratorType
from typing import Any

from deepaas import context
from deepaas.model.v2.exchange import Call, Reply, measured_now
from deepaas.protocol import messages
from deepaas.streams import stream_headers
from deepaas.worker.host import Host
from deepaas.worker.reply_sender import Control, Flow, ReplySender, pieces

GIVE_WAY_SECONDS = 0.01


class ConcurrentLoop:
    def __init__(
        self, host: Host, requests: socket.socket, replies: ReplySender, control: Control
    ) -> None:
        self._host = host
        self._requests = requests
        self._replies = replies
        self._control = control
        self._buffer = bytearray(messages.MAX_PACKET)
        self._loop = host.runtime.loop
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._streams: dict[int, _Stream] = {}
        self._cancelled: set[int] = set()  # calls that no client waits for
        self._reading = False
        self._closed = False
        self._ended = self._loop.create_future()

    async def serve(self) -> None:
        self._loop.add_reader(self._control.fileno(), self._read_control)
        self._read_on()
        await self._ended

    def _read_on(self) -> None:
        self._loop.add_reader(self._requests.fileno(), self._read_calls)
        self._reading = True

    def _read_calls(self) -> None:
        """Start the waiting calls, up to the maximum concurrency."""
        while len(self._tasks) < self._host.calling.at_once:
            try:
                size = self._requests.recv_into(self._buffer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            if not size:
                self._closed = True
                break
            call_id, call = messages.decode_call(memoryview(self._buffer)[:size])
            task = self._loop.create_task(self._work(call_id, call))
            task.add_done_callback(partial(self._done, call_id))
            self._tasks[call_id] = task
        self._loop.remove_reader(self._requests.fileno())
        self._reading = False
        self._end_if_done()

    async def _work(self, call_id: int, call: Call) -> None:
        context.set_requests((call.context,))
        reply = await self._reply(call_id, call)
        if reply is not None:
            reply.unknown = call.unknown
            self._replies.send(call_id, reply)

    def _done(self, call_id: int, task: asyncio.Task[None]) -> None:
        """Handle a finished call, or one that was cancelled before its task started."""
        del self._tasks[call_id]
        self._cancelled.discard(call_id)
        if task.cancelled():
            self._replies.send(call_id, _cancelled())
        elif error := task.exception():  # the connection is broken: no reply can be sent
            self._closed = True
            if not self._ended.done():
                self._ended.set_exception(error)
        if not self._reading and not self._closed:
            self._read_on()
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._closed and not self._tasks and not self._ended.done():
            self._ended.set_result(None)

    async def _reply(self, call_id: int, call: Call) -> Reply | None:
        """Return the reply to a call, or None if it was streamed."""
        invocation = self._host.invocation
        if call.validate:
            return self._host.validate(call)
        taken = monotonic()  # not when it was received: the task may have waited for others
        validated = predicted = 0.0
        try:
            arguments, media_type = invocation.arguments.load(call)
            validated = monotonic()
            value = invocation.function("predict")(**arguments)
            if not isinstance(value, AsyncGeneratorType):
                value = await value
            if isinstance(value, GeneratorType):
                value = _stepwise(value)
            if isinstance(value, AsyncGeneratorType):
                media_type = invocation.stream_type(call, media_type)
                stream = _Stream(
                    self._host, self._replies, call_id, call, media_type, taken, validated
                )
                return await self._stream(call_id, stream, value)
            predicted = monotonic()
            invocation.runtime.recover()
            reply = invocation.encode(value, media_type)
            reply.measured = measured_now(taken, validated, predicted)
        except BaseException as error:
            measured = measured_now(taken, validated, predicted)
            invocation.runtime.recover(error)
            reply = self._failed(call_id, error)
            reply.measured = measured
        return reply

    def _failed(self, call_id: int, error: BaseException) -> Reply:
        if call_id in self._cancelled and isinstance(error, asyncio.CancelledError):
            return _cancelled()
        return self._host.runtime.failed(error)

    async def _stream(
        self, call_id: int, stream: _Stream, items: AsyncGeneratorType[Any, None]
    ) -> Reply | None:
        """Send the items. Return None, or a reply if it fails before the first item."""
        self._streams[call_id] = stream
        try:
            async with contextlib.aclosing(items):
                async for item in items:
                    await stream.send(item)
            stream.close()
        except BaseException as error:
            if not stream.opened:
                raise
            reply = self._failed(call_id, error)
            stream.close(reply.reason, reply.code)
        finally:
            del self._streams[call_id]
        return None

    def _read_control(self) -> None:
        try:
            while (message := self._control.poll()) is not None:
                match message:
                    case messages.Taken(id, size) if id in self._streams:
                        self._streams[id].taken(size)
                    case messages.Cancel(id) if id in self._tasks:
                        self._cancelled.add(id)
                        self._tasks[id].cancel()
                        if id in self._streams:
                            self._streams[id].cancel()
        except EOFError:
            self._loop.remove_reader(self._control.fileno())  # `_read_calls` detects the end, too


def _cancelled() -> Reply:
    return Reply(500, reason="The prediction was cancelled", code="cancelled")


class _Stream:
    """Sends the stream that answers one call, which was taken and validated at these times."""

    def __init__(
        self,
        host: Host,
        replies: ReplySender,
        call_id: int,
        call: Call,
        media_type: str,
        taken: float,
        validated: float,
    ) -> None:
        self._host = host
        self._replies = replies
        self._id = call_id
        self._media_type = media_type
        self._unknown = call.unknown
        self._taken = taken
        self._validated = validated
        self._flow = Flow(host.options.stream_buffer)
        self._room = asyncio.Event()
        self._last_pause = host.runtime.loop.time()
        self._is_cancelled = False
        self.opened = False

    async def send(self, item: object) -> None:
        """Send an item when there is room for it. Raises CancelledError after a cancellation."""
        arrived = monotonic()
        data = self._host.invocation.encode_item(item, self._media_type)
        self._host.runtime.recover()
        self._open(arrived)
        for piece in pieces(data):
            while not self._is_cancelled and not self._flow.is_open:
                self._room.clear()
                await self._room.wait()
            if self._is_cancelled:  # the model has suppressed the CancelledError
                raise asyncio.CancelledError
            self._replies.send_stream(self._id, messages.Part(piece))
            self._flow.sent(len(piece))
        await self._let_others_run()

    async def _let_others_run(self) -> None:
        """Yield to other tasks regularly, in case the model never awaits anything that suspends."""
        now = self._host.runtime.loop.time()
        if now - self._last_pause > GIVE_WAY_SECONDS:
            await asyncio.sleep(0)
            self._last_pause = self._host.runtime.loop.time()

    def _open(self, first_at: float = 0.0) -> None:
        """Send the start of the stream, once; its first item came at `first_at`, if it has one."""
        if not self.opened:
            self.opened = True
            headers = stream_headers(self._media_type)
            measured = measured_now(self._taken, self._validated, first_at)
            self._replies.send_stream(self._id, messages.Opened(headers, self._unknown, measured))

    def taken(self, size: int) -> None:
        self._flow.taken(size)
        self._room.set()

    def cancel(self) -> None:
        self._is_cancelled = True
        self._room.set()

    def close(self, reason: str = "", code: str = "") -> None:
        self._open()
        self._replies.send_stream(self._id, messages.Closed(reason, code))


async def _stepwise(items: Iterator[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item
        await asyncio.sleep(0)
