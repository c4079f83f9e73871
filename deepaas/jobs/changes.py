"""Reports the changes of records as events of the server that is responsible for them."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from deepaas.events import Event, JobChanged
from deepaas.exceptions import StorageError
from deepaas.jobs.backoff import Backoff
from deepaas.jobs.identity import server_lives
from deepaas.jobs.notices import Change
from deepaas.jobs.state import State
from deepaas.jobs.store import Store

DROP_SECONDS = 0.2
"""How long to wait for the lock of the records to remove changes that were reported."""


class ChangeReporter:
    """Reports `job_changed` for each change of a record whose owner is this server.

    The store keeps a change, whichever process made it, until it has been reported. So none is
    lost if this server is killed: another one reports it. If this server is killed after the report
    and before the change is removed, the other one reports it again.
    """

    def __init__(self, state: State, event: Event[JobChanged]) -> None:
        self._state = state
        self._event = event
        self._reported: set[int] = set()  # numbers of changes that are still to be removed
        self._version = -1
        self._backoff = Backoff()  # when the store cannot be written
        self._lock = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<ChangeReporter of {self._state}>"

    async def report(self) -> None:
        """Report the changes that were made since the last call."""
        async with self._lock:
            found = await self._state.read(self._new_changes)
            for change in found.changes:
                if change.number not in self._reported:
                    self._reported.add(change.number)
                    if self._event.listeners:
                        self._event.report(_event_of(change))
            self._version = found.version
            await self._drop_reported()

    def _new_changes(self, store: Store) -> _Found:
        version = store.version()
        is_new = version != self._version
        return _Found(version, store.changes(self._state.id) if is_new else [])

    async def _drop_reported(self) -> None:
        """Remove the changes that were reported from the store, now or in a later call."""
        if not (self._reported and self._backoff.is_due):
            return
        numbers = frozenset(self._reported)
        try:
            drop = self._state.store.drop_changes
            await self._state.do(drop, numbers, within=DROP_SECONDS)
        except StorageError:
            self._backoff.fail()
            raise
        self._backoff.reset()
        self._reported -= numbers

    async def adopt(self) -> None:
        """Take over the changes of servers that have exited, to report them next time."""
        for owner in await self._state.read(lambda store: store.change_owners()):
            if owner != self._state.id and not server_lives(self._state.directory, owner):
                await self._state.do(self._state.store.adopt_changes, owner, self._state.id)


class _Found(NamedTuple):
    """Changes, and the version of the store that they belong to."""

    version: int
    changes: list[Change]


def _event_of(change: Change) -> JobChanged:
    return JobChanged(change.model, change.kind, change.uuid, change.status, change.seconds)


async def wait_until_set(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, or until so many seconds have passed; then clear the event.

    Unlike `asyncio.wait_for` in Python 3.11, this never ignores that the task is cancelled.
    """
    timer = asyncio.get_running_loop().call_later(seconds, event.set)
    try:
        await event.wait()
    finally:
        timer.cancel()
    event.clear()
