"""A worker process that only validates arguments, when no other worker is free."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from deepaas.exceptions import (
    NotReadyError,
    PredictTimeoutError,
    QueueFullError,
    RequestError,
    StoppingError,
    WorkerDiedError,
)
from deepaas.model.v2.exchange import Call, Reply
from deepaas.protocol import messages
from deepaas.protocol.messages import WorkerPhase
from deepaas.serving.options import WorkerOptions
from deepaas.serving.prediction import Prediction, Validation
from deepaas.serving.worker_handle import EndReason, StartError, WorkerHandle
from deepaas.serving.worker_slot import launch

logger = logging.getLogger("deepaas.serving")

IDLE_SECONDS = 10.0
"""How long the process lives when it has nothing to do."""

MAX_VALIDATE_SECONDS = 3600.0
"""How long a validation may take if the start of a worker has no time limit."""

MAX_CHECKS = 1000
LEAVE_SECONDS = 1.0
"""How long a validation continues after its caller has left."""


class ValidationWorker:
    """Checks calls one after another, in a process that runs while there are any.

    `start_worker` starts the process. Its argument is called with the worker and a description of
    the end when the process has ended.
    """

    def __init__(
        self,
        name: str,
        start_worker: Callable[[Callable[[WorkerHandle, str], None]], WorkerHandle],
        options: WorkerOptions,
        spill_dir: str,
    ) -> None:
        self._name = name
        self._start_worker = start_worker
        self._options = options
        self._spill_dir = spill_dir
        self._loop = asyncio.get_running_loop()
        self._ids = itertools.count(1)
        self._queue: deque[Validation] = deque()
        self._description_waiters: list[asyncio.Future[dict[str, Any]]] = []
        self._worker: WorkerHandle | None = None  # while its process lives; it may be starting
        self._retried: Validation | None = None  # one whose worker ended before it began
        self._outdated = False
        self._closed = False
        self._wake = asyncio.Event()
        self._is_free = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        waiting = f"{len(self._queue)} validations wait"
        return f"<ValidationWorker of {self._name}: {self._worker}, {waiting}>"

    async def validate(self, call: Call) -> Reply:
        """Return the reply to a call whose arguments are to be validated.

        Raises NotReadyError if the process cannot be started or too many validations wait,
        PredictTimeoutError if it takes too long, WorkerDiedError if the process ends during the
        validation, and StoppingError after `close`.
        """
        self._refuse_if_closed()
        if len(self._queue) >= MAX_CHECKS:
            raise QueueFullError(f"{MAX_CHECKS} requests wait for model {self._name} to be checked")
        validation = self._new_validation(call)
        self._queue.append(validation)
        self._ensure_task()
        with validation:
            return await validation.reply()

    async def describe(self) -> dict[str, Any]:
        """Return the model's description. Raises NotReadyError and StoppingError."""
        self._refuse_if_closed()
        waiter = self._loop.create_future()
        self._description_waiters.append(waiter)
        self._ensure_task()
        description: dict[str, Any] = await waiter
        return description

    def renew(self) -> None:
        """Load the model anew for the next validation."""
        self._outdated = self._worker is not None
        self._wake.set()

    def kill(self) -> None:
        """Kill the process and refuse all validations."""
        self._closed = True
        self._refuse(StoppingError(f"The server stopped before model {self._name} had answered"))
        if self._worker is not None:
            self._end(self._worker, EndReason.STOPPED)

    async def close(self) -> None:
        """Do the same and wait until the process has ended."""
        self.kill()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    # --- validations

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise StoppingError("The server is about to stop")

    def _new_validation(self, call: Call) -> Validation:
        validation = Validation()
        call_id = next(self._ids) & 0xFFFFFFFF
        validation.pack(call_id, messages.encode_meta(call), call.body, self._spill_dir)
        validation.leave = self._leave
        return validation

    def _leave(self, prediction: Prediction) -> None:
        """Remove a validation from the queue, or kill its worker after LEAVE_SECONDS."""
        prediction.abandoned = True
        worker = prediction.worker
        if worker is None:
            self._queue = deque(
                validation for validation in self._queue if validation is not prediction
            )
            prediction.end()
        else:
            if prediction.timer is not None:
                prediction.timer.cancel()
            prediction.timer = self._loop.call_later(
                LEAVE_SECONDS, self._end, worker, EndReason.ABANDONED
            )

    def _refuse(self, error: RequestError) -> None:
        """Fail all waiting validations and the one in progress."""
        under_way = list(self._worker.calls.values()) if self._worker is not None else []
        for validation in [*self._queue, *under_way]:
            validation.fail(error)
        for validation in self._queue:
            validation.end()
        self._queue.clear()
        for waiter in self._description_waiters:
            if not waiter.done():
                waiter.set_exception(error)
        self._description_waiters.clear()

    # --- the process

    def _ensure_task(self) -> None:
        """Start or wake the task that handles the queue."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work(), name=f"{self._name}[validation]")
        self._wake.set()

    async def _work(self) -> None:
        try:
            while self._queue or self._description_waiters:
                await self._work_until_idle()
                await self._end_process()
        finally:
            await self._end_process(0)
            self._refuse(NotReadyError(f"Model {self._name} cannot validate arguments now"))

    async def _work_until_idle(self) -> None:
        while True:
            self._wake.clear()
            if self._outdated:
                await self._end_process()
            elif self._queue or self._description_waiters:
                await self._work_on_next()
            elif not await self._has_work_within(IDLE_SECONDS):
                return

    async def _has_work_within(self, seconds: float) -> bool:
        """Return whether there is work before that time is over."""
        timer = self._loop.call_later(seconds, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()
        return bool(self._queue or self._description_waiters or self._outdated)

    async def _work_on_next(self) -> None:
        try:
            worker = await self._ready_worker()
        except StartError as error:
            if self._closed:
                return
            error.log(f"Worker {self._name}[validation]")
            self._refuse(NotReadyError(f"Model {self._name} {error}"))
            return
        for waiter in self._description_waiters:
            if not waiter.done():
                waiter.set_result(worker.description)
        self._description_waiters.clear()
        if self._outdated or not self._queue:
            return
        validation = self._queue.popleft()
        self._is_free.clear()
        validation.on_end.append(self._is_free.set)
        limit = self._options.start_timeout or MAX_VALIDATE_SECONDS
        validation.timer = self._loop.call_later(
            limit, self._takes_too_long, worker, validation, limit
        )
        if not worker.hand_over(validation):  # unexpected: it has one validation at a time
            validation.fail(
                WorkerDiedError(f"A worker of model {self._name} takes no more validations")
            )
            validation.end()
            self._end(worker, EndReason.FULL)
        await self._is_free.wait()

    async def _ready_worker(self) -> WorkerHandle:
        """Return the worker when it is ready. Raises StartError."""
        worker = self._worker
        if worker is None or worker.exited.done() or worker.phase is not WorkerPhase.READY:
            await self._end_process(0)
            worker = await launch(self._start, self._options.start_timeout)
        return worker

    def _start(self) -> WorkerHandle:
        if self._closed:
            raise StartError("was not started, as its model is being stopped")
        self._outdated = False
        self._worker = self._start_worker(self._on_ended)
        return self._worker

    def _takes_too_long(self, worker: WorkerHandle, validation: Validation, limit: float) -> None:
        validation.fail(PredictTimeoutError(f"The arguments were not validated in {limit:g} s"))
        self._end(worker, EndReason.TOO_SLOW)

    def _end(self, worker: WorkerHandle, reason: EndReason) -> None:
        worker.end_reason = reason
        worker.kill()

    async def _end_process(self, timeout: float | None = None) -> None:
        """Let the process end within that many seconds; return when it has ended."""
        worker = self._worker
        self._outdated = False
        if worker is None:
            return
        if timeout is None:
            timeout = self._options.stop_timeout
        worker.end_reason = worker.end_reason or EndReason.IDLE
        if timeout:
            await worker.stop(timeout)
        else:
            worker.kill()
            await asyncio.shield(worker.exited)

    def _on_ended(self, worker: WorkerHandle, ending: str) -> None:
        """Fail the validation that ended with the process, or retry it."""
        if worker is self._worker:
            self._worker = None
        ended: list[Prediction] = []
        for validation in worker.reclaim(len(worker.calls)):
            if validation is self._retried or validation.abandoned or self._closed:
                ended.append(validation)
            else:
                self._retry(validation)
        ended += worker.calls.values()
        worker.calls.clear()
        error = f"The worker of model {self._name} {ending} while it validated these arguments"
        for validation in ended:
            validation.fail(WorkerDiedError(error))
            validation.end()

    def _retry(self, validation: Prediction) -> None:
        """Give a validation that has not begun to the next worker, once."""
        assert isinstance(validation, Validation)
        self._retried = validation
        if validation.timer is not None:
            validation.timer.cancel()
        validation.on_end.remove(self._is_free.set)
        self._queue.appendleft(validation)
        self._is_free.set()
