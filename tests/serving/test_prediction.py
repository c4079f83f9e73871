"""One prediction in the server, and the parts of a streamed reply."""

from __future__ import annotations

import asyncio
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepaas.exceptions import PredictTimeoutError, RequestError, StreamFailedError, WorkerDiedError
from deepaas.model.v2.exchange import Reply
from deepaas.protocol.messages import Closed
from deepaas.serving.prediction import Awaited, Prediction, ReplyStream

# --- streams


async def turns() -> None:
    """Let all tasks run until they wait."""
    for _ in range(5):
        await asyncio.sleep(0)


async def next_part(stream: ReplyStream) -> bytes:
    return await asyncio.wait_for(stream.__anext__(), 5)


async def test_parts_that_have_come_are_read_together() -> None:
    stream = ReplyStream(lambda size: None)
    for part in (b"a", b"b", b"c"):
        stream.feed(part)
    assert await next_part(stream) == b"abc"
    stream.feed(b"d")
    assert await next_part(stream) == b"d"


async def test_reader_waits_for_the_next_part() -> None:
    stream = ReplyStream(lambda size: None)
    waiting = asyncio.create_task(next_part(stream))
    await turns()
    assert not waiting.done()
    stream.feed(b"a")
    assert await waiting == b"a"


async def test_reader_gets_what_came_before_the_end() -> None:
    stream = ReplyStream(lambda size: None)
    stream.feed(b"a")
    stream.close(Closed())
    assert [part async for part in stream] == [b"a"]
    with pytest.raises(StopAsyncIteration):
        await next_part(stream)


async def test_end_wakes_the_reader() -> None:
    stream = ReplyStream(lambda size: None)
    waiting = asyncio.create_task(next_part(stream))
    await turns()
    stream.close(Closed("why", "code"))
    with pytest.raises(StreamFailedError) as caught:
        await waiting
    assert (str(caught.value), caught.value.code) == ("why", "code")


async def test_failure_comes_after_what_was_sent_before() -> None:
    stream = ReplyStream(lambda size: None)
    stream.feed(b"a")
    stream.close(Closed("why", "code"))
    assert await next_part(stream) == b"a"
    for _ in range(2):
        with pytest.raises(StreamFailedError, match="why"):
            await next_part(stream)


async def test_first_end_is_the_end() -> None:
    stream = ReplyStream(lambda size: None)
    stream.close(Closed("first", "code"))
    stream.close(Closed())
    with pytest.raises(StreamFailedError, match="first"):
        await next_part(stream)


async def test_what_was_given_is_told_when_the_reader_comes_back() -> None:
    taken: list[int] = []
    stream = ReplyStream(taken.append)
    stream.feed(b"abc")
    assert stream.unread
    await next_part(stream)
    assert (taken, stream.unread) == ([], True)
    waiting = asyncio.create_task(next_part(stream))
    await turns()
    assert (taken, stream.unread) == ([3], False)
    stream.feed(b"de")
    assert stream.unread
    assert await waiting == b"de"


async def test_nothing_is_told_of_a_stream_that_has_ended() -> None:
    taken: list[int] = []
    stream = ReplyStream(taken.append)
    stream.feed(b"abc")
    await next_part(stream)
    stream.close(Closed())
    assert [part async for part in stream] == []
    assert taken == []


@given(st.integers(1, 1000), st.lists(st.binary(min_size=1, max_size=300), max_size=40))
async def test_a_reader_that_has_read_all_leaves_room_for_more(
    limit: int, parts: list[bytes]
) -> None:
    """The unreported part stays below the limit; otherwise the worker would wait for ever."""

    taken: list[int] = []
    stream = ReplyStream(taken.append, limit)
    sent = 0
    for part in parts:
        stream.feed(part)
        sent += len(part)
        assert await next_part(stream) == part
        waiting = asyncio.ensure_future(stream.__anext__())
        await turns()
        assert 0 <= sent - sum(taken) < limit
        stream.feed(b"x")
        sent += 1
        assert await waiting == b"x"
    assert len(taken) <= 4 * (sent // limit) + 4


# --- predictions


class Left:
    """Counts the predictions that have left."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, prediction: Prediction) -> None:
        self.count += 1


def made(left: Left) -> Awaited:
    prediction = Awaited()
    prediction.leave = left
    return prediction


async def test_reply_reaches_who_waits_for_it() -> None:
    left = Left()
    with made(left) as prediction:
        prediction.set_reply(Reply(body=b"abc"))
        prediction.end()
        assert await prediction.reply() == Reply(body=b"abc")
    assert left.count == 0


async def test_error_reaches_who_waits_for_it() -> None:
    left = Left()
    with made(left) as prediction:
        prediction.fail(WorkerDiedError("gone"))
        prediction.fail(PredictTimeoutError("later"))
        prediction.end()
        with pytest.raises(WorkerDiedError, match="gone"):
            await prediction.reply()
    assert left.count == 0


async def test_who_goes_before_the_end_leaves() -> None:
    left = Left()
    with made(left):
        pass
    assert left.count == 1


async def test_who_is_cancelled_leaves() -> None:
    left = Left()

    async def wait() -> None:
        with made(left) as prediction:
            await prediction.reply()

    task = asyncio.create_task(wait())
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert left.count == 1


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def null() -> int:
    return os.open(os.devnull, os.O_RDONLY)


@pytest.mark.parametrize("when", ["left before", "left after", "failed before"])
async def test_descriptor_that_nobody_takes_is_closed(when: str) -> None:
    fd = null()
    prediction = made(Left())
    if when == "failed before":
        prediction.fail(PredictTimeoutError("too late"))
        prediction.set_reply(Reply(fd=fd))
    elif when == "left after":
        with prediction:
            prediction.set_reply(Reply(fd=fd))
    else:
        waiting = asyncio.ensure_future(prediction.reply())
        await turns()
        waiting.cancel()
        await turns()
        with prediction:
            prediction.set_reply(Reply(fd=fd))
    assert not is_open(fd)


async def test_descriptor_that_is_taken_is_the_takers() -> None:
    fd = null()
    with made(Left()) as prediction:
        prediction.set_reply(Reply(fd=fd))
        reply = await prediction.reply()
    assert is_open(reply.fd)
    os.close(reply.fd)


async def test_failure_ends_a_stream_that_has_begun() -> None:
    with made(Left()) as prediction:
        stream = prediction.stream = ReplyStream(lambda size: None)
        prediction.set_reply(Reply(headers={}, stream=stream))
        prediction.fail(WorkerDiedError("gone"))
        assert (await prediction.reply()).stream is stream
        with pytest.raises(StreamFailedError, match="gone") as caught:
            await next_part(stream)
        assert caught.value.code == "worker_died"


async def test_end_runs_what_is_to_be_done_and_stops_the_clock() -> None:
    done: list[str] = []
    prediction = made(Left())
    loop = asyncio.get_running_loop()
    prediction.timer = timer = loop.call_later(100, done.append, "rang")
    prediction.on_end += [lambda: done.append("a"), lambda: done.append("b")]
    prediction.end()
    assert done == ["a", "b"]
    assert timer.cancelled()
    assert prediction.ended
    assert prediction.worker is None
    assert getattr(prediction, "timer") is None  # noqa: B009 (mypy takes it for set still)


def test_failed_stream_has_the_code_of_its_cause() -> None:
    error = StreamFailedError("why", "some_code")
    assert isinstance(error, RequestError)
    assert (str(error), error.code) == ("why", "some_code")
    assert StreamFailedError("why", "other").code == "other"
