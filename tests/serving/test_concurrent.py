"""The worker's side of asynchronous models, between its sockets and the model's coroutines."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from deepaas.model.v2.arguments import Arguments
from deepaas.model.v2.calling import calling_of
from deepaas.model.v2.exchange import Call, Reply
from deepaas.model.v2.invocation import Invocation, Runtime
from deepaas.model.v2.wrapper import ModelWrapper
from deepaas.protocol import messages
from deepaas.protocol.messages import Cancel, Closed, Opened, Part, ReplyMessage, Taken
from deepaas.worker.concurrent import ConcurrentLoop
from deepaas.worker.reply_sender import Control, ReplySender

SECONDS = 60.0

# The code under test leaves readers on its loop, because in a worker the process ends then.
pytestmark = pytest.mark.asyncio(loop_scope="function")


class ThisLoop(Runtime):
    """A runtime that uses the loop of the test."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()


class Host:
    """A host whose model has only this predict function."""

    def __init__(self, predict: Callable[..., Any], at_once: int) -> None:
        self.options = messages.CallOptions(stream_buffer=100)
        model = ModelWrapper("made", SimpleNamespace(predict=predict))
        self.runtime = ThisLoop("made", "worker")
        self.invocation = Invocation(self.runtime, model, Arguments({}), None)
        self.calling = calling_of(model, max_concurrency=at_once)


class Server:
    """The server's ends of the sockets, and the messages received from them."""

    def __init__(self, predict: Callable[..., Any], at_once: int = 8) -> None:
        kinds = (socket.SOCK_SEQPACKET, socket.SOCK_STREAM, socket.SOCK_STREAM)
        pairs = [socket.socketpair(socket.AF_UNIX, kind) for kind in kinds]
        (self._requests, requests), (self._replies, replies), (self._control, control) = pairs
        self._all = [end for pair in pairs for end in pair]
        self._replies.setblocking(False)
        self._reader = messages.ReplyReader()
        self._inner = requests
        host = cast(Any, Host(predict, at_once))
        self._concurrent = ConcurrentLoop(host, requests, ReplySender(replies), Control(control))
        self._serving: asyncio.Task[None] | None = None
        self.received: list[tuple[int, ReplyMessage]] = []

    def call(self, *call_ids: int) -> None:
        for call_id in call_ids:
            packet = messages.encode_call(call_id, messages.encode_meta(Call()), b"")
            self._requests.send(packet)

    def tell(self, message: Cancel | Taken) -> None:
        self._control.send(messages.encode_control(message))

    def serve(self) -> None:
        self._serving = asyncio.create_task(self._concurrent.serve())

    @property
    def listens(self) -> bool:
        """Whether the worker reads calls from its socket."""
        selector = cast(Any, asyncio.get_running_loop())._selector
        return self._inner.fileno() in selector.get_map()

    async def receive(self, wanted: Callable[[], bool]) -> None:
        """Receive messages from the worker until the condition is true."""
        loop = asyncio.get_running_loop()

        async def read() -> None:
            while not wanted():
                data = await loop.sock_recv(self._replies, 65536)
                self.received += self._reader.feed(data, [])

        await asyncio.wait_for(read(), SECONDS)

    def of(self, call_id: int) -> list[ReplyMessage]:
        return [message for number, message in self.received if number == call_id]

    def ended(self, *call_ids: int) -> bool:
        last = [self.of(call_id)[-1:] for call_id in call_ids]
        return all(one and isinstance(one[0], Reply | Closed) for one in last)

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._requests.close()
        try:
            if self._serving is not None:
                await asyncio.wait_for(self._serving, SECONDS)
        finally:
            for end in self._all:
                end.close()


async def _forever() -> None:
    await asyncio.sleep(3600)


async def test_call_is_answered() -> None:
    async def predict() -> int:
        return 5

    async with Server(predict) as server:
        server.call(1, 2)
        server.serve()
        await server.receive(lambda: server.ended(1, 2))
        assert server.of(1) == [Reply(body=b'{"status":"OK","predictions":5}')]


async def test_running_call_that_is_cancelled_is_answered() -> None:
    """Without an answer, the server would consider the call running for ever."""
    began = []

    async def predict() -> None:
        began.append(1)
        await _forever()

    async with Server(predict) as server:
        server.call(1)
        server.serve()
        while not began:
            await asyncio.sleep(0)
        server.tell(Cancel(1))
        await server.receive(lambda: server.ended(1))


async def _cancelled_at_once(server: Server, *call_ids: int) -> None:
    """Let the worker find calls and the cancellation of the first one in the same turn of its loop.

    This happens when the server cancels a call just after the worker has read it from the socket,
    and another call makes the worker listen at that moment.
    """
    server.serve()
    while not server.listens:
        await asyncio.sleep(0)
    server.call(*call_ids)
    server.tell(Cancel(call_ids[0]))


async def test_call_that_is_cancelled_before_its_first_step_is_answered() -> None:
    """Without an answer, the server would consider the call running for ever."""

    async with Server(_forever) as server:
        await _cancelled_at_once(server, 1)
        await server.receive(lambda: server.ended(1))


async def test_place_of_a_call_that_is_cancelled_before_its_first_step_is_free() -> None:
    async def predict() -> int:
        return 5

    async with Server(predict, at_once=1) as server:
        await _cancelled_at_once(server, 1, 2)
        await server.receive(lambda: server.ended(2))


async def test_cancel_of_an_unknown_call_is_nothing() -> None:
    async def predict() -> int:
        return 5

    async with Server(predict) as server:
        server.tell(Cancel(9))
        server.tell(Taken(9, 100))
        server.call(1)
        server.serve()
        await server.receive(lambda: server.ended(1))


async def test_calls_beyond_the_most_are_left_in_the_socket() -> None:
    events: list[asyncio.Event] = []

    async def predict() -> int:
        events.append(asyncio.Event())
        await events[-1].wait()
        return 5

    async with Server(predict, at_once=2) as server:
        server.call(1, 2, 3)
        server.serve()
        while len(events) < 2:
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(events) == 2
        for number in range(3):
            while len(events) <= number:
                await asyncio.sleep(0)
            events[number].set()
        await server.receive(lambda: server.ended(1, 2, 3))


def parts(messages: list[ReplyMessage]) -> bytes:
    return b"".join(one.data for one in messages if isinstance(one, Part))


async def test_stream_waits_for_room() -> None:
    yielded: list[int] = []

    async def predict() -> AsyncIterator[str]:
        for number in range(10):
            yielded.append(number)
            yield "x" * 40  # a line of 43 bytes; the limit is 100, which one part may exceed

    async with Server(predict) as server:
        server.call(1)
        server.serve()
        await server.receive(lambda: len(parts(server.of(1))) == 3 * 43)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(yielded) == 4
        while not server.ended(1):
            before = len(server.of(1))
            server.tell(Taken(1, 43))
            await server.receive(lambda: len(server.of(1)) > before)  # noqa: B023
        assert parts(server.of(1)) == b'"' + b'"\n"'.join([b"x" * 40] * 10) + b'"\n'
        first, *_, last = server.of(1)
        assert first == Opened({"Content-Type": "application/x-ndjson"})
        assert last == Closed()


@pytest.mark.parametrize("where", ["waiting", "without room"])
async def test_stream_that_is_cancelled_runs_its_finally_and_is_closed(where: str) -> None:
    ended: list[str] = []

    async def predict() -> AsyncIterator[str]:
        try:
            while True:
                yield "x" * 110
                if where == "waiting":
                    await _forever()
        finally:
            ended.append(where)

    async with Server(predict) as server:
        server.call(1)
        server.serve()
        await server.receive(lambda: len(server.of(1)) == 2)
        server.tell(Cancel(1))
        await server.receive(lambda: server.ended(1))
        assert ended == [where]


async def test_stream_that_swallows_its_cancellation_is_ended_all_the_same() -> None:
    """Nobody reads its items any more, so it would wait for room for ever."""
    ended: list[int] = []
    swallowed: list[int] = []

    async def predict() -> AsyncIterator[str]:
        try:
            while True:
                yield "x" * 30
                try:
                    await asyncio.sleep(0.01 if swallowed else 3600)
                except asyncio.CancelledError:
                    swallowed.append(1)
        finally:
            ended.append(1)

    async with Server(predict) as server:
        server.call(1)
        server.serve()
        await server.receive(lambda: len(server.of(1)) == 2)
        server.tell(Cancel(1))
        await server.receive(lambda: server.ended(1))
        assert (swallowed, ended) == ([1], [1])
