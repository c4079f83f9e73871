"""The worker processes of one model: starts, replaces, recycles and ends them."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol

from deepaas.events import Events, WorkerEnded, WorkerReady
from deepaas.model.loading import ModelSource
from deepaas.processes import kill_marked
from deepaas.protocol import messages
from deepaas.protocol.messages import WorkerPhase
from deepaas.serving.guard import MARK, Guard
from deepaas.serving.options import WorkerOptions
from deepaas.serving.worker_handle import EndReason, StartError, WorkerHandle
from deepaas.serving.worker_slot import WorkerSlot

logger = logging.getLogger("deepaas.serving")

OUTSIDE_SLOTS = -1
"""The index of a worker that is in no slot."""

MEMORY_CHECK_SECONDS = 1.0
MEGABYTE = 1024 * 1024


class SupervisorCallbacks(Protocol):
    """Callbacks about the workers, for the pool that they belong to."""

    def on_joined(self, worker: WorkerHandle) -> None:
        """Handle a worker that has become ready."""

    def on_left(self, worker: WorkerHandle, why: str) -> None:
        """Handle a worker that gets no more calls; it may still be working."""

    def on_ended(self, worker: WorkerHandle, ending: str) -> None:
        """Handle the end of a worker's process; its sockets can still be read."""

    def on_room(self, worker: WorkerHandle) -> None:
        """Handle a worker that may have room for more calls."""

    def on_not_started(self, error: StartError) -> None:
        """Handle a worker that could not be started."""

    def on_waiting(self, name: str, delay: float) -> None:
        """Handle the empty slot of the worker with this name; a new one starts after `delay`
        seconds."""


class WorkerSupervisor:
    """Keeps the workers of one model running. `ready` are those that take calls.

    Others listen to `events`, while `callbacks` are for the pool that the workers belong to.
    """

    def __init__(
        self,
        source: ModelSource,
        options: WorkerOptions,
        guard: Guard,
        callbacks: SupervisorCallbacks,
        events: Events,
        on_output: Callable[[bytes], None] | None = None,
    ) -> None:
        self.ready: list[WorkerHandle] = []
        self.workers: set[WorkerHandle] = set()  # those whose process has not ended
        self._source = source
        self._options = options
        self._guard = guard
        self._callbacks = callbacks
        self._events = events
        self._on_output = on_output
        self._numbers = itertools.count(1)
        self._slots = [self._new_slot(index) for index in range(options.workers)]
        self._replacing = asyncio.Lock()  # one at a time: a new worker needs memory too
        self._watching: list[asyncio.Task[None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = False
        self._suspended = False
        self._stopping = False

    @property
    def promising(self) -> bool:
        """Whether a worker is ready or is being started."""
        if self.ready:
            return True
        return not self._suspended and any(slot.promising for slot in self._slots)

    @property
    def has_settled(self) -> bool:
        """Whether each worker has been ready or has failed since its first start."""
        return self._started and all(slot.settled.is_set() for slot in self._slots)

    @property
    def phase(self) -> WorkerPhase:
        """The phase of the first of the workers that are not ready yet."""
        phases = {worker.index: worker.phase for worker in self.workers if not worker.end_reason}
        return phases[min(phases)] if phases else WorkerPhase.STARTING

    @property
    def retry_at(self) -> float:
        """When the next worker is started, on the loop's clock."""
        return min(slot.retry_at for slot in self._slots)

    # --- start and stop

    async def start(self) -> None:
        """Start the workers; return when each is ready or has failed once.

        If they are suspended, return at once and start none.
        """
        self._started = True
        if self._options.max_memory:
            self._watching.append(asyncio.create_task(self._watch_memory()))
        if not self._suspended:
            await self._fill_slots()

    async def _fill_slots(self) -> None:
        for slot in self._slots:
            slot.refill()
        await self._until_settled()

    async def _until_settled(self) -> None:
        await asyncio.gather(*(slot.settled.wait() for slot in self._slots))

    async def stop(self) -> None:
        """End the workers. Busy and loading ones are killed at once; idle ones get
        `stop_timeout`."""
        self._stopping = True
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*(slot.close() for slot in self._slots))
        for worker in list(self.workers):
            worker.end_reason = EndReason.STOPPED
            if worker.calls or worker.phase is not WorkerPhase.READY:
                worker.kill()
        await asyncio.gather(*(w.stop(self._options.stop_timeout) for w in list(self.workers)))
        await asyncio.gather(*self._watching, *self._tasks, return_exceptions=True)

    def suspend(self, why: str) -> set[WorkerHandle]:
        """Start no workers until `resume`, let the present ones finish and end, and return them.

        Workers that are not ready are killed at once. May be called repeatedly.
        """
        self._suspended = True
        for slot in self._slots:
            slot.empty()
        leaving = set(self.workers)
        for worker in leaving:
            if worker in self.ready:
                self.retire(worker, EndReason.SUSPENDED, why)
            elif not worker.end_reason:
                self.kill(worker, EndReason.SUSPENDED)
        return leaving

    async def until_gone(self, workers: Iterable[WorkerHandle]) -> None:
        """Wait until these workers have ended, with the processes that they have started."""
        exits = [worker.exited for worker in workers]
        if exits:
            await asyncio.wait(exits)
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    async def resume(self) -> None:
        """Start new workers after `suspend`; return when each is ready or has failed once."""
        begins = self._suspended and not self._stopping
        if begins:
            self._suspended = False
        if self._started:
            await (self._fill_slots() if begins else self._until_settled())

    async def replace_all(self) -> None:
        """Replace the workers one after another by new ones.

        Raises StartError if a new one does not become ready; the one it was to replace stays.
        """
        async with self._replacing:
            for slot in self._slots:
                await slot.replace()

    def recycle(self, worker: WorkerHandle, why: str) -> None:
        """Replace a worker that has reached a limit, once the new one is ready."""
        if worker.replacement_pending or self._stopping:
            return
        worker.replacement_pending = True
        self._watching = [task for task in self._watching if not task.done()]
        self._watching.append(asyncio.create_task(self._recycle(worker, why)))

    async def _recycle(self, worker: WorkerHandle, why: str) -> None:
        async with self._replacing:
            for slot in self._slots:
                if slot.worker is not worker:
                    continue
                logger.info("Worker %s (pid %d) %s and is replaced", worker.name, worker.pid, why)
                try:
                    await slot.replace()
                    return
                except StartError as error:
                    if worker.end_reason:
                        return
                    error.log(f"Worker {worker.name} stays, as the new one")
        await asyncio.sleep(self._options.restart_delay_max)
        worker.replacement_pending = False

    def retire(self, worker: WorkerHandle, reason: EndReason, why: str = "") -> None:
        """Let a worker finish the calls that it has begun, then end it; another takes its slot.

        `why` is a more specific reason for the events than `reason`.
        """
        worker.end_reason = reason
        self._take_out(worker, why or str(reason))
        self.end_if_idle(worker)
        for slot in self._slots:
            slot.release(worker)

    def end_if_idle(self, worker: WorkerHandle) -> None:
        """End a retired worker if it has no more calls."""
        if not worker.calls and worker.phase is WorkerPhase.READY:
            self._run_in_background(worker.stop(self._options.stop_timeout))

    def kill(self, worker: WorkerHandle, reason: EndReason) -> None:
        """Kill a worker on purpose; another takes its slot."""
        worker.end_reason = reason
        self._take_out(worker, str(reason))
        worker.kill()

    def kill_all(self) -> None:
        """Kill all workers."""
        for worker in list(self.workers):
            self.kill(worker, EndReason.STOPPED)

    def _take_out(self, worker: WorkerHandle, why: str) -> None:
        if worker in self.ready:
            self.ready.remove(worker)
            self._callbacks.on_left(worker, why)

    # --- one worker

    def _new_slot(self, index: int) -> WorkerSlot:
        name = f"{self._source.name}[{index}]"
        return WorkerSlot(
            name,
            start=lambda: self._new_worker(index),
            seated=self._admit,
            vacated=lambda worker: self.retire(worker, EndReason.REPLACED),
            failed=self._callbacks.on_not_started,
            waiting=lambda delay: self._callbacks.on_waiting(name, delay),
            start_timeout=self._options.start_timeout,
            restart_delay_max=self._options.restart_delay_max,
        )

    def _new_worker(self, index: int) -> WorkerHandle:
        if self._stopping:
            raise StartError("was not started, as the server stops")
        if self._suspended:
            raise StartError("was not started, as its model is suspended")
        worker = self._spawn(
            index,
            self._options.warm,
            self._callbacks.on_room,
            lambda worker: self._take_out(worker, "has closed its connections"),
        )
        self.workers.add(worker)
        worker.exited.add_done_callback(lambda _: self._on_exit(worker))
        return worker

    def new_validation_worker(self, on_ended: Callable[[WorkerHandle, str], None]) -> WorkerHandle:
        """Start an extra worker, in no slot and not warmed, for checks only.

        When its process has ended, `on_ended` is called with the worker and a description of the
        end; its sockets can still be read then.
        """
        worker = self._spawn(OUTSIDE_SLOTS, False, lambda _: None, lambda _: None)

        def on_exit(exited: asyncio.Future[str]) -> None:
            on_ended(worker, exited.result())
            self._reap(worker)

        worker.exited.add_done_callback(on_exit)
        return worker

    def _spawn(
        self,
        index: int,
        warm: bool,
        on_room: Callable[[WorkerHandle], None],
        on_disconnected: Callable[[WorkerHandle], None],
    ) -> WorkerHandle:
        start = messages.Start(
            name=self._source.name,
            target=self._source.target,
            folder=self._source.folder,
            index=index,
            warm=warm,
            log=self._options.log,
            options=vars(self._options.calls),
            open_files=self._options.open_files,
            result_dir=self._options.result_dir,
            variables=self._options.variables,
        )
        mark = f"{self._guard.token}/{self._source.name}/{next(self._numbers)}/"
        worker = WorkerHandle(
            start,
            mark,
            on_room,
            on_disconnected,
            self._on_output,
            batch_run=self._events.batch_run,
        )
        self._guard.add(worker.pid)
        return worker

    def _admit(self, worker: WorkerHandle) -> None:
        if self._options.max_memory:
            worker.size_at_start = worker.size()
            if worker.size_at_start > self._options.max_memory * MEGABYTE:
                logger.warning(
                    "Worker %s needs %d MB before its first call, more than it may have",
                    worker.name,
                    worker.size_at_start // MEGABYTE,
                )
        self.ready.append(worker)
        worker.has_joined = True
        if self._events.worker_ready.listeners:
            self._events.worker_ready.report(
                WorkerReady(self._source.name, worker.name, worker.pid, worker.seconds_to_ready)
            )
        self._callbacks.on_joined(worker)

    def _on_exit(self, worker: WorkerHandle) -> None:
        self.workers.discard(worker)
        if worker in self.ready:
            self.ready.remove(worker)
        ending = worker.exited.result()
        self._callbacks.on_ended(worker, ending)
        self._reap(worker)
        if self._events.worker_ended.listeners:
            self._events.worker_ended.report(
                WorkerEnded(self._source.name, worker.name, worker.pid, _cause(worker), ending)
            )
        if not self._stopping:
            for slot in self._slots:
                slot.lost(worker)

    def _reap(self, worker: WorkerHandle) -> None:
        """Close a worker's descriptors, and log its end unless that was on purpose."""
        if not worker.end_reason and worker.seconds_to_ready:
            ending = worker.exited.result()
            logger.error("Worker %s (pid %d) %s", worker.name, worker.pid, ending)
        worker.close()
        self._run_in_background(self._clean_up_after(worker))

    async def _clean_up_after(self, worker: WorkerHandle) -> None:
        """Kill the processes that a worker has left running."""
        await asyncio.to_thread(kill_marked, f"{MARK}={worker.mark}")
        self._guard.remove(worker.pid)

    async def _watch_memory(self) -> None:
        limit = self._options.max_memory * MEGABYTE
        while True:
            await asyncio.sleep(MEMORY_CHECK_SECONDS)
            for worker in list(self.ready):
                size = worker.size()
                if size > limit >= worker.size_at_start:
                    self.recycle(worker, f"has {size // MEGABYTE} MB of memory")

    def _run_in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _cause(worker: WorkerHandle) -> str:
    """Return why a worker has ended, for `WorkerEnded`."""
    if worker.end_reason is not None:
        return worker.end_reason.name.lower()
    return "died" if worker.has_joined else "not_ready"
