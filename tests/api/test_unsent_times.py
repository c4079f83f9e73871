"""How often the log reports cut connections, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from deepaas.http import unsent
from deepaas.http.unsent import LOG_SECONDS, Unsent
from tests import clock
from tests.clock import in_virtual_time


class Held:
    """A connection whose client has left a megabyte unread."""

    def unsent(self) -> int:
        return 1_000_000

    def cut(self) -> None:
        pass


@in_virtual_time
async def test_connections_that_are_cut_are_told_once_in_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock.follow(monkeypatch, unsent)
    held = Unsent(1000)
    for _ in range(25):
        held.add(Held())
        await asyncio.sleep(LOG_SECONDS / 10)
    assert caplog.text.count("Closed 1 connection(s)") == 3
