"""Cancels jobs, and removes the records of jobs that have ended."""

from __future__ import annotations

import asyncio
import logging
import shutil

from deepaas.exceptions import DiskFullError, StorageError, StorageLockedError
from deepaas.jobs.scheduler import UNSEEN, JobScheduler
from deepaas.jobs.state import State
from deepaas.jobs.store import CANCELLED, Record

logger = logging.getLogger("deepaas.training")

CANCEL_SECONDS = 1.0
"""How long a DELETE waits for the lock of the records before it asks the supervisor process."""


class Canceller:
    """Cancels and removes the jobs in a state directory, also those of other servers."""

    def __init__(self, state: State, scheduler: JobScheduler) -> None:
        self._state = state
        self._scheduler = scheduler
        self._stopper = scheduler.stopper

    def __repr__(self) -> str:
        return f"<Canceller of {self._state}>"

    async def cancel(self, record: Record) -> Record:
        """Cancel a job, or remove its record if it has ended; return the record."""
        try:
            stopped = await self._request_stop(record, CANCEL_SECONDS)
        except StorageLockedError:
            return await self._cancel_locked(record)
        except StorageError as error:  # this training itself may have filled the disk
            return await self._cancel_unwritten(record, error)
        return await self._cancel_noted(record, stopped)

    async def _request_stop(self, record: Record, within: float | None = None) -> Record | None:
        store = self._state.store
        return await self._state.do(store.stop, record.uuid, CANCELLED, within=within)

    async def _cancel_noted(self, record: Record, stopped: Record | None) -> Record:
        """Cancel a job after `stop` has returned `stopped` for its record."""
        if stopped is None:
            if record.has_ended:
                return await self._remove(record)
            return await self._state.now(record)  # it ended meanwhile: keep the record
        self._scheduler.note(stopped)
        if not stopped.has_ended:
            stopped = await self._end_running(stopped)
        if stopped.status == CANCELLED:
            logger.info("%s was cancelled", record.label)
        return stopped

    async def _cancel_locked(self, record: Record) -> Record:
        """Cancel a job while another process holds the lock of the records.

        That process may be the supervisor process of this job, which was stopped while it wrote. If
        it is, it is killed, which releases the lock.
        """
        if record.status != "running":
            return await self._cancel_noted(record, await self._request_stop(record))
        await self._stopper.end_work(record)
        try:
            if not (await self._state.now(record)).has_ended:
                await self._stopper.end_stuck(record)
            now = await self._state.now(record)
            if not now.has_ended:
                return await self._cancel_noted(record, await self._request_stop(record))
        except StorageLockedError as error:
            if await self._stopper.works(record):
                raise
            raise StorageLockedError(
                f"{error}; the processes of {record.uuid} have been ended, and its record will "
                "show that as soon as it can be changed"
            ) from error
        self._scheduler.note(now)
        logger.info("%s was cancelled", record.label)
        return now

    async def _end_running(self, record: Record) -> Record:
        """Stop all processes of a running job and return its record.

        Its supervisor process writes how it ended, unless that was killed.
        """
        await self._stopper.stop(record)
        now = await self._state.now(record)
        if not now.has_ended:
            await self._stopper.find_dead(now, UNSEEN)
            now = await self._state.now(record)
        return now

    async def _cancel_unwritten(self, record: Record, error: StorageError) -> Record:
        """Cancel a job whose record cannot be changed now.

        First, stop its processes: its supervisor process may then be able to write the end. If not,
        a second cancel removes its files, which makes room, and then the record.
        """
        had_ended = not await self._stopper.works(record)
        await self._stopper.end_work(record)
        now = await self._state.now(record)
        if now.has_ended and not record.has_ended:
            self._scheduler.note(now)
            logger.info("%s was cancelled", record.label)
            return now
        if not (had_ended and isinstance(error, DiskFullError)):
            raise type(error)(
                f"{error}; its processes have been ended: delete it once more to remove it with "
                "its files"
            ) from error
        await asyncio.to_thread(self._state.place(record.uuid).clear)
        stopped = await self._state.do(self._state.store.stop, record.uuid, CANCELLED)
        record = stopped or await self._state.now(record)
        await self._stopper.stop(record)
        if not (await self._state.now(record)).has_ended:
            await self._stopper.find_dead(record, UNSEEN)
        return await self._remove(record)

    async def _remove(self, record: Record) -> Record:
        record = await self._state.now(record)
        await self._stopper.stop(record)
        self._scheduler.drop(record.uuid)
        await self.forget(record.uuid)
        return record

    async def forget(self, uuid: str) -> None:
        """Remove the files and the record of a job that has ended or was never accepted."""

        def forget() -> None:
            record = self._state.store.get(uuid)
            if record is None or record.has_ended or record.status == "incoming":
                # The files first: that may make room on a full disk for the write.
                shutil.rmtree(self._state.place(uuid).directory, ignore_errors=True)
                self._state.store.remove(uuid)

        await self._state.do(forget)
