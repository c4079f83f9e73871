"""The event `job_changed`: each new status of a job is reported once, by the responsible server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from deepaas.api import callbacks
from deepaas.api.callbacks import CallbackOptions, calling_back
from deepaas.events import Event, Events, JobChanged
from deepaas.exceptions import RequestError, StorageLockedError
from deepaas.jobs.changes import ChangeReporter
from deepaas.jobs.scheduler import TrainingOptions
from deepaas.jobs.service import JobService
from deepaas.jobs.state import State
from deepaas.jobs.store import CANCELLED, Record, Store
from deepaas.model.loading import ModelSource
from deepaas.model.v2.exchange import Call
from tests.support import ZOO, wait_until
from tests.training.trainings import END_SECONDS, Place, Site, kill_server

GONE = "4194304-1-gone"
"""The name of a server that does not run."""


class NoWorkers:
    """A Stage without workers."""

    async def clear(self, model: str) -> None: ...

    async def set(self, model: str) -> None: ...

    async def renew(self, model: str) -> None: ...

    def oldest(self, model: str) -> float | None:
        return None


class WholeBody:
    """A body that has arrived."""

    is_complete = True
    received = 0

    def refuse(self, error: RequestError) -> None:
        raise AssertionError


class Server:
    """The trainings of a server, in the process of the test, and the changes that it reports."""

    def __init__(self, state: Path) -> None:
        events = Events()
        events.job_changed.listen(self._note)
        source = ModelSource("trains", "zoo.trains", str(ZOO.parent))
        options = TrainingOptions(renew=False, log={"level": "CRITICAL"})
        self.service = JobService(state, options, [source], NoWorkers(), events)
        self.changes: list[JobChanged] = []
        self._news = asyncio.Event()

    def _note(self, change: JobChanged) -> None:
        self.changes.append(change)
        self._news.set()

    def statuses(self, uuid: str) -> list[str]:
        return [change.status for change in self.changes if change.uuid == uuid]

    async def begin(self, **arguments: object) -> Record:
        query = urlencode({name: str(value) for name, value in arguments.items()})
        async with self.service.receive("train", "trains", WholeBody()) as incoming:
            return await self.service.accept(incoming, Call(query), "{}", b"")

    async def wait_for(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds after a change."""

        async def wait() -> None:
            while not condition():
                self._news.clear()
                await self._news.wait()

        await asyncio.wait_for(wait(), END_SECONDS)

    async def wait_for_status(self, uuid: str, status: str) -> None:
        await self.wait_for(lambda: status in self.statuses(uuid))


@contextlib.asynccontextmanager
async def running(state: Path) -> AsyncIterator[Server]:
    server = Server(state)
    await server.service.open()
    server.service.begin()
    try:
        yield server
    finally:
        await server.service.close()


def unreported(state: Path) -> list[str]:
    """Return the servers that have changes to report."""
    with contextlib.closing(Store(state)) as store:
        return store.change_owners()


async def test_each_status_is_reported_once_and_in_order(tmp_path: Path, place: Place) -> None:
    place.open_gate()
    async with running(tmp_path / "state") as server:
        good = await server.begin(place=place)
        await server.wait_for_status(good.uuid, "done")
        bad = await server.begin(place=place, do="raise")
        await server.wait_for_status(bad.uuid, "error")
    assert server.statuses(good.uuid) == ["queued", "running", "done"]
    assert server.statuses(bad.uuid) == ["queued", "running", "error"]
    assert {(one.model, one.kind) for one in server.changes} == {("trains", "train")}
    for change in server.changes:
        assert (change.seconds is not None) == (change.status in ("done", "error"))
        assert (change.seconds or 0) >= 0
    assert unreported(tmp_path / "state") == []


async def test_cancelled_jobs_are_reported(tmp_path: Path, place: Place) -> None:
    """The removal of a record is no new status."""
    async with running(tmp_path / "state") as server:
        first = await server.begin(place=place)
        await server.wait_for_status(first.uuid, "running")
        waiting = await server.begin(place=place)
        for record in (waiting, first):
            await server.service.cancel(record)
            await server.wait_for_status(record.uuid, "cancelled")
        await server.service.cancel(await server.service.get("trains", "train", waiting.uuid))
    assert server.statuses(waiting.uuid) == ["queued", "cancelled"]
    assert server.statuses(first.uuid) == ["queued", "running", "cancelled"]
    (never_begun,) = [c for c in server.changes if c.uuid == waiting.uuid and c.status == CANCELLED]
    assert never_begun.seconds is None


async def test_jobs_that_end_with_the_server_are_reported(tmp_path: Path, place: Place) -> None:
    async with running(tmp_path / "state") as server:
        record = await server.begin(place=place)
        await server.wait_for_status(record.uuid, "running")
    assert server.statuses(record.uuid) == ["queued", "running", "error"]


async def test_the_owner_reports_what_another_server_does(tmp_path: Path, place: Place) -> None:
    async with running(tmp_path / "state") as owner, running(tmp_path / "state") as other:
        record = await owner.begin(place=place)
        await owner.wait_for_status(record.uuid, "running")
        await other.service.cancel(record)
        await owner.wait_for_status(record.uuid, "cancelled")
        # A job of the other server is reported after everything that it could have reported before.
        place.open_gate()
        own = await other.begin(place=place)
        await other.wait_for_status(own.uuid, "done")
    assert owner.statuses(record.uuid) == ["queued", "running", "cancelled"]
    assert {change.uuid for change in owner.changes} == {record.uuid}
    assert {change.uuid for change in other.changes} == {own.uuid}


async def test_end_without_a_server_is_reported_by_the_next_one(site: Site, place: Place) -> None:
    before = site.serve()
    uuid = before.begin(place=place)
    place.wait_for_attempt()
    wait_until(
        lambda: before.get(uuid)["status"] == "running" and not unreported(site.state),
        within=END_SECONDS,
        what="the reports of the server",
    )
    kill_server(before.server)
    place.open_gate()
    await asyncio.to_thread(site.wait_idle)
    async with running(site.state) as server:
        await server.wait_for_status(uuid, "done")
        (change,) = server.changes
        assert change.seconds is not None
    async with running(site.state) as last:
        other = await last.begin(place=place)
        await last.wait_for_status(other.uuid, "done")
    assert last.statuses(uuid) == []


async def test_unreported_changes_of_a_killed_server_are_reported_once(tmp_path: Path) -> None:
    """Two servers find them at the same time."""
    state = tmp_path / "state"
    state.mkdir()
    with contextlib.closing(Store(state)) as store:
        store.add("u", "train", "trains", GONE)
        store.accept("u", "{}")
        store.stop("u", CANCELLED)
        store.remove("u")
    async with running(state) as first, running(state) as second:
        both = first, second
        while sum(len(server.changes) for server in both) < 2:
            await asyncio.sleep(0.01)
    assert sorted(server.statuses("u") for server in both) == [[], ["queued", "cancelled"]]


async def test_report_is_not_repeated_if_it_cannot_be_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = State(tmp_path / "state")
    await state.open()
    seen: list[str] = []
    event: Event[JobChanged] = Event()
    event.listen(lambda change: seen.append(change.status))
    reporter = ChangeReporter(state, event)
    await state.do(state.store.add, "u", "train", "trains", state.id)
    await state.do(state.store.accept, "u", "{}")

    def locked(*_: Any) -> None:
        raise StorageLockedError("locked")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "drop_changes", locked)
        with pytest.raises(StorageLockedError):
            await reporter.report()
    monkeypatch.setattr(reporter, "_backoff", type(reporter._backoff)())
    await state.do(state.store.start, "u")
    await state.do(state.store.claim, "u", "1:2")
    await reporter.report()
    await reporter.report()
    await state.close()
    assert seen == ["queued", "running"]
    assert unreported(tmp_path / "state") == []


async def test_changes_are_removed_if_nobody_listens(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    await state.open()
    await state.do(state.store.add, "u", "train", "trains", state.id)
    await state.do(state.store.accept, "u", "{}")
    assert await state.read(lambda store: store.change_owners()) == [state.id]
    await ChangeReporter(state, Event()).report()
    assert await state.read(lambda store: store.change_owners()) == []
    await state.close()


async def test_a_record_that_waits_again_has_no_new_status(tmp_path: Path) -> None:
    """Clients do not see the time in which a supervisor process is started."""
    with contextlib.closing(Store(tmp_path)) as store:
        store.add("u", "train", "trains", "me")
        store.accept("u", "{}")
        for _ in range(2):
            store.start("u")
            store.requeue("u")
        assert [change.status for change in store.changes("me")] == ["queued"]


async def test_callbacks_listen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    woken = []

    class Sender(callbacks._Sender):
        def look_soon(self, change: object = None) -> None:
            woken.append(change)

    monkeypatch.setattr(callbacks, "_Sender", Sender)
    change = JobChanged("m", "train", "u", "queued", None)
    async with running(tmp_path / "state") as server:
        app: Any = type("App", (), {})()
        app.trainings = server.service
        app.kernel = type("Kernel", (), {"events": Events()})()
        async with calling_back(app, CallbackOptions(frozenset({"127.0.0.1"}))):
            app.kernel.events.job_changed.report(change)
    assert woken == [change]
