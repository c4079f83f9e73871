"""What a worker measures, and what the server makes of it."""

from __future__ import annotations

import math
import socket
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from webargs import fields

from deepaas.model.v2.arguments import Arguments
from deepaas.model.v2.exchange import (
    Call,
    Calling,
    CallingKind,
    Measured,
    Reply,
    measured_now,
)
from deepaas.model.v2.invocation import Invocation, Runtime
from deepaas.model.v2.wrapper import ModelWrapper
from deepaas.protocol import messages
from deepaas.serving.times import times_of
from deepaas.worker.batching import BatchingLoop
from deepaas.worker.reply_sender import ReplySender

SLEEP = 0.03


# --- the server's side


def test_times_of_a_call() -> None:
    submitted = time.monotonic() - 10.0
    times = times_of(submitted, (submitted + 1.0, 2.0, 0.0, 4.0, 0.5, 0))
    assert times == pytest.approx((1.0, 2.0, 0.0, 4.0, 0.5))


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        ((-5.0, 1.0, 0.0, 2.0, 3.0, 0), (0.0, 1.0, 0.0, 2.0, 3.0)),
        ((math.nan, 1.0, 0.0, 2.0, 3.0, 0), (0.0, 1.0, 0.0, 2.0, 3.0)),
        ((0.0, -1.0, math.nan, -math.inf, 3.0, 0), (0.0, 0.0, 0.0, 0.0, 3.0)),
        ((0.0, 4.0, 0.0, math.inf, 3.0, 0), (0.0, 4.0, 0.0, 6.0, 0.0)),
        ((0.0, 4.0, 0.0, 7.0, 3.0, 0), (0.0, 4.0, 0.0, 6.0, 0.0)),
        ((1e300, 4.0, 0.0, 7.0, 3.0, 0), (10.0, 0.0, 0.0, 0.0, 0.0)),
    ],
)
def test_wrong_times_are_cut(measured: Measured, expected: tuple[float, ...]) -> None:
    submitted = time.monotonic() - 10.0
    taken, *others = measured
    times = times_of(submitted, cast(Measured, (submitted + taken, *others)))
    assert times == pytest.approx(expected, abs=1.0)


@given(st.tuples(*[st.floats()] * 5), st.integers(0, 2**32 - 1))
def test_no_part_is_negative_and_their_sum_is_not_more_than_the_whole(
    seconds: tuple[float, ...], size: int
) -> None:
    submitted = time.monotonic() - 1.0
    times = times_of(submitted, cast(Measured, (*seconds, size)))
    assert min(times) >= 0.0
    assert sum(times) <= (time.monotonic() - submitted) * 1.000001  # rounding


# --- the worker's side


def test_step_that_has_not_ended_ends_now() -> None:
    taken = time.monotonic() - 10.0
    _, validate, wait, predict, encode, size = measured_now(taken, 0.0, 0.0)
    assert validate >= 10.0
    assert (wait, predict, encode, size) == (0.0, 0.0, 0.0, 0)
    _, validate, _, predict, encode, _ = measured_now(taken, taken + 2.0, 0.0)
    assert validate == pytest.approx(2.0)
    assert predict >= 8.0
    assert encode == 0.0


class Batches:
    """A worker's loop for a model with this `predict_batch`, which gets each batch as a list."""

    def __init__(self, predict_batch: Any, wait: float = 0.0) -> None:
        self._ours, requests = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._replies, replies = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sockets = [self._ours, requests, self._replies, replies]
        self._predict_batch = predict_batch
        self._missing = 0
        model = ModelWrapper("made", SimpleNamespace(predict_batch=self._predict))
        runtime = Runtime("made", "worker")
        arguments = Arguments({"number": fields.Int(load_default=0)})
        host = SimpleNamespace(
            calling=Calling(CallingKind.BATCH, 4, wait),
            invocation=Invocation(runtime, model, arguments, None),
            runtime=runtime,
        )
        self._loop = BatchingLoop(cast(Any, host), requests, ReplySender(replies))

    def _predict(self, batch: list[dict[str, Any]]) -> list[Any]:
        numbers = [one["number"] for one in batch]
        try:
            return list(self._predict_batch(numbers))
        finally:
            if len(numbers) == 1 or self._missing <= len(numbers):
                self._missing -= len(numbers)
            if self._missing <= 0:
                self._ours.close()  # so that the loop ends

    def replies(self, *packets: bytes) -> list[Reply]:
        """Return the replies to these calls, in the order of their ids."""
        for packet in packets:
            self._ours.send(packet)
        self._missing = len(packets)
        try:
            self._loop.serve()
            data = self._replies.recv(65536)
        finally:
            for end in self._sockets:
                end.close()
        found = dict(messages.ReplyReader().feed(data, []))
        return [reply for _, reply in sorted(found.items()) if isinstance(reply, Reply)]


def packet(number: int, concurrency: int) -> bytes:
    meta = messages.encode_meta(Call(f"number={number}"))
    return messages.with_concurrency(messages.encode_call(number, meta, b""), concurrency)


def test_first_reply_of_a_batch_has_its_size() -> None:
    def predict(numbers: list[int]) -> list[int]:
        time.sleep(SLEEP)
        return numbers

    replies = Batches(predict, 60.0).replies(*(packet(number, 3) for number in (1, 2, 3)))
    assert [reply.measured[-1] for reply in replies] == [3, 0, 0]
    taken = [reply.measured[0] for reply in replies]
    assert taken == sorted(taken)
    predicted = {reply.measured[3] for reply in replies}
    assert len(predicted) == 1
    assert min(predicted) >= SLEEP


def test_wait_for_a_batch_is_measured() -> None:
    [reply] = Batches(lambda numbers: numbers, SLEEP).replies(packet(1, 2))
    _, validate, wait, _, _, size = reply.measured
    assert validate + wait >= SLEEP
    assert size == 1


def test_call_that_waits_for_the_next_batch_has_waited_for_a_batch() -> None:
    """A call that must be alone is received, but is predicted after the batch before it."""

    def predict(numbers: list[int]) -> list[int]:
        time.sleep(SLEEP)
        return numbers

    first, alone = Batches(predict).replies(packet(1, 1), packet(2, messages.ALONE))
    assert [first.measured[-1], alone.measured[-1]] == [1, 1]
    assert alone.measured[2] >= SLEEP


def test_batch_that_fails_has_no_size_and_its_calls_have() -> None:
    def predict(numbers: list[int]) -> list[int]:
        if len(numbers) > 1:
            time.sleep(SLEEP)
            raise ValueError("on purpose")
        if numbers == [2]:
            raise ValueError("on purpose")
        return numbers

    replies = Batches(predict, 60.0).replies(packet(1, 2), packet(2, 2))
    assert [(reply.status, reply.measured[-1]) for reply in replies] == [(200, 1), (500, 1)]
    assert min(reply.measured[2] for reply in replies) >= SLEEP
