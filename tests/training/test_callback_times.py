"""The delays before a failed callback is repeated, and when it is given up, in virtual time."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from deepaas.api import callbacks
from deepaas.api.callbacks import LOOK_SECONDS, MAX_DELAY, UNWRITTEN_DELAY, CallbackOptions
from deepaas.exceptions import StorageError
from deepaas.jobs.notices import Notice
from tests import clock
from tests.clock import START, in_virtual_time, now

MINUTE = 60.0
HOUR = 60 * MINUTE


class Trainings:
    """The notices to send. Reading a record fails `complaints` times."""

    def __init__(self, *uuids: str) -> None:
        self.kept = [Notice(n, 0, uuid, "http://a:1/") for n, uuid in enumerate(uuids)]
        self.complaints = 0

    async def notices(self) -> list[Notice]:
        return list(self.kept)

    async def noticed(self, notice: Notice) -> Any:
        if self.complaints:
            self.complaints -= 1
            raise StorageError("the disk is full")
        return SimpleNamespace(status="done")

    async def count_attempt(self, notice: Notice) -> None:
        index = self.kept.index(notice)
        self.kept[index] = replace(notice, attempts=notice.attempts + 1)

    async def drop_notice(self, notice: Notice) -> None:
        self.kept = [one for one in self.kept if one.number != notice.number]


class Sender(callbacks._Sender):
    """Sends to a receiver that first gives the responses in `answers`, then accepts all."""

    def __init__(self, trainings: Trainings, *answers: str, attempts: int = 12) -> None:
        options = CallbackOptions(frozenset({"a"}), b"secret", attempts=attempts)
        app = SimpleNamespace(trainings=trainings)
        super().__init__(cast(Any, app), options, cast(Any, None))
        self._answers = list(answers)
        self.posts: list[tuple[str, float]] = []

    async def _post(self, notice: Notice, record: Any) -> str:
        self.posts.append((notice.uuid, now()))
        return self._answers.pop(0) if self._answers else ""

    async def run_for(self, seconds: float) -> None:
        task = asyncio.create_task(self.run())
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    @property
    def delays(self) -> list[float]:
        """The seconds from each attempt to the next one."""
        return [after - before for (_, before), (_, after) in itertools.pairwise(self.posts)]


@pytest.fixture(autouse=True)
def _virtual(monkeypatch: pytest.MonkeyPatch) -> None:
    clock.follow(monkeypatch, callbacks)


def are_kept(delays: list[float], wanted: list[float]) -> bool:
    """Tell whether the delays are the wanted ones."""
    return delays == pytest.approx(wanted, abs=0.001)


@in_virtual_time
async def test_delays_double_until_the_last_attempt_and_then_it_is_given_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    trainings = Trainings("one")
    sender = Sender(trainings, *["500"] * 100)
    await sender.run_for(HOUR)
    assert are_kept(sender.delays, [2.0**n for n in range(10)] + [MAX_DELAY])
    assert trainings.kept == []
    assert "one: gave up the callback to a for the status done: 500" in caplog.text


@in_virtual_time
async def test_no_delay_is_longer_than_the_maximum() -> None:
    sender = Sender(Trainings("one"), *["500"] * 100, attempts=13)
    await sender.run_for(HOUR)
    assert len(sender.posts) == 13
    assert are_kept(sender.delays[10:], [MAX_DELAY] * 2)


@in_virtual_time
async def test_callback_that_is_taken_in_the_end_is_not_sent_again() -> None:
    trainings = Trainings("one")
    sender = Sender(trainings, "500", "TimeoutError", "404")
    await sender.run_for(MINUTE)
    assert are_kept(sender.delays, [1, 2, 4])
    assert trainings.kept == []


@in_virtual_time
async def test_receiver_that_is_gone_is_not_called_again() -> None:
    trainings = Trainings("one")
    sender = Sender(trainings, "410")
    await sender.run_for(MINUTE)
    assert len(sender.posts) == 1
    assert trainings.kept == []


@in_virtual_time
async def test_one_attempt_is_made_if_only_one_may_be() -> None:
    sender = Sender(Trainings("one"), "500", attempts=1)
    await sender.run_for(MINUTE)
    assert len(sender.posts) == 1


@in_virtual_time
async def test_callback_that_is_sent_again_later_does_not_delay_another() -> None:
    sender = Sender(Trainings("one", "two"), "500")
    await sender.run_for(MINUTE)
    assert [uuid for uuid, _ in sender.posts] == ["one", "two", "one"]
    assert sender.posts[1][1] == START


@in_virtual_time
async def test_callback_whose_record_cannot_be_read_is_tried_again_every_five_seconds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A failed read is not counted as an attempt, and is logged once."""
    trainings = Trainings("one")
    trainings.complaints = 3
    sender = Sender(trainings, attempts=1)
    await sender.run_for(MINUTE)
    ((_, sent),) = sender.posts
    assert sent - START == pytest.approx(3 * UNWRITTEN_DELAY, abs=0.001)
    assert caplog.text.count("the disk is full") == 1


@in_virtual_time
async def test_change_is_sent_at_once() -> None:
    trainings = Trainings()
    sender = Sender(trainings)
    task = asyncio.create_task(sender.run())
    await asyncio.sleep(1)
    trainings.kept = [Notice(1, 0, "one", "http://a:1/")]
    sender.look_soon()
    await asyncio.sleep(0.001)
    assert [uuid for uuid, _ in sender.posts] == ["one"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@in_virtual_time
async def test_change_of_which_no_event_tells_is_found_later() -> None:
    """It comes from a server that has exited."""
    trainings = Trainings()
    sender = Sender(trainings)
    task = asyncio.create_task(sender.run())
    await asyncio.sleep(1)
    trainings.kept = [Notice(1, 0, "one", "http://a:1/")]
    await asyncio.sleep(MINUTE)
    ((_, sent),) = sender.posts
    assert 0 < sent - START - 1 <= LOOK_SECONDS
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@in_virtual_time
async def test_next_change_of_a_record_follows_at_once() -> None:
    """One callback for a record is sent at a time, and at most four to a receiver."""
    trainings = Trainings(*(f"job {number}" for number in range(20)))
    sender = Sender(trainings)
    await sender.run_for(1)
    assert len(sender.posts) == 20
    assert sender.posts[-1][1] - START < 0.001
