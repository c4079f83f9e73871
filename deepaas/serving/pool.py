"""The workers of one model: hands them calls, replaces those that die."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from deepaas.exceptions import NotReadyError, WorkerDiedError
from deepaas.model.loading import ModelSource
from deepaas.model.v2.exchange import Call, Reply
from deepaas.serving import messages
from deepaas.serving.guard import Guard, kill_marked
from deepaas.serving.worker import Pending, StartError, Worker

logger = logging.getLogger("deepaas.serving")

DEPTH = 16
"""Calls in a worker's socket at the most. What it has not begun can be taken back at any time."""


@dataclass(frozen=True)
class PoolOptions:
    """How a model's workers are run. Times in seconds."""

    workers: int = 1
    warm: bool = True
    upload_dir: str = ""
    restart_delay_max: float = 60
    stop_timeout: float = 5
    log: dict[str, object] = field(default_factory=dict)


class Pool:
    """The workers of one model.

    `description` is what the model says of itself, once a worker has been ready; `problem` is why
    it cannot answer at present, or an empty string.
    """

    def __init__(
        self,
        source: ModelSource,
        options: PoolOptions,
        guard: Guard,
        on_output: Callable[[bytes], None] | None = None,
    ) -> None:
        self.name = source.name
        self.source = source
        self.options = options
        self.description: dict[str, Any] = {}
        self.headers: list[str] = []  # those that the model's arguments come from
        self.problem = "is starting"
        self.seconds_to_ready = 0.0
        self._guard = guard
        self._on_output = on_output
        self._ids = itertools.count(1)
        self._queue: deque[Pending] = deque()
        self._ready: list[Worker] = []
        self._starting: set[Worker] = set()
        self._retry_at = 0.0
        self._slots: list[asyncio.Task[None]] = []
        self._cleaning: set[asyncio.Task[None]] = set()
        self._settled: list[asyncio.Event] = []
        self._stopping = False

    def __repr__(self) -> str:
        return (
            f"<Pool {self.name}: {len(self._ready)} of {self.options.workers} workers ready, "
            f"{len(self._queue)} calls waiting>"
        )

    @property
    def ready(self) -> bool:
        """Whether a worker could take a call now."""
        return bool(self._ready) and not self._stopping

    @property
    def pids(self) -> list[int]:
        """The processes of the workers that are ready."""
        return [worker.pid for worker in self._ready]

    async def start(self) -> None:
        """Start the workers; return when each is ready, or has failed once."""
        self._settled = [asyncio.Event() for _ in range(self.options.workers)]
        self._slots = [
            asyncio.create_task(self._keep(index), name=f"{self.name}[{index}]")
            for index in range(self.options.workers)
        ]
        await asyncio.gather(*(settled.wait() for settled in self._settled))

    async def stop(self) -> None:
        """End the workers: they finish what they were handed, within the time there is for it."""
        self._stopping = True
        for worker in self._starting:
            worker.kill()
        timeout = self.options.stop_timeout
        await asyncio.gather(*(worker.stop(timeout) for worker in self._ready))
        for slot in self._slots:
            slot.cancel()
        await asyncio.gather(*self._slots, return_exceptions=True)
        await asyncio.gather(*self._cleaning)
        self._refuse_waiting(NotReadyError(f"Model {self.name} is being stopped"))

    async def predict(self, call: Call) -> Reply:
        """Give `call` to a worker and wait for its reply.

        Raises NotReadyError if no worker is there or about to be, and WorkerDiedError if the worker
        ended while it worked on this call.
        """
        if self._stopping or not (self._ready or self._starting):
            raise self._not_ready()
        call_id = next(self._ids) & 0xFFFFFFFF
        packet = messages.encode_call(call_id, call)
        spilled = ""
        if len(packet) > messages.MAX_PACKET:
            spilled = self._spill(packet)
            packet = messages.call_in_file(call_id, spilled)
        pending = Pending(call_id, packet, asyncio.get_running_loop().create_future())
        if self._queue or not self._hand_over(pending):
            self._queue.append(pending)
        try:
            return await pending.future
        finally:
            if spilled:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(spilled)

    def _spill(self, packet: bytes) -> str:
        fd, path = tempfile.mkstemp(dir=self.options.upload_dir or None)
        with open(fd, "wb") as file:
            file.write(packet)
        return path

    def _not_ready(self) -> NotReadyError:
        wait = max(0.0, self._retry_at - time.monotonic())
        return NotReadyError(f"Model {self.name} {self.problem or 'has no worker'}", wait)

    def _hand_over(self, pending: Pending) -> bool:
        """Give a call to the worker with the least to do; False if none can take it now."""
        if len(self._ready) == 1:
            worker = self._ready[0]
        elif self._ready:
            worker = min(self._ready, key=_load)
        else:
            return False
        return len(worker.calls) < DEPTH and worker.hand_over(pending)

    def _on_reply(self, worker: Worker) -> None:
        self._pump()
        if not worker.calls and len(self._ready) > 1:
            self._relieve_for(worker)

    def _pump(self) -> None:
        while self._queue and not self._stopping:
            first = self._queue[0]
            caller_has_gone = first.future.done()
            if not caller_has_gone and not self._hand_over(first):
                return
            self._queue.popleft()

    def _relieve_for(self, idle: Worker) -> None:
        """Give an idle worker half of what the busiest one has not begun."""
        busiest = max(self._ready, key=_load)
        waiting = len(busiest.calls) - 1
        if waiting < 1 or busiest is idle:
            return
        for pending in busiest.take_back((waiting + 1) // 2):
            if not idle.hand_over(pending):
                self._queue.append(pending)

    async def _keep(self, index: int) -> None:
        """Keep one worker running: start it, and its successor when it has died."""
        failures = 0
        while not self._stopping:
            try:
                worker = self._new_worker(index)
            except OSError as error:
                failures = max(1, failures) + 1
                self._not_started(index, f"could not be started: {error}")
                await self._back_off(failures)
                continue
            try:
                failures = await self._live(worker, index, failures)
            finally:
                if not worker.exited.done():
                    worker.kill()
                    await asyncio.shield(worker.exited)
                self._forget(worker)
                worker.close()
                self._clean_up_after(worker)
            if not self._stopping and failures > 1:
                await self._back_off(failures)

    def _clean_up_after(self, worker: Worker) -> None:
        """End what the worker has left running, beside the start of its successor."""

        async def clean_up() -> None:
            await asyncio.to_thread(kill_marked, worker.mark)
            self._guard.remove(worker.pid)

        task = asyncio.create_task(clean_up())
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)

    def _new_worker(self, index: int) -> Worker:
        start = messages.Start(
            name=self.name,
            target=self.source.target,
            folder=self.source.folder,
            index=index,
            warm=self.options.warm,
            log=self.options.log,
        )
        mark = f"{self._guard.token}/{self.name}/{next(self._ids)}/"
        worker = Worker(start, mark, self._on_reply, self._on_output)
        self._guard.add(worker.pid)
        self._starting.add(worker)
        return worker

    async def _live(self, worker: Worker, index: int, failures: int) -> int:
        """See a worker through its life; return how many in a row have now died without use."""
        try:
            ready = await worker.ready()
        except StartError as error:
            self._starting.discard(worker)
            self._not_started(index, str(error))
            await asyncio.shield(worker.exited)
            return max(1, failures) + 1  # it will hardly get better at once
        self._starting.discard(worker)
        self.description = ready.description
        self.headers = ready.description["predict"]["headers"]
        self.problem = ""
        self.seconds_to_ready = worker.seconds_to_ready
        self._ready.append(worker)
        self._settled[index].set()
        self._pump()
        seconds = worker.seconds_to_ready
        logger.debug("Worker %s (pid %d) ready in %.2f s", worker.name, worker.pid, seconds)
        ending = await asyncio.shield(worker.exited)
        if self._stopping:
            return 0
        logger.error("Worker %s (pid %d) %s", worker.name, worker.pid, ending)
        return 0 if worker.answered else failures + 1

    def _forget(self, worker: Worker) -> None:
        """Take a dead worker out: what it had begun has failed, the rest goes to another."""
        self._starting.discard(worker)
        if worker in self._ready:
            self._ready.remove(worker)
        not_begun = worker.take_back(len(worker.calls))
        ending = worker.exited.result()
        for pending in worker.calls.values():
            if not pending.future.done():
                message = f"The worker of model {self.name} {ending} during this prediction"
                pending.future.set_exception(WorkerDiedError(message))
        worker.calls.clear()
        self._queue.extendleft(reversed(not_begun))
        if not self._ready and not self.problem:
            self.problem = f"has lost its worker, which {ending}"
        self._pump()

    def _not_started(self, index: int, why: str) -> None:
        """Note that a worker did not become ready."""
        if not self._ready:
            self.problem = why
        logger.error("Worker %s[%d] %s", self.name, index, why)
        self._settled[index].set()

    async def _back_off(self, failures: int) -> None:
        delay = min(self.options.restart_delay_max, 0.5 * 2 ** (failures - 2))
        self._retry_at = time.monotonic() + delay
        logger.warning("A worker of model %s is started again in %g s", self.name, delay)
        if not self._ready and not self._starting:
            self._refuse_waiting(self._not_ready())
        await asyncio.sleep(delay)

    def _refuse_waiting(self, error: NotReadyError) -> None:
        while self._queue:
            pending = self._queue.popleft()
            if not pending.future.done():
                pending.future.set_exception(error)


def _load(worker: Worker) -> int:
    return len(worker.calls)
