"""Whatever a worker sends, the server answers all callers and continues."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from deepaas.model.v2.exchange import Reply
from deepaas.protocol.messages import (
    Cancel,
    Closed,
    Opened,
    Part,
    Phase,
    Ready,
    ReplyMessage,
    encode_control,
    encode_reply,
    encode_stream,
)
from tests.conftest import Serve
from tests.serving.processes import pids
from tests.serving.puppet import READY, Puppet
from tests.support import Server, wait_until


@contextlib.asynccontextmanager
async def started(ready: Ready = READY) -> AsyncIterator[Puppet]:
    """A worker whose first message has been read; it is ended with the block."""
    worker = Puppet()
    try:
        worker.control(encode_control(ready))
        await worker.heard()
        yield worker
    finally:
        await worker.end()


def encoded(number: int, message: ReplyMessage) -> bytes:
    if isinstance(message, Reply):
        return encode_reply(number, message)
    return encode_stream(number, message)


WRONG_ORDERS: dict[str, list[ReplyMessage]] = {
    "a whole reply within a stream": [Opened({"Content-Type": "a/b"}), Reply()],
    "a stream within a stream": [Opened({"Content-Type": "a/b"}), Opened({})],
    "a part before the beginning": [Part(b"a")],
    "an end before the beginning": [Closed()],
}


@pytest.mark.parametrize("order", WRONG_ORDERS)
async def test_call_whose_replies_come_in_a_wrong_order_is_given_back(order: str) -> None:
    """The call then fails with the worker, so that no reader of a stream waits for ever."""
    async with started() as worker:
        prediction = worker.take_call(1)
        for message in WRONG_ORDERS[order]:
            worker.reply(encoded(1, message))
        assert not await worker.heard()
        assert worker.calls == {1: prediction}
        assert not prediction.ended


async def test_stream_in_its_right_order_is_read() -> None:
    async with started() as worker:
        prediction = worker.take_call(1)
        for message in (Opened({"Content-Type": "a/b"}), Part(b"ab"), Part(b"c"), Closed()):
            worker.reply(encoded(1, message))
        assert await worker.heard()
        stream = (await prediction.reply()).stream
        assert stream is not None
        assert b"".join([part async for part in stream]) == b"abc"
        assert prediction.ended


async def test_call_that_is_answered_before_it_is_read_is_not_taken_back() -> None:
    async with started() as worker:
        worker.take_call(1)
        second = worker.take_call(2)
        worker.reply(encode_reply(1, Reply(body=b"abc")))
        assert await worker.heard()
        assert worker.reclaim(5) == [second]


@pytest.mark.parametrize(
    "calling",
    [
        None,
        {},
        {"kind": "many", "at_once": "5"},
        {"kind": "many", "at_once": 0},
        {"kind": "many", "at_once": True},
        {"kind": "other"},
        {"kind": "batch", "wait": None},
        {"kind": "one", "other": 1},
    ],
)
async def test_worker_that_cannot_be_called_is_killed(calling: Any) -> None:
    async with started(Ready({"calling": calling})) as worker:
        assert not await worker.heard()
        assert worker.phase != "ready"


async def test_worker_that_says_more_after_it_is_ready_is_not_listened_to() -> None:
    async with started() as worker:
        worker.control(encode_control(Phase("dead")), encode_control(Ready({"calling": {}})))
        worker.control(encode_control(Cancel(1)))
        assert await worker.heard()
        assert (worker.phase, worker.description) == ("ready", READY.description)


FORGED: dict[str, list[bytes]] = {
    "a reply within a stream": [
        encode_stream(0, Opened({"Content-Type": "text/plain"})),
        encode_reply(0, Reply(body=b"1")),
    ],
    "the end of no stream": [encode_stream(0, Closed())],
    "a file that is missing": [encode_reply(0, Reply(fd=5))],
    "an impossible status": [encode_reply(0, Reply(99))],
    "an error whose text is a number": [encode_reply(0, Reply(500, reason=5, code="x"))],  # type: ignore[arg-type]
    "headers that are no texts": [encode_reply(0, Reply(headers={"X": 5}))],  # type: ignore[dict-item]
    "a reply to nobody": [encode_reply(2**31, Reply())],
    "half a reply": [encode_reply(0, Reply(body=b"abc"))[:-1]],
}


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all({}, "--restart-delay-max", "1", "zoo.forges", "zoo.echo")


@pytest.mark.parametrize("kind", FORGED)
def test_caller_of_a_worker_that_forges_replies_is_answered(server: Server, kind: str) -> None:
    """If the caller receives a stream without an end, the connection is closed."""
    others = pids(server, "echo")
    sent = [message.hex() for message in FORGED[kind]]
    try:
        assert server.predict("forges", json={"messages": sent}).status_code in (200, 500)
    except (httpx.ReadError, httpx.RemoteProtocolError):
        assert "stream" in kind
    wait_until(lambda: server.predict("forges").status_code == 200, within=20, what="a worker")
    assert pids(server, "echo") == others
