"""The trainings and asynchronous predictions of one server: which wait and which run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from deepaas.exceptions import DiskFullError, RequestError, StorageError, StorageLockedError
from deepaas.jobs.backoff import Backoff
from deepaas.jobs.database import LOCK_SECONDS
from deepaas.jobs.identity import server_lives
from deepaas.jobs.loaded_weights import Stage, Weights
from deepaas.jobs.model_logs import ModelLogs
from deepaas.jobs.spec import JobLimits, JobSpec
from deepaas.jobs.state import State
from deepaas.jobs.stopper import JobStopper
from deepaas.jobs.store import Ending, Record, Store
from deepaas.jobs.supervisor_handle import SupervisorHandle
from deepaas.model.loading import ModelSource

logger = logging.getLogger("deepaas.training")

UNSEEN = "it ended while no server and no supervisor process was running; the cause is unknown"

NOT_RENEWED = "this server does not reload models after trainings (--noreload-after-train)"


@dataclass(frozen=True)
class TrainingOptions:
    """How trainings and asynchronous predictions are run. Times in seconds; 0 means no limit.

    By kind ("train" and "predict"): how many may run at once, wait, and be received at once (0: as
    many as may run and wait); whether the model is warmed first; how long a record is kept.
    `reserve` is in bytes.
    """

    at_once: Mapping[str, int] = field(default_factory=lambda: {"train": 1, "predict": 1})
    max_queued: Mapping[str, int] = field(default_factory=lambda: {"train": 100, "predict": 100})
    max_incoming: Mapping[str, int] = field(default_factory=lambda: {"train": 0, "predict": 0})
    warm: Mapping[str, bool] = field(default_factory=lambda: {"train": True, "predict": True})
    kept: Mapping[str, float] = field(default_factory=lambda: {"train": 0, "predict": 86400})
    sweep_seconds: float = 60
    reserve: int = 1024 * 1024
    lock_timeout: float = LOCK_SECONDS
    keep_running: bool = False
    exclusive: bool = False
    renew: bool = True
    log: Mapping[str, object] = field(default_factory=dict)
    open_files: int = 0
    limits: JobLimits = field(default_factory=JobLimits)
    variables: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # by model


class JobScheduler:
    """Starts waiting jobs in order, follows running jobs and handles their ends.

    `records` holds the jobs that have not ended or that have leftover processes.
    """

    def __init__(
        self,
        state: State,
        options: TrainingOptions,
        sources: Mapping[str, ModelSource],
        stage: Stage,
    ) -> None:
        self.records: dict[str, Record] = {}
        self.stopping = False
        self._state = state
        self._options = options
        self._sources = sources
        self._stage = stage
        self._supervisors: dict[str, SupervisorHandle] = {}
        self.stopper = JobStopper(state, self._supervisors, options.limits.cancel_timeout)
        self._launching: set[str] = set()
        self._backoffs: dict[str, Backoff] = {}  # of records that cannot be written
        self._exited: set[str] = set()  # their end has been handled; leftovers may run
        self._cleared: set[str] = set()  # models without workers, for exclusive trainings
        self._weights = Weights(state, stage)
        self._model_logs = ModelLogs(state.place)
        self._version = -1
        self._tasks: set[asyncio.Task[None]] = set()

    # --- the interface

    def take(self, record: Record, supervisor: SupervisorHandle | None = None) -> None:
        """Schedule a record from now on. `supervisor` is given if it has a supervisor process
        already."""
        self.records[record.uuid] = record
        if supervisor is not None:
            self._supervisors[record.uuid] = supervisor
            self._model_logs.follow(record.uuid, from_end=True)

    def drop(self, uuid: str) -> None:
        """Forget a record."""
        self._model_logs.end(uuid)
        for known in (self.records, self._supervisors):
            known.pop(uuid, None)
        self._backoffs.pop(uuid, None)
        self._exited.discard(uuid)

    def serves(self, record: Record) -> bool:
        """Return whether a record is of a model served here, not of another of the same name."""
        source = self._sources.get(record.model)
        return source is not None and record.origin in ("", source.origin)

    def _model_id(self, record: Record) -> tuple[str, str]:
        """Return the model's name and its origin; the origin is empty for a model served here."""
        return record.model, "" if self.serves(record) else record.origin

    def has_room(self, kind: str, accepted: int) -> bool:
        """Return whether one more job may wait. `accepted` is how many jobs have been accepted and
        have not been passed to `take` yet."""
        waiting = sum(
            r.kind == kind and r.status == "queued" and not self._runs(r)  # not being started
            for r in self.records.values()
        )
        free = max(0, self._options.at_once[kind] - self._running(kind))
        return waiting + accepted < self._options.max_queued[kind] + free

    async def look_for_weights(self) -> None:
        """Note the trainings whose weights the workers have loaded."""
        await self._weights.look()

    async def expect_weights(self) -> None:
        """Watch for the weights of trainings that ended with a server that has exited."""
        for record in await self._state.read(lambda store: store.without_weights()):
            has_gone = record.owner == self._state.id or not server_lives(
                self._state.directory, record.owner
            )
            if has_gone and self.serves(record):
                self._weights.expect(record)

    async def clear_for_running(self) -> None:
        """End the workers of models whose exclusive trainings already run."""
        for record in list(self.records.values()):
            if record.uuid in self._supervisors and self._is_exclusive(record):
                await self._clear_for(record)

    async def step(self) -> None:
        """Handle the changes of all records and start waiting jobs.

        Raises the first StorageError after all records were handled.
        """
        self._model_logs.pass_on()
        await self._refresh()
        failures = []
        for uuid in list(self.records):
            backoff = self._backoffs.get(uuid)
            record = self.records.get(uuid)  # None if it was dropped meanwhile
            if record is None or (backoff and not backoff.is_due):
                continue
            try:
                await self._follow(record)
            except StorageLockedError:  # the others cannot be written either
                raise
            except StorageError as error:
                failures.append(error)
                self._backoffs.setdefault(uuid, Backoff()).fail()
        try:
            await self.dispatch()
        except StorageError as error:
            failures.append(error)
        self._restore_models()  # last: a training that has just started keeps its device
        if failures:
            raise failures[0]

    async def stop_all(self, keep: bool, hurry: Callable[[], bool]) -> None:
        """Stop running jobs unless `keep`; waiting jobs stay for the next server.

        The leftover processes of ended jobs are stopped in any case. Do not wait for the ends once
        `hurry` returns true.
        """
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await self._refresh()
        except StorageError as error:  # stop the known ones nevertheless
            logger.error("%s", error)
        records = [self.records[uuid] for uuid in self._supervisors if uuid in self.records]
        await self.stopper.stop_all((r for r in records if r.has_ended or not keep), hurry)

    def let_go(self) -> None:
        """Let running jobs continue when this process exits."""
        self._model_logs.end_all()
        for supervisor in self._supervisors.values():
            supervisor.disown()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in the background and log its errors."""
        task = asyncio.create_task(_run_logged(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def note(self, record: Record) -> None:
        """Store the new state of a record, and log its end."""
        before = self.records.get(record.uuid)
        if before is None:
            return
        self.records[record.uuid] = record
        if record.status == "running" and record.uuid not in self._supervisors:
            # An earlier server started it and was killed before the record showed that.
            self._supervisors[record.uuid] = SupervisorHandle(self._state.place(record.uuid))
            self._model_logs.follow(record.uuid, from_end=True)
        if record.has_ended and not before.has_ended:
            how = record.message and f": {record.message}"
            logger.info("%s is %s%s", record.label, record.status, how)

    # --- following

    async def _refresh(self) -> None:
        """Read the records that other processes have changed."""

        def read(store: Store) -> dict[str, Record | None]:
            version = store.version()
            if version == self._version:
                return {}
            found = {uuid: store.get(uuid) for uuid in list(self.records)}
            self._version = version
            return found

        for uuid, record in (await self._state.read(read)).items():
            if record is not None:
                self.note(record)
            elif uuid not in self._supervisors and uuid not in self._launching:
                self.drop(uuid)  # cancelled and removed by another server

    async def _follow(self, record: Record) -> None:
        supervisor = self._supervisors.get(record.uuid)
        if supervisor is None:
            if not record.has_ended or record.uuid in self._launching:
                return
            supervisor = SupervisorHandle(self._state.place(record.uuid))
        if not supervisor.lives:
            await self._supervisor_ended(record, supervisor)
            return
        self._supervisors[record.uuid] = supervisor
        if record.has_leftover_processes:
            self._on_child_exit(record)

    async def _supervisor_ended(self, record: Record, supervisor: SupervisorHandle) -> None:
        record = await self._state.now(record)
        if record.status == "queued":  # the server that had started it requeued it
            self._supervisors.pop(record.uuid, None)
            self.note(record)
            return
        if not record.has_ended or record.has_leftover_processes:
            why = supervisor.last_words()
            await self.stopper.find_dead(
                record, f"its supervisor process failed{why and ': '}{why}"
            )
            record = await self._state.now(record)
        else:
            await self.stopper.end_rest(record)
        self.note(record)
        self._on_child_exit(record)
        self.drop(record.uuid)

    def _on_child_exit(self, record: Record) -> None:
        """Handle the exit of a training's process, once."""
        if record.uuid in self._exited:
            return
        self._exited.add(record.uuid)
        if record.kind != "train" or record.status != "done" or not self.serves(record):
            return
        self._weights.expect(record)
        if record.model in self._cleared:
            return  # its workers start anew after the training
        if self._options.renew:
            self.begin(self._weights.renew(record))
        else:
            self.begin(self._weights.note_problem(record, NOT_RENEWED))

    # --- starting

    def _runs(self, record: Record) -> bool:
        """Return whether the job runs or is being started."""
        uuid = record.uuid
        return uuid in self._launching or (
            uuid in self._supervisors and not record.has_leftover_processes
        )

    def _running(self, kind: str, model: tuple[str, str] | None = None) -> int:
        """Return how many jobs of a kind run: of all models, or of one, given by name and
        origin."""
        return sum(
            record.kind == kind and model in (None, self._model_id(record)) and self._runs(record)
            for record in self.records.values()
        )

    async def dispatch(self) -> None:
        """Start waiting jobs in order, as far as the limits and the disk allow."""
        if self.stopping or not self._state.has_room:
            return
        waiting = [
            record
            for record in self.records.values()
            if record.status in ("queued", "starting") and not self._runs(record)
        ]
        # Predictions of these models wait, because an exclusive training of the model waits.
        held: set[tuple[str, str]] = set()
        trains = True
        for record in sorted(waiting, key=lambda record: record.number):
            if record.kind == "train":
                trains = trains and self._may_run(record)
                may_start = trains
                if not trains and self._options.exclusive:
                    held.add(self._model_id(record))
            else:
                may_start = self._model_id(record) not in held and self._may_run(record)
            if may_start and not self._runs(record):  # it may have been started meanwhile
                await self._start(record)

    def _may_run(self, record: Record) -> bool:
        """Return whether a job may run now. With `exclusive`, trainings and predictions never
        overlap."""
        if self._running(record.kind) >= self._options.at_once[record.kind]:
            return False
        other = "predict" if record.kind == "train" else "train"
        return not (self._options.exclusive and self._running(other, self._model_id(record)))

    async def _start(self, record: Record) -> None:
        self._launching.add(record.uuid)
        try:
            await self._state.look_for_room()
            if not self._state.has_room:
                self._launching.discard(record.uuid)
                return
            await self._state.do(self._state.store.start, record.uuid)
            self.note(await self._state.now(record))
        except BaseException:
            self._launching.discard(record.uuid)
            raise
        self.begin(self._launch(self.records.get(record.uuid, record)))

    async def _launch(self, record: Record) -> None:
        store = self._state.store
        try:
            if record.kind == "train":
                await self._end_leftovers(record)
                if self._is_exclusive(record):
                    await self._clear_for(record)
            current = await self._state.read(lambda store: store.get(record.uuid))
            if current is None:  # cancelled and removed meanwhile
                self.drop(record.uuid)
                return
            self.note(current)
            if current.status != "starting" or self.stopping:
                return
            supervisor = SupervisorHandle.start(self._state.directory, self._spec(record))
            self._supervisors[record.uuid] = supervisor
            self._model_logs.follow(record.uuid)
            logger.info("%s is started", record.label)
        except DiskFullError:
            self._state.has_room = False  # until the next check
            await self._state.do(store.requeue, record.uuid)
            self.note(await self._state.now(record))
        except StorageLockedError as error:  # it stays as it is, and is started again
            logger.error("%s could not be started yet: %s", record.label, error)
        except StorageError as error:
            logger.error("%s could not be started: %s", record.label, error)
            await self._state.do(store.finish, record.uuid, Ending("error", str(error)))
        finally:
            self._launching.discard(record.uuid)

    def _spec(self, record: Record) -> JobSpec:
        source = self._sources[record.model]
        return JobSpec(
            uuid=record.uuid,
            kind=record.kind,
            model=record.model,
            target=source.target,
            folder=source.folder,
            warm=self._options.warm[record.kind],
            log=self._options.log,
            open_files=self._options.open_files,
            limits=self._options.limits,
            variables=self._options.variables.get(record.model, {}),
            request_id=record.request_id,
        )

    async def _end_leftovers(self, next_one: Record) -> None:
        """Stop the leftover processes of earlier trainings of the model, such as a TensorBoard."""
        for record in list(self.records.values()):
            if self._model_id(record) == self._model_id(next_one) and record.has_leftover_processes:
                await self.stopper.stop(record)

    # --- exclusive trainings

    def _is_exclusive(self, record: Record) -> bool:
        return self._options.exclusive and record.kind == "train" and self.serves(record)

    async def _clear_for(self, record: Record) -> None:
        self._cleared.add(record.model)
        await self._stage.clear(record.model)

    def _restore_models(self) -> None:
        """Start the workers of models again that have no more exclusive trainings."""
        for model in list(self._cleared):
            if not self._running("train", (model, "")):
                self._cleared.discard(model)
                self.begin(self._stage.set(model))


async def _run_logged(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except (RequestError, OSError) as error:
        logger.error("%s", error)
    except Exception:
        logger.exception("A background task of the trainings failed")
