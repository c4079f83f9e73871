"""The trainings of a server for its HTTP interface: request, find, cancel and remove them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import shutil
import time
import uuid as uuids
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from deepaas.events import Events
from deepaas.exceptions import (
    DiskFullError,
    NotFoundError,
    QueueFullError,
    StoppingError,
    StorageError,
    StorageLockedError,
)
from deepaas.jobs.canceller import Canceller
from deepaas.jobs.changes import ChangeReporter, wait_until_set
from deepaas.jobs.identity import boot_id, server_lives
from deepaas.jobs.incoming import RETRY_AFTER, Body, Incoming, Places
from deepaas.jobs.loaded_weights import Stage
from deepaas.jobs.notices import Notice
from deepaas.jobs.scheduler import UNSEEN, JobScheduler, TrainingOptions
from deepaas.jobs.spec import JobDirectory
from deepaas.jobs.state import State
from deepaas.jobs.store import STATUSES, Record, Store
from deepaas.jobs.supervisor_handle import SupervisorHandle
from deepaas.model.loading import ModelSource
from deepaas.model.v2.exchange import Call
from deepaas.protocol.call_files import write_call, write_private

T = TypeVar("T")

logger = logging.getLogger("deepaas.training")

LOOK_SECONDS = 0.2
"""How often the store is checked for changes."""

ORPHANS_SECONDS = 5.0
"""How often to look for records of servers that have exited."""

COMPLAIN_SECONDS = 60.0
"""How often the same failure is logged."""

STOP_SECONDS = 2.0
"""How long a stopping server waits for the lock of the records."""

INCOMING_OPTIONS = {"train": "--max-incoming-trainings", "predict": "--max-incoming-jobs"}


class JobService:
    """Manages the trainings and asynchronous predictions of the models at `sources`.

    Their state is in `directory`. Every method may raise StorageError. The event `job_changed` of
    `events` is reported for each new status of a record for which this server is responsible.
    """

    def __init__(
        self,
        directory: Path,
        options: TrainingOptions,
        sources: Sequence[ModelSource],
        stage: Stage,
        events: Events | None = None,
    ) -> None:
        self._state = State(directory, options.reserve, options.lock_timeout)
        self._options = options
        self._sources = {source.name: source for source in sources}
        self._scheduler = JobScheduler(self._state, options, self._sources, stage)
        self._canceller = Canceller(self._state, self._scheduler)
        self._changes = ChangeReporter(self._state, (events or Events()).job_changed)
        self._has_changed = asyncio.Event()  # a change was made that is to be reported at once
        self._accepted = dict.fromkeys(options.at_once, 0)  # not yet known to the scheduler
        self._receiving = {
            kind: Places(
                options.max_incoming[kind] or options.max_queued[kind] + options.at_once[kind],
                INCOMING_OPTIONS[kind],
            )
            for kind in options.at_once
        }
        self._background: list[asyncio.Task[None]] = []
        self._logged_failures: dict[str, tuple[str, float]] = {}  # with times, by work

    def __repr__(self) -> str:
        return f"<JobService {self._state.directory}: {len(self._scheduler.records)} jobs>"

    # --- start and stop

    async def open(self) -> None:
        """Open the state directory and adopt the jobs of servers that have exited.

        If the disk is too full for that, or another process holds the lock of the records, it is
        done later.
        """
        try:
            await self._state.open()
            await self._resume_jobs()
        except DiskFullError as error:
            logger.warning("No new trainings are possible until there is room: %s", error)
        except StorageLockedError as error:
            logger.warning("The trainings in the state directory are opened later: %s", error)
        except BaseException:
            await self._state.close()
            raise
        await self._scheduler.clear_for_running()

    def begin(self) -> None:
        """Start waiting jobs from now on."""
        self._background = [asyncio.create_task(work) for work in (self._watch(), self._report())]

    async def close(
        self, keep: bool | None = None, hurry: Callable[[], bool] = lambda: False
    ) -> None:
        """Stop running jobs unless `keep`; waiting jobs stay for the next server."""
        self._scheduler.stopping = True
        self._state.lock_timeout = min(self._state.lock_timeout, STOP_SECONDS)
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        for places in self._receiving.values():
            places.close()
        if self._state.is_open:
            keep = self._options.keep_running if keep is None else keep
            try:
                await self._scheduler.stop_all(keep, hurry)
            except StorageError as error:
                logger.error("%s", error)
            with contextlib.suppress(StorageError):  # the next server reports them
                await self._changes.report()
        self._scheduler.let_go()
        await self._state.close()

    # --- requests

    @contextlib.asynccontextmanager
    async def receive(
        self,
        kind: str,
        model: str,
        body: Body,
        callback: str = "",
        principal: str | None = None,
        request_id: str = "",
    ) -> AsyncIterator[Incoming]:
        """Receive a request. If the block does not accept it, its record and files are removed.

        Raises QueueFullError if the queue is full, and StoppingError.
        """
        self._check_queue(kind)
        uuid = uuids.uuid4().hex
        incoming = Incoming(uuid, kind, self._state.place(uuid), body, principal, request_id)
        async with self._receiving[kind].take(incoming):
            self._check_queue(kind)  # the wait for a place may have been long
            try:
                await self._state.do(self._prepare, incoming, model, callback)
                yield incoming
            finally:
                if not incoming.accepted:
                    self._scheduler.begin(self._canceller.forget(uuid))

    def _check_queue(self, kind: str) -> None:
        """Raise the error of a request that cannot be queued now."""
        if self._scheduler.stopping:
            raise StoppingError("The server is about to stop")
        if not self._scheduler.has_room(kind, self._accepted[kind]):
            most = self._options.max_queued[kind]
            raise QueueFullError(f"The queue is full ({most} waiting)", RETRY_AFTER)

    def _prepare(self, incoming: Incoming, model: str, callback: str) -> None:
        store = self._state.store
        self._state.need_room()
        origin = self._sources[model].origin
        store.add(
            *(incoming.uuid, incoming.kind, model, self._state.id, callback, origin),
            principal=incoming.principal,
            request_id=incoming.request_id,
        )
        try:
            incoming.place.make()
        except OSError as error:
            raise StorageError(f"The job's directory cannot be created: {error}") from error

    async def accept(self, incoming: Incoming, call: Call, args: str, arguments: bytes) -> Record:
        """Queue a valid request and return its record.

        `args` are the arguments to show, as JSON. `arguments` are the pickled arguments of the
        function, or empty. Raises QueueFullError as `receive` does.
        """
        self._check_queue(incoming.kind)

        def write() -> Record | None:
            try:
                write_call(incoming.place.call, call)
                write_private(incoming.place.arguments, arguments)
            except OSError as error:
                raise StorageError(f"The request cannot be stored: {error}") from error
            return self._state.store.accept(incoming.uuid, args)

        async def write_and_schedule() -> Record:
            try:
                record = await self._state.do(write)
                if record is None:
                    raise StorageError(f"The record of {incoming.uuid} has vanished")
                incoming.accepted = True
                logger.info("%s is queued", record.label)
                self._scheduler.take(record)
                self._has_changed.set()
            finally:
                self._accepted[incoming.kind] -= 1
            await self._attempt("starting", self._scheduler.dispatch)
            return self._scheduler.records.get(record.uuid, record)

        # Shielded: once the record is in the store, it must be scheduled even if the client leaves.
        self._accepted[incoming.kind] += 1
        taking = asyncio.ensure_future(write_and_schedule())
        taking.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(taking)

    async def get(self, model: str, kind: str, uuid: str) -> Record:
        """Return a record. Raises NotFoundError if there is none of this model and kind."""
        record = await self._state.read(lambda store: store.get(uuid))
        if record is None or (record.model, record.kind) != (model, kind):
            raise NotFoundError(f"There is no {uuid}")
        if not self._scheduler.serves(record):  # of another model of this name
            raise NotFoundError(f"There is no {uuid}")
        if record.status == "incoming":
            raise NotFoundError(f"There is no {uuid}")
        return record

    async def find(
        self, model: str, kind: str, statuses: Sequence[str] = STATUSES, limit: int = -1
    ) -> list[Record]:
        """Return the newest `limit` records of a model, oldest first; -1 means all."""
        origin = self._sources[model].origin
        return await self._state.read(
            lambda store: store.find(kind, model, statuses, limit, origin)
        )

    def place(self, uuid: str) -> JobDirectory:
        """Return the directory of a record."""
        return self._state.place(uuid)

    async def cancel(self, record: Record) -> Record:
        """Cancel a job, or remove its record if it has ended; return the record."""
        try:
            return await self._canceller.cancel(record)
        finally:
            self._has_changed.set()

    def under_way(self, model: str) -> Mapping[tuple[str, str], int]:
        """Return how many jobs of a model have not ended, by kind and status."""
        records = self._scheduler.records.values()
        return Counter((r.kind, r.status) for r in records if r.model == model and not r.has_ended)

    # --- notices, for callbacks

    async def notices(self) -> list[Notice]:
        """Return the notices to send now, including those of servers that have exited."""

        store = self._state.store
        for owner in await self._state.read(lambda store: store.notice_owners()):
            if owner != self._state.id and not server_lives(self._state.directory, owner):
                with contextlib.suppress(StorageLockedError):  # the next call tries again
                    await self._state.do(store.adopt_notices, owner, self._state.id)
        return await self._state.read(lambda store: store.notices(self._state.id))

    async def noticed(self, notice: Notice) -> Record | None:
        """Return the record as it was when it changed; None if it has been removed."""
        return await self._state.read(lambda store: store.noticed(notice))

    async def count_attempt(self, notice: Notice) -> None:
        """Note that sending a notice has failed."""
        await self._state.do(self._state.store.count_attempt, notice.number)

    async def drop_notice(self, notice: Notice) -> None:
        """Remove a notice that was sent or given up."""
        await self._state.do(self._state.store.drop_notice, notice.number)

    # --- background work

    async def _watch(self) -> None:
        orphans = sweep = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= orphans:
                orphans = now + ORPHANS_SECONDS
                if self._state.is_open:
                    await self._attempt("looking for room", self._state.look_for_room)
                    await self._attempt("adopting", self._adopt)
                    await self._attempt("adopting changes", self._changes.adopt)
                else:
                    await self._attempt("opening", self._open_late)
            if self._state.is_open:
                await self._attempt("following", self._scheduler.step)
                await self._attempt("noting weights", self._scheduler.look_for_weights)
                if now >= sweep:
                    sweep = now + self._options.sweep_seconds
                    await self._attempt("sweeping", self._sweep)
            await asyncio.sleep(LOOK_SECONDS)

    async def _report(self) -> None:
        """Report changes: at once if this server has made them, and otherwise when they are
        found."""
        while True:
            if self._state.is_open:
                await self._attempt("reporting changes", self._changes.report)
            await wait_until_set(self._has_changed, LOOK_SECONDS)

    async def _attempt(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do work that is repeated soon. The same failure is logged once a minute."""
        try:
            await work()
        except StorageError as error:
            self._log_failure(what, str(error))
        except OSError as error:  # for example, too many open files
            self._log_failure(what, f"Background work of the trainings failed ({what}): {error}")
            await asyncio.sleep(1)
        except Exception:
            logger.exception("Background work of the trainings failed (%s)", what)
            await asyncio.sleep(1)

    def _log_failure(self, what: str, text: str) -> None:
        now = time.monotonic()
        is_known = any(
            text == before and now <= at + COMPLAIN_SECONDS
            for before, at in self._logged_failures.values()
        )
        if not is_known:
            self._logged_failures[what] = (text, now)
            logger.error("%s", text)

    async def _open_late(self) -> None:
        """Open a state directory for which there was no room before."""
        await self._state.open()
        logger.info("There is room for trainings now, in %s", self._state.directory)
        await self._resume_jobs()
        await self._scheduler.clear_for_running()

    async def _resume_jobs(self) -> None:
        """Adopt the jobs in the state directory, and report records of other models."""
        for source in self._sources.values():
            others = await self._state.read(
                functools.partial(Store.other_origins, model=source.name, origin=source.origin)
            )
            for origin, count in others.items():
                logger.info(
                    "%d record(s) of another model %s, %s, are not shown for %s",
                    *(count, source.name, origin, source.origin),
                )
        await self._scheduler.expect_weights()
        await self._adopt()

    async def _adopt(self) -> None:
        """Take over the jobs of servers that have exited."""

        def look(store: Store) -> list[Record]:
            unfinished = [r for r in store.unfinished() if r.owner != self._state.id]
            return [r for r in unfinished if not server_lives(self._state.directory, r.owner)]

        await _for_each(await self._state.read(look), self._adopt_one)

    async def _adopt_one(self, record: Record) -> None:
        supervisor = SupervisorHandle(self.place(record.uuid))
        lives = supervisor.lives
        if record.status in ("queued", "starting") and not self._scheduler.serves(record):
            return  # another server may have that model
        if record.has_ended and lives:  # its supervisor process notices that the server has exited
            return
        store = self._state.store
        if not await self._state.do(store.adopt, record.uuid, record.owner, self._state.id):
            return
        if record.status == "incoming":
            await self._canceller.forget(record.uuid)
        elif lives or record.status in ("queued", "starting"):
            logger.info("%s is adopted; it is %s", record.label, record.status)
            self._scheduler.take(record, supervisor if lives else None)
        else:
            await self._scheduler.stopper.find_dead(record, UNSEEN)

    async def _sweep(self) -> None:
        """Remove old records, refused requests, and directories without a record."""
        await _for_each(await self._state.do(self._expired), self._expire)
        await _for_each(await self._state.read(self._refused), self._canceller.forget)
        for path in await self._state.read(self._unknown_directories):
            await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)

    async def _expire(self, uuid: str) -> None:
        logger.info("The record of %s has expired and is removed", uuid)
        await self._canceller.forget(uuid)

    def _expired(self) -> list[str]:
        store = self._state.store
        now = store.note_ages(boot_id(), time.clock_gettime(time.CLOCK_BOOTTIME))
        found: list[Record] = []
        for kind, seconds in self._options.kept.items():
            if seconds:
                found += store.ended_for(kind, seconds, now)
        return [record.uuid for record in found if self._scheduler.serves(record)]

    def _refused(self, store: Store) -> list[str]:
        """Return requests of this server that were refused but could not be removed then."""
        return [
            record.uuid
            for record in store.unfinished()
            if record.status == "incoming"
            and record.owner == self._state.id
            and not any(record.uuid in places for places in self._receiving.values())
        ]

    def _unknown_directories(self, store: Store) -> list[Path]:
        # List them before reading the records: a new directory has a record already.
        directories = list((self._state.directory / "work").iterdir())
        return [path for path in directories if store.get(path.name) is None]


async def _for_each(things: Iterable[T], work: Callable[[T], Awaitable[None]]) -> None:
    """Await `work` for each thing; then raise the first StorageError.

    If the lock of the records is held, raise that error at once: the wait would be the same for
    each thing.
    """
    failures = []
    for thing in things:
        try:
            await work(thing)
        except StorageLockedError:  # noqa: PERF203
            raise
        except StorageError as error:
            failures.append(error)
    if failures:
        raise failures[0]
