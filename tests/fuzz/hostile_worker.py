"""Fuzz tests of the bytes and descriptors that a worker sends on its two sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from deepaas.protocol import messages
from deepaas.serving.prediction import Awaited, Prediction
from tests.fuzz.mutations import cut, places
from tests.fuzz.parsers import (
    assert_well_formed,
    beginnings,
    encoded,
    ends,
    hostile_lines,
    hostile_replies,
    parts,
    replies,
    streamed,
)
from tests.fuzz.talk import complaints
from tests.serving.puppet import READY, Puppet

CALLS = 3

Sending = tuple[str, bytes, list[int], int]
"""The socket's name, the bytes, the places at which to cut them, and the number of descriptors."""

without_files = st.just(0)
replies_without_files = replies.map(lambda reply: replace(reply, fd=-1))
numbers = st.sampled_from(range(CALLS))


@st.composite
def conversations(draw: st.DrawFn) -> list[Sending]:
    """Return a valid sequence of replies with one more message inserted at a random position."""
    sent: list[bytes] = []
    ended: set[int] = set()
    streams: set[int] = set()
    for number in draw(st.lists(numbers, max_size=8)):
        if number in ended:
            continue
        message: messages.ReplyMessage
        if number in streams:
            message = draw(parts | ends)
        else:
            message = draw(beginnings | replies_without_files)
        sent.append(encoded(number, message))
        if isinstance(message, messages.Opened):
            streams.add(number)
        elif not isinstance(message, messages.Part):
            ended.add(number)
    wrong = encoded(draw(numbers), draw(replies_without_files | streamed))
    sent.insert(draw(st.integers(0, len(sent))), wrong)
    return [("replies", b"".join(sent), draw(places()), 0)]


malformed: st.SearchStrategy[list[Sending]] = st.lists(
    st.tuples(st.just("replies"), hostile_replies, places(), st.sampled_from([0, 0, 1, 2, 20]))
    | st.tuples(st.just("control"), hostile_lines, places(), without_files),
    min_size=1,
    max_size=4,
)
sendings = conversations() | malformed


async def listen(sent: Sequence[Sending]) -> None:
    """Send everything from one worker, then check that each call is answered or handed back."""
    worker = Puppet()
    worker.control(messages.encode_control(READY))
    predictions = [worker.take_call(number) for number in range(CALLS)]
    for name, data, chosen, files in sent:
        if name == "control":
            worker.control(*cut(data, chosen))
        else:
            worker.reply(*cut(data, chosen), files=files)
        await worker.heard()
    left = await worker.end()
    for prediction in predictions:
        await check_end(prediction, left)


async def check_end(prediction: Awaited, left: Sequence[Prediction]) -> None:
    assert prediction.ended != (prediction in left)
    stream = prediction.stream
    if prediction._future.done():
        reply = await prediction.reply()
        reply.discard()
        assert_well_formed(reply)
        assert reply.stream is stream
    else:
        assert not prediction.ended
    if prediction.ended and stream is not None:
        assert stream._end is not None, "the reader of this stream waits for ever"


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextlib.contextmanager
def workers() -> Iterator[Callable[[Any], None]]:
    """Check that the server reads the input or kills the worker, and leaks no descriptor."""
    loop = asyncio.new_event_loop()
    with contextlib.closing(loop), complaints(loop) as complained:

        def check(sent: Sequence[Sending]) -> None:
            complained.clear()
            before = descriptors()
            loop.run_until_complete(listen(sent))
            assert descriptors() == before
            unexpected = [one for one in complained if "is killed" not in one]
            assert not unexpected, unexpected

        yield check
