"""When a client that follows a log receives events, in virtual time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from deepaas.api.v2 import logs
from deepaas.api.v2.logs import KEEP_ALIVE_SECONDS, LOOK_SECONDS, STATUS_SECONDS
from deepaas.jobs.logs import LogWriter
from tests.clock import START, in_virtual_time, now


class Following:
    """A client that follows the log of a training, which runs until `end` is called."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._log = LogWriter(directory, 1_000_000)
        self._record = SimpleNamespace(uuid="one", has_ended=False, status="running")
        place = SimpleNamespace(log=directory)
        trainings = SimpleNamespace(place=lambda uuid: place, get=self._get)
        self._app = SimpleNamespace(draining=False)
        record: Any = SimpleNamespace(**vars(self._record))
        app, source = cast(Any, self._app), cast(Any, trainings)
        self._source = logs._Source(app, "model", "train", record, source)
        self.asked = 0
        self.seen: list[tuple[str, float]] = []
        self._task = asyncio.create_task(self._follow())

    async def _get(self, model: str, kind: str, uuid: str) -> Any:
        self.asked += 1
        return SimpleNamespace(**vars(self._record))

    async def _follow(self) -> None:
        async for data in logs._events(self._source):
            self.seen.append((data.decode(), now() - START))

    def write(self, line: bytes) -> None:
        self._log.write(line)

    def stop_server(self) -> None:
        self._app.draining = True

    async def end(self) -> None:
        self._record.has_ended, self._record.status = True, "done"
        await self._task

    async def over(self) -> None:
        await self._task


@in_virtual_time
async def test_comment_keeps_a_silent_connection_alive_every_fifteen_seconds(
    tmp_path: Path,
) -> None:
    client = Following(tmp_path / "log")
    await asyncio.sleep(50)
    assert [text for text, _ in client.seen] == [": keep-alive\n\n"] * 3
    times = [when for _, when in client.seen]
    assert times == pytest.approx([15, 30, 45], abs=4 * LOOK_SECONDS)
    await client.end()


@in_virtual_time
async def test_no_comment_is_sent_while_lines_come(tmp_path: Path) -> None:
    client = Following(tmp_path / "log")
    for _ in range(10):
        await asyncio.sleep(KEEP_ALIVE_SECONDS - 1)
        client.write(b"a line\n")
    await asyncio.sleep(1)
    assert len(client.seen) == 10
    assert all("data: a line" in text for text, _ in client.seen)
    await client.end()


@in_virtual_time
async def test_line_is_sent_at_the_next_look(tmp_path: Path) -> None:
    client = Following(tmp_path / "log")
    await asyncio.sleep(7.25)
    client.write(b"a line\n")
    await asyncio.sleep(5)
    ((_, when),) = client.seen
    assert 7.25 <= when <= 7.25 + LOOK_SECONDS
    await client.end()


@in_virtual_time
async def test_end_is_told_when_the_status_is_asked_for_the_next_time(tmp_path: Path) -> None:
    client = Following(tmp_path / "log")
    await asyncio.sleep(100.5)
    assert client.asked == pytest.approx(100 / STATUS_SECONDS, rel=0.15)
    began = now()
    await client.end()
    assert now() - began <= STATUS_SECONDS + 2 * LOOK_SECONDS
    assert client.seen[-1][0] == 'event: end\nid: 0\ndata: {"status":"done"}\n\n'


@in_virtual_time
async def test_following_breaks_off_when_the_server_is_to_stop(tmp_path: Path) -> None:
    client = Following(tmp_path / "log")
    await asyncio.sleep(1)
    client.stop_server()
    began = now()
    await client.over()
    assert now() - began <= 2 * LOOK_SECONDS
    assert client.seen == []
