"""Stops jobs: signals or kills their processes, and records their ends."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from deepaas.exceptions import NotStoppableError, StorageError
from deepaas.jobs import identity
from deepaas.jobs.commands import CANCEL_SIGNAL
from deepaas.jobs.state import State
from deepaas.jobs.store import CANCELLED, Ending, Record
from deepaas.jobs.supervisor_handle import SupervisorHandle, reap

logger = logging.getLogger("deepaas.training")

STOPPED = "stopped with the server"
NO_EXIT = "its supervisor process did not exit"

WRITE_SECONDS = 1.0
"""How long a supervisor process may take to write how its training ended."""

SUPERVISOR_SECONDS = 1.5
"""How much longer than its training a supervisor process may take to stop."""

KILLED_SECONDS = 5.0
"""How long a supervisor process may take to exit after SIGKILL."""


class JobStopper:
    """Stops the jobs of one server.

    `supervisors` holds the known supervisor processes by uuid. The processes of a job get
    `cancel_timeout` seconds to exit after SIGTERM.
    """

    def __init__(
        self, state: State, supervisors: Mapping[str, SupervisorHandle], cancel_timeout: float
    ) -> None:
        self._state = state
        self._supervisors = supervisors
        self._stop_seconds = cancel_timeout + SUPERVISOR_SECONDS

    def __repr__(self) -> str:
        return f"<JobStopper of {self._state}>"

    async def stop(self, record: Record) -> None:
        """Stop the processes of a training; return when they have ended.

        Raises NotStoppableError if they run in another container and do not end.
        """
        supervisor = self._supervisor_of(record)
        supervisor.tell(record.supervisor, signal.SIGTERM)
        if not await _has_ended_within(supervisor, self._stop_seconds):
            await self._kill(record)

    async def stop_all(self, records: Iterable[Record], hurry: Callable[[], bool]) -> None:
        """Stop the processes of these jobs, because the server stops. Do not wait for the ends once
        `hurry` returns true."""
        stopped = await asyncio.gather(*map(self._note_stop, records))
        for record in stopped:
            # Signal it also if the job has ended: its process may leave others running.
            self._supervisor_of(record).tell(record.supervisor, signal.SIGTERM)
        deadline = time.monotonic() + self._stop_seconds
        while left := [one for one in stopped if self._supervisor_of(one).lives]:
            if hurry():
                return
            if time.monotonic() > deadline:
                await asyncio.gather(*(self._kill_with_server(record) for record in left))
                return
            await asyncio.sleep(0.02)

    async def end_work(self, record: Record) -> None:
        """Stop the processes of a cancelled job whose record cannot be written.

        Its supervisor process writes the end as soon as that is possible.
        """
        identity.send_signal(record.supervisor, CANCEL_SIGNAL)
        deadline = time.monotonic() + self._stop_seconds
        while await self.works(record) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        deadline = min(deadline, time.monotonic() + WRITE_SECONDS)
        while identity.is_alive(record.supervisor) and time.monotonic() < deadline:
            if (await self._state.now(record)).has_ended:
                return
            await asyncio.sleep(0.05)

    async def end_stuck(self, record: Record) -> None:
        """Kill a cancelled job if its supervisor process did not react or holds the lock of the
        records."""
        if not identity.is_alive(record.supervisor):
            return
        holders = await self._state.read(lambda store: store.lock_holders())
        is_stuck = identity.pid_of(record.supervisor) in holders or await self.works(record)
        if is_stuck:
            # The record cannot be changed before the kill. The server that owns the job may see the
            # death first, and then finds this mark.
            self._state.place(record.uuid).mark_cancelled()
            await self._kill(record)

    async def works(self, record: Record) -> bool:
        """Return whether processes of a job run besides its supervisor process, or may run
        elsewhere."""
        if not identity.is_alive(record.supervisor):
            return identity.is_locked(self._state.place(record.uuid).lock)
        supervisor = identity.pid_of(record.supervisor)
        return bool(await asyncio.to_thread(identity.descendants, supervisor))

    async def find_dead(self, record: Record, why: str) -> None:
        """Record the end of a job whose supervisor process has died, and kill its processes."""
        supervisor = self._supervisors.get(record.uuid)
        age = supervisor.age if supervisor else None
        await asyncio.to_thread(reap, record.uuid)
        store = self._state.store
        is_cancelled = self._state.place(record.uuid).cancelled.exists()
        reason = CANCELLED if is_cancelled else record.stop or why

        def finish() -> None:
            now = store.get(record.uuid) or record
            duration = None
            if age is not None and now.load_seconds is not None:
                duration = max(0.0, age - now.load_seconds)
            store.finish(record.uuid, Ending.because(reason), duration=duration)
            store.note_leftover_processes(record.uuid, False)

        await self._state.do(finish)

    async def end_rest(self, record: Record) -> None:
        """Kill the processes of an ended job whose supervisor process has ended.

        Usually the supervisor has ended them itself. If it was killed, some may still run, and the
        record may not say so.
        """
        await asyncio.to_thread(reap, record.uuid)

    def _supervisor_of(self, record: Record) -> SupervisorHandle:
        known = self._supervisors.get(record.uuid)
        return known or SupervisorHandle(self._state.place(record.uuid))

    async def _note_stop(self, record: Record) -> Record:
        """Note in a record that its job stops with the server, and return the record."""
        if record.has_ended:
            return record
        logger.info("%s is stopped", record.label)
        store = self._state.store

        def note() -> Record | None:
            waits = store.requeue(record.uuid)  # no supervisor process has claimed it yet
            return waits or store.stop(record.uuid, STOPPED)

        try:
            return await self._state.do(note) or record
        except StorageError as error:  # its supervisor process gets a signal nevertheless
            logger.error("%s", error)
            return record

    async def _kill(self, record: Record) -> None:
        """Kill a supervisor process that does not exit, and all processes of its job."""
        logger.error("The supervisor of %s does not exit and is killed", record.label)
        supervisor = self._supervisor_of(record)
        is_here = supervisor.tell(record.supervisor, signal.SIGKILL)
        if not await _has_ended_within(supervisor, KILLED_SECONDS if is_here else 0):
            raise NotStoppableError(
                f"The supervisor process of {record.uuid} was killed and does not exit"
                if is_here
                else f"{record.uuid} runs in another container than this server and did not end "
                "when it was asked to"
            )
        await self.find_dead(record, NO_EXIT)

    async def _kill_with_server(self, record: Record) -> None:
        try:
            await self._kill(replace(record, stop=record.stop or STOPPED))
        except (NotStoppableError, StorageError) as error:
            logger.error("%s", error)


async def _has_ended_within(supervisor: SupervisorHandle, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while supervisor.lives:
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True
