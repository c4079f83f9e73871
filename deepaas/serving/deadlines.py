"""Enforces the time limit of calls that a worker has begun."""

from __future__ import annotations

import asyncio
import logging

from deepaas.exceptions import PredictTimeoutError
from deepaas.model.v2.exchange import CallingKind
from deepaas.serving.worker_handle import EndReason, WorkerHandle
from deepaas.serving.worker_supervisor import WorkerSupervisor

logger = logging.getLogger("deepaas.serving")

GRACE = 1.0
"""Seconds that a cancelled call of an async model has to end before its worker is replaced."""


class DeadlineMonitor:
    """Ends calls that take longer than `limit` seconds."""

    def __init__(self, limit: float, supervisor: WorkerSupervisor) -> None:
        self._limit = limit
        self._supervisor = supervisor
        self._loop = asyncio.get_running_loop()

    def error(self) -> PredictTimeoutError:
        """Return the error for the caller."""
        return PredictTimeoutError(f"The prediction took longer than {self._limit:g} s")

    def watch(self, worker: WorkerHandle) -> None:
        """Kill a worker that takes too long for a call; check again when the next call can be
        due."""
        if worker.exited.done():
            return
        limit = self._limit
        now = self._loop.time()
        if worker.calling.kind is CallingKind.CONCURRENT:
            due = self._check_each(worker, now, limit)
        else:
            due = _begun_at(worker, now) + limit
            if due <= now:
                logger.error("Worker %s takes more than %g s and is killed", worker.name, limit)
                self._supervisor.kill(worker, EndReason.TOO_SLOW)
                return
        self._loop.call_at(max(due, now + 0.01), self.watch, worker)

    def _check_each(self, worker: WorkerHandle, now: float, limit: float) -> float:
        """Cancel the overdue calls of an async worker; return when the next call can be due.

        If cancelled calls do not end, the worker is replaced. It is killed when it has no other
        calls.
        """
        first = now
        overdue = 0
        for prediction in worker.calls.values():
            begun = now if prediction.reader_is_slow else prediction.since
            if begun + limit > now:
                first = min(first, begun)
                continue
            overdue += 1
            prediction.fail(self.error())
            worker.cancel(prediction)
            if begun + limit + GRACE <= now and not worker.end_reason:
                logger.error("Worker %s does not end a call after %g s", worker.name, limit)
                self._supervisor.retire(worker, EndReason.TOO_SLOW)
        if worker.end_reason and overdue and overdue == len(worker.calls):
            worker.kill()
        return min(first + limit, now + GRACE / 4) if overdue else first + limit


def _begun_at(worker: WorkerHandle, now: float) -> float:
    """Return when a worker began its current call.

    Return `now` if it has none, or if the call waits for a slow reader.
    """
    for first in worker.calls.values():
        return now if first.reader_is_slow else max(first.since, worker.progress)
    return now
