"""A worker process that takes no predictions: it validates arguments when no other is free to."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
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
from deepaas.serving.prediction import Check, Prediction
from deepaas.serving.worker_handle import EndReason, StartError, WorkerHandle
from deepaas.serving.worker_slot import launch

logger = logging.getLogger("deepaas.serving")

IDLE_SECONDS = 10.0
"""How long the process stays when it has nothing to do."""

CHECK_SECONDS = 3600.0
"""How long a check may take where the start of a worker has no limit."""

MAX_CHECKS = 1000
LEAVE_SECONDS = 1.0
"""How long a check goes on that nobody waits for any more."""


class ValidationWorker:
    """Checks calls one after another, in a process that is there as long as there are any.

    `hire` starts it; it is given what is to be told when the process has ended, and how.
    """

    def __init__(
        self,
        name: str,
        hire: Callable[[Callable[[WorkerHandle, str], None]], WorkerHandle],
        options: WorkerOptions,
        spill_dir: str,
    ) -> None:
        self._name = name
        self._hire = hire
        self._options = options
        self._spill_dir = spill_dir
        self._loop = asyncio.get_running_loop()
        self._ids = itertools.count(1)
        self._queue: deque[Check] = deque()
        self._curious: list[asyncio.Future[dict[str, Any]]] = []  # who waits for the description
        self._worker: WorkerHandle | None = None  # as long as its process lives; it may be starting
        self._tried: Check | None = None  # the one whose worker ended before it was begun
        self._outdated = False
        self._closed = False
        self._news = asyncio.Event()
        self._is_free = asyncio.Event()
        self._working: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<ValidationWorker of {self._name}: {self._worker}, {len(self._queue)} checks wait>"

    async def check(self, call: Call) -> Reply:
        """The reply to a call whose arguments are to be validated.

        Raises NotReadyError if the process cannot be started or too many checks wait,
        PredictTimeoutError if it takes too long, WorkerDiedError if the process ends meanwhile,
        StoppingError once the clerk is closed.
        """
        self._refuse_if_closed()
        if len(self._queue) >= MAX_CHECKS:
            raise QueueFullError(f"{MAX_CHECKS} requests wait for model {self._name} to be checked")
        check = self._new_check(call)
        self._queue.append(check)
        self._attend()
        with check:
            return await check.reply()

    async def describe(self) -> dict[str, Any]:
        """What the model says of itself. Raises NotReadyError and StoppingError."""
        self._refuse_if_closed()
        told = self._loop.create_future()
        self._curious.append(told)
        self._attend()
        description: dict[str, Any] = await told
        return description

    def renew(self) -> None:
        """Use a newly loaded model from the next check on."""
        self._outdated = self._worker is not None
        self._news.set()

    def kill(self) -> None:
        """End the process at once, and take no more checks."""
        self._closed = True
        self._refuse(StoppingError(f"The server stopped before model {self._name} had answered"))
        if self._worker is not None:
            self._end(self._worker, EndReason.STOPPED)

    async def close(self) -> None:
        """The same, and wait until the process has ended."""
        self.kill()
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait([self._working])

    # --- checks

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise StoppingError("The server is about to stop")

    def _new_check(self, call: Call) -> Check:
        check = Check()
        check.id = next(self._ids) & 0xFFFFFFFF
        check.packet = messages.encode_call(check.id, messages.encode_meta(call), call.body)
        check.leave = self._leave
        if len(check.packet) > messages.MAX_PACKET:
            check.packet, path = messages.spill(check.id, check.packet, self._spill_dir)
            check.on_end.append(lambda: _unlink(path))
        return check

    def _leave(self, prediction: Prediction) -> None:
        """Nobody waits for this check any more."""
        prediction.abandoned = True
        worker = prediction.worker
        if worker is None:
            self._queue = deque(check for check in self._queue if check is not prediction)
            prediction.end()
        else:
            if prediction.timer is not None:
                prediction.timer.cancel()
            prediction.timer = self._loop.call_later(
                LEAVE_SECONDS, self._end, worker, EndReason.ABANDONED
            )

    def _refuse(self, error: RequestError) -> None:
        """Refuse all that waits, and what is being checked."""
        under_way = list(self._worker.calls.values()) if self._worker is not None else []
        for check in [*self._queue, *under_way]:
            check.fail(error)
        for check in self._queue:
            check.end()
        self._queue.clear()
        for told in self._curious:
            if not told.done():
                told.set_exception(error)
        self._curious.clear()

    # --- the process

    def _attend(self) -> None:
        """See to it that somebody looks at what waits."""
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work(), name=f"{self._name}[clerk]")
        self._news.set()

    async def _work(self) -> None:
        try:
            while self._queue or self._curious:
                await self._work_until_idle()
                await self._dismiss()
        finally:
            await self._dismiss(0)
            self._refuse(NotReadyError(f"Model {self._name} validates no arguments now"))

    async def _work_until_idle(self) -> None:
        while True:
            self._news.clear()
            if self._outdated:
                await self._dismiss()
            elif self._queue or self._curious:
                await self._work_on_next()
            elif not await self._hears_within(IDLE_SECONDS):
                return

    async def _hears_within(self, seconds: float) -> bool:
        """Whether there is something to do before that time is over."""
        timer = self._loop.call_later(seconds, self._news.set)
        try:
            await self._news.wait()
        finally:
            timer.cancel()
        return bool(self._queue or self._curious or self._outdated)

    async def _work_on_next(self) -> None:
        try:
            worker = await self._present()
        except StartError as error:
            if self._closed:
                return
            error.log(f"Worker {self._name}[clerk]")
            self._refuse(NotReadyError(f"Model {self._name} {error}"))
            return
        for told in self._curious:
            if not told.done():
                told.set_result(worker.description)
        self._curious.clear()
        if self._outdated or not self._queue:
            return
        check = self._queue.popleft()
        self._is_free.clear()
        check.on_end.append(self._is_free.set)
        limit = self._options.start_timeout or CHECK_SECONDS
        check.timer = self._loop.call_later(limit, self._takes_too_long, worker, check, limit)
        if not worker.hand_over(check):  # its socket is empty, as it has one check at a time
            check.fail(WorkerDiedError(f"A worker of model {self._name} takes no more checks"))
            check.end()
            self._end(worker, EndReason.FULL)
        await self._is_free.wait()

    async def _present(self) -> WorkerHandle:
        """The worker, when it is ready. Raises StartError."""
        worker = self._worker
        if worker is None or worker.exited.done() or worker.phase is not WorkerPhase.READY:
            await self._dismiss(0)
            worker = await launch(self._start, self._options.start_timeout)
        return worker

    def _start(self) -> WorkerHandle:
        if self._closed:
            raise StartError("was not started, as its model is being stopped")
        self._outdated = False
        self._worker = self._hire(self._on_ended)
        return self._worker

    def _takes_too_long(self, worker: WorkerHandle, check: Check, limit: float) -> None:
        check.fail(PredictTimeoutError(f"The arguments were not validated in {limit:g} s"))
        self._end(worker, EndReason.TOO_SLOW)

    def _end(self, worker: WorkerHandle, reason: EndReason) -> None:
        worker.end_reason = reason
        worker.kill()

    async def _dismiss(self, timeout: float | None = None) -> None:
        """Let the process end, within that many seconds; return when it has."""
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
        """The process has ended, and with it what it was checking."""
        if worker is self._worker:
            self._worker = None
        ended: list[Prediction] = []
        for check in worker.reclaim(len(worker.calls)):
            if check is self._tried or check.abandoned or self._closed:
                ended.append(check)
            else:
                self._try_again(check)
        ended += worker.calls.values()
        worker.calls.clear()
        error = f"The worker of model {self._name} {ending} while it validated these arguments"
        for check in ended:
            check.fail(WorkerDiedError(error))
            check.end()

    def _try_again(self, check: Prediction) -> None:
        """Give a check that has not been begun to the next worker, once."""
        assert isinstance(check, Check)
        self._tried = check
        if check.timer is not None:
            check.timer.cancel()
        check.on_end.remove(self._is_free.set)
        self._queue.appendleft(check)
        self._is_free.set()


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
