"""A server that loads its models: the times of its log lines, and the opening of its port.

The tests run in virtual time, with pools that become ready or fail after a given time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import cast

import pytest

from deepaas.cmd.loading import Loading
from deepaas.exceptions import NoModelError
from deepaas.serving.pool import Pool
from tests.clock import START, in_virtual_time, now

HOUR = 3600.0


class Status:
    """The part of a model's status that Loading reads."""

    def __init__(self) -> None:
        self.phase = "starting"
        self.is_suspended = False
        self.was_ready = asyncio.Event()

    @property
    def seconds_so_far(self) -> float:
        return now() - START


class Loaded:
    """The part of a pool that Loading uses. Its model becomes ready, or fails, after `seconds`."""

    def __init__(self, name: str, seconds: float, *, fails: bool = False) -> None:
        self.name = name
        self.is_quiet = False
        self.status = Status()
        self.seconds_to_ready = seconds
        self.description = {"has": ["train"]}
        self.source = SimpleNamespace(target=f"{name}.py")
        self.options = SimpleNamespace(worker_options=SimpleNamespace(workers=1))
        self._fails = fails

    async def start(self) -> None:
        await asyncio.sleep(self.seconds_to_ready)
        self.status.phase = ""
        if not self._fails:
            self.status.was_ready.set()


class Said:
    """The log messages with a given beginning."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    def beginning(self, start: str) -> list[str]:
        return [text for text in self._caplog.messages if text.startswith(start)]


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Said:
    caplog.set_level("INFO", "deepaas")
    return Said(caplog)


@contextmanager
def expected_at(seconds: float) -> Iterator[None]:
    """Check that the block ends at this time."""
    yield
    assert now() - START == pytest.approx(seconds)


def load(*pools: Loaded, grace: float = 30, early: bool = False) -> Loading:
    return Loading(cast(list[Pool], pools), grace=grace, early=early)


# --- log lines


@in_virtual_time
async def test_models_that_are_loading_are_told_at_once_and_every_five_seconds(said: Said) -> None:
    loading = load(Loaded("a", 7), Loaded("b", 16))
    await asyncio.sleep(HOUR)
    assert said.beginning("Loading") == [
        "Loading a (starting, 0 s so far), b (starting, 0 s so far)",
        "Loading a (starting, 5 s so far), b (starting, 5 s so far)",
        "Loading b (starting, 10 s so far)",
        "Loading b (starting, 15 s so far)",
    ]
    await loading.close()


@in_virtual_time
async def test_model_that_is_ready_is_told_at_once(said: Said) -> None:
    loading = load(Loaded("a", 7), Loaded("b", 16))
    await asyncio.sleep(7.1)
    assert len(said.beginning("Model a (a.py) ready in 7.00 s with 1 worker(s): train")) == 1
    assert said.beginning("Model b") == []
    await asyncio.sleep(9)
    assert len(said.beginning("Model b (b.py) ready in 16.00 s with 1 worker(s): train")) == 1
    await loading.close()


@in_virtual_time
async def test_nothing_is_said_after_the_end_of_the_wait(said: Said) -> None:
    loading = load(Loaded("a", HOUR))
    await asyncio.sleep(1)
    await loading.close()
    await asyncio.sleep(2 * HOUR)
    assert said.beginning("Loading") == ["Loading a (starting, 0 s so far)"]
    assert said.beginning("Model") == []


# --- when the port may open


@in_virtual_time
async def test_port_opens_when_the_last_model_is_ready_within_the_grace() -> None:
    loading = load(Loaded("a", 7), Loaded("b", 16))
    with expected_at(16):
        await loading.may_open.wait()
    loading.raise_if_failed()
    await loading.close()


@in_virtual_time
async def test_port_opens_when_the_last_model_has_failed() -> None:
    loading = load(Loaded("a", 7), Loaded("b", 16, fails=True))
    with expected_at(16):
        await loading.may_open.wait()
    loading.raise_if_failed()
    await loading.close()


@pytest.mark.parametrize("grace", [0, 30])
@in_virtual_time
async def test_port_opens_when_the_grace_after_the_first_model_is_over(grace: float) -> None:
    """A second model that becomes ready does not restart the grace period."""
    loading = load(Loaded("a", 7), Loaded("b", 7.5), Loaded("c", HOUR), grace=grace)
    with expected_at(7 + grace):
        await loading.may_open.wait()
    await loading.close()


@in_virtual_time
async def test_grace_does_not_begin_when_a_model_fails() -> None:
    loading = load(Loaded("a", 7, fails=True), Loaded("b", HOUR), Loaded("c", 2 * HOUR), grace=5)
    with expected_at(HOUR + 5):
        await loading.may_open.wait()
    await loading.close()


@in_virtual_time
async def test_port_opens_early_if_that_is_wanted() -> None:
    loading = load(Loaded("a", HOUR), early=True)
    assert loading.may_open.is_set()
    await loading.close()


@pytest.mark.parametrize("early", [False, True])
@in_virtual_time
async def test_server_has_failed_when_the_last_model_has_failed(early: bool) -> None:
    loading = load(Loaded("a", 7, fails=True), Loaded("b", 16, fails=True), early=early)
    with expected_at(16):
        await loading.has_failed.wait()
    with pytest.raises(NoModelError, match=r"none of the models can be served \(a, b\)"):
        loading.raise_if_failed()
    await loading.close()
