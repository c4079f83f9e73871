"""The calls of one model: accepts them, gives them to workers, and handles their ends."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from collections import deque
from collections.abc import MutableSequence, Sequence

from deepaas.exceptions import (
    PredictTimeoutError,
    QueueFullError,
    RequestError,
    StoppingError,
    WorkerDiedError,
)
from deepaas.model.v2.exchange import Call, Calling, CallingKind
from deepaas.protocol import messages
from deepaas.serving.deadlines import DeadlineMonitor
from deepaas.serving.options import PoolOptions
from deepaas.serving.prediction import Awaited, Prediction
from deepaas.serving.status import ModelStatus
from deepaas.serving.worker_handle import EndReason, WorkerHandle
from deepaas.serving.worker_supervisor import WorkerSupervisor

logger = logging.getLogger("deepaas.serving")

MAX_RETRY_AFTER = 3600


class Dispatcher:
    """Gives the calls of one model to its workers."""

    def __init__(
        self, name: str, options: PoolOptions, supervisor: WorkerSupervisor, status: ModelStatus
    ) -> None:
        self._name = name
        self._options = options
        self._supervisor = supervisor
        self._status = status
        self._ready = supervisor.ready
        self._deadlines = DeadlineMonitor(options.predict_timeout, supervisor)
        self._ids = itertools.count(1)
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Prediction] = deque()
        self._open_calls = 0  # calls that have not ended
        self._bound_on_end = self._on_end  # bound once, not for each call
        self._last_answer = 0.0
        self._seconds_a_call = 0.0  # between two replies while others wait, on average
        self._calling = Calling(CallingKind.SEQUENTIAL)

    def __repr__(self) -> str:
        return f"<Dispatcher {self._name}: {self._open_calls} calls>"

    @property
    def calls(self) -> int:
        """The number of accepted calls that have not ended."""
        return self._open_calls

    @property
    def waiting(self) -> int:
        """The number of accepted calls that no worker has begun: it works on `at_once` calls, and
        the others are in its socket or in the queue."""
        workers = self._supervisor.workers
        begun = sum(min(len(worker.calls), worker.calling.at_once) for worker in workers)
        return max(0, self._open_calls - begun)

    def raise_if_unavailable(self) -> None:
        """Raise the RequestError with which a call would be refused now."""
        if self._status.is_draining:
            raise StoppingError("The server is about to stop")
        self._raise_if_full()

    def _raise_if_full(self) -> None:
        if not self._ready and not (self._status.was_ready.is_set() and self._supervisor.promising):
            raise self._status.not_ready()
        if self._open_calls < self._options.queue_size:  # nearly always
            return
        room = (
            self._options.queue_size + self._options.worker_options.workers * self._calling.at_once
        )
        if self._open_calls >= room:
            # Calls that a retired worker is finishing do not count.
            room += sum(
                len(worker.calls) for worker in self._supervisor.workers if worker.end_reason
            )
        if self._open_calls >= room:
            waiting = self._open_calls - room + self._options.queue_size
            wait = min(MAX_RETRY_AFTER, math.ceil(self._open_calls * self._seconds_a_call))
            message = f"{waiting} calls wait for model {self._name}; its queue is full"
            raise QueueFullError(message, wait)

    def predict(self, call: Call, deadline_seconds: float = 0) -> Awaited:
        """Submit a call and return its prediction, whose reply can be awaited. See `submit`."""
        prediction = Awaited()
        prediction.context = call.context.encode()
        self.submit(prediction, messages.encode_meta(call), call.body, deadline_seconds)
        return prediction

    def submit(
        self, prediction: Prediction, meta: bytes, body: bytes, deadline_seconds: float = 0
    ) -> None:
        """Accept a call. Its caller waits for `deadline_seconds` in all; 0 means no limit.

        Raises NotReadyError if no worker runs or is being started, and QueueFullError if too many
        calls wait. The prediction may fail with PredictTimeoutError, with WorkerDiedError if the
        worker ended during the call, or with NotReadyError if the call could not be begun.
        """
        if self._status.has_stopped:
            raise StoppingError("The server has stopped")
        self._raise_if_full()
        call_id = next(self._ids) & 0xFFFFFFFF
        prediction.pack(call_id, meta, body, self._options.spill_dir)
        prediction.leave = self._leave
        prediction.on_end.append(self._bound_on_end)
        self._open_calls += 1
        if deadline_seconds:
            prediction.deadline = self._loop.time() + deadline_seconds
        if deadline_seconds or self._options.predict_timeout:
            wait = min(filter(None, (deadline_seconds, self._options.predict_timeout)))
            prediction.timer = self._loop.call_later(wait, self._on_timeout, prediction)
        if self._queue or not self._hand_over(prediction):
            self._queue.append(prediction)

    def _on_end(self) -> None:
        self._open_calls -= 1

    def _hand_over(self, prediction: Prediction) -> bool:
        """Give a call to the worker with the fewest calls; return False if no worker can take it
        now."""
        if len(self._ready) == 1:
            worker = self._ready[0]
        elif self._ready:
            worker = min(self._ready, key=_load)
        else:
            return False
        return len(worker.calls) < worker.depth and worker.hand_over(prediction)

    def on_room(self, worker: WorkerHandle) -> None:
        """Give work to a worker that has answered or has room again; recycle or end it if that is
        due."""
        if worker.end_reason:
            self._supervisor.end_if_idle(worker)
            return
        if self._queue:
            self._learn_pace(worker)
            self._pump()
        if not worker.calls and len(self._ready) > 1:
            self._rebalance_to(worker)
        most = self._options.worker_options.max_requests
        if most and worker.answered >= most:
            self._supervisor.recycle(worker, f"has answered {worker.answered} requests")

    def _learn_pace(self, worker: WorkerHandle) -> None:
        """Update the average time per call, from which the retry delay of refused calls is
        computed."""
        now = worker.progress
        since, self._last_answer = self._last_answer, now
        self._seconds_a_call += 0.2 * (min(now - since, 60.0) - self._seconds_a_call)

    def _pump(self) -> None:
        while self._queue and self._hand_over(self._queue[0]):
            self._queue.popleft()

    def _rebalance_to(self, idle: WorkerHandle) -> None:
        """Give an idle worker half of the calls that the busiest one has not begun."""
        busiest = max(self._ready, key=_load)
        waiting = len(busiest.calls) - 1
        if waiting < 1 or busiest is idle:
            return
        self._hand_over_all(idle, busiest.reclaim((waiting + 1) // 2))

    def _hand_over_all(self, worker: WorkerHandle, predictions: list[Prediction]) -> None:
        """Give calls to a worker; those that it has no room for go to the head of the queue."""
        for number, prediction in enumerate(predictions):
            if not worker.hand_over(prediction):
                self._queue.extendleft(reversed(predictions[number:]))
                return

    # --- abandoned and overdue calls

    def _leave(self, prediction: Prediction) -> None:
        """Abandon a call: remove it from the queue, or let its worker finish it."""
        if prediction.abandoned:
            return
        prediction.abandoned = True
        if not self._withdraw(prediction):
            return
        prediction.end()
        self._pump()

    def _withdraw(self, prediction: Prediction) -> bool:
        """Remove a call from the queue or from its worker's socket; return False if it has
        begun."""
        worker = prediction.worker
        if worker is None:
            self._queue.remove(prediction)
            return True
        not_begun = worker.reclaim(len(worker.calls))
        if prediction.worker is None:
            not_begun.remove(prediction)
            self._hand_over_all(worker, not_begun)
            return True
        if self._cancel(worker, prediction):
            self._queue.extendleft(reversed(not_begun))
        else:
            self._hand_over_all(worker, not_begun)
        return False

    def _cancel(self, worker: WorkerHandle, prediction: Prediction) -> bool:
        """Cancel an abandoned call if that is allowed; return True if its worker is killed for
        that."""
        if not prediction.abandoned or prediction.is_validation:
            return False
        if prediction.stream is not None:
            worker.cancel(prediction)
            return False
        if not self._options.cancel_running:
            return False
        if worker.calling.kind is CallingKind.CONCURRENT:
            worker.cancel(prediction)
            return False
        if not all(other.abandoned for other in worker.calls.values()):
            return False
        self._supervisor.kill(worker, EndReason.CANCELLED)
        return True

    def _on_timeout(self, prediction: Prediction) -> None:
        """Fail a call that has reached its deadline or has waited too long for a worker."""
        prediction.timer = None
        now = self._loop.time()
        ends = prediction.deadline
        if ends and now >= ends:
            prediction.fail(PredictTimeoutError("No result within the time limit of the request"))
            self._leave(prediction)
            return
        limit = self._options.predict_timeout
        stuck = self._stuck_worker(prediction, now - limit)
        if limit and not prediction.alone and self._withdraw(prediction):
            if stuck is not None:
                logger.error("Worker %s does not begin its calls and is killed", stuck.name)
                self._supervisor.kill(stuck, EndReason.TOO_SLOW)
            prediction.fail(PredictTimeoutError(f"No worker was free for {limit:g} s"))
            prediction.end()
            self._pump()
        elif ends:
            prediction.timer = self._loop.call_at(ends, self._on_timeout, prediction)

    def _stuck_worker(self, prediction: Prediction, since: float) -> WorkerHandle | None:
        """Return the worker whose first call this is, if it has done nothing since then."""
        worker = prediction.worker
        if worker is None or next(iter(worker.calls.values())) is not prediction:
            return None
        return worker if max(prediction.since, worker.progress) <= since + 0.01 else None

    # --- workers that join and leave

    def worker_joined(self, worker: WorkerHandle) -> None:
        """Give calls to a worker that has become ready."""
        self._calling = worker.calling
        if self._options.predict_timeout:
            self._deadlines.watch(worker)
        self._pump()
        if not worker.calls:
            self._rebalance_to(worker)

    def worker_left(self, worker: WorkerHandle) -> None:
        """Take back the calls that a worker has not begun."""
        self._queue.extendleft(reversed(worker.reclaim(len(worker.calls))))
        self._dispatch_queue()

    def worker_ended(self, worker: WorkerHandle, ending: str) -> None:
        """Fail the calls that a dead worker had begun; the others go to another worker."""
        not_begun = worker.reclaim(len(worker.calls))
        begun = list(worker.calls.values())
        worker.calls.clear()
        if worker.end_reason is EndReason.TOO_SLOW:
            error: RequestError = self._deadlines.error()
        else:
            error = WorkerDiedError(
                f"The worker of model {self._name} {ending} during this prediction"
            )
        self._queue.extendleft(reversed([*self._reap(worker, begun, error), *not_begun]))
        self._dispatch_queue()

    def _dispatch_queue(self) -> None:
        """Give waiting calls to the workers, or refuse them if the model is suspended."""
        if self._status.suspended:
            self._fail_all(self._queue, self._status.not_ready())
        self._pump()

    def _reap(
        self, worker: WorkerHandle, begun: Sequence[Prediction], error: RequestError
    ) -> list[Prediction]:
        """Fail the calls that a dead worker had begun. Return those from a batch, to retry them
        alone."""
        in_batch = (
            worker.calling.kind is CallingKind.BATCH
            and len(begun) > 1
            and worker.end_reason is not EndReason.CUT_SHORT
        )
        again = []
        for prediction in begun:
            worker.died_alone = worker.died_alone or prediction.alone
            wanted = not prediction.abandoned and not prediction.is_validation
            if in_batch and wanted and not self._status.suspended and not self._status.has_stopped:
                prediction.alone = True
                prediction.worker = None
                again.append(prediction)
            else:
                prediction.fail(error)
                prediction.end()
        return again

    def refuse_waiting(self, why: str) -> None:
        """Refuse waiting calls if no worker will soon be ready.

        Calls from the batch of a dead worker, which are to be retried alone, keep waiting. If their
        clients were asked to retry, the calls could kill another batch.
        """
        if self._ready or self._status.suspended:
            return
        if self._supervisor.promising:
            return
        waiting = [prediction for prediction in self._queue if not prediction.alone]
        retried = [prediction for prediction in self._queue if prediction.alone]
        self._queue.clear()
        self._fail_all(waiting, self._status.not_ready())
        if why:
            error = f"The worker of model {self._name} died during this prediction; the next {why}"
            self._fail_all(retried, WorkerDiedError(error))
        self._queue.extend(retried)

    def close(self, error: RequestError) -> None:
        """Fail all calls that have not been answered."""
        for worker in self._supervisor.workers:
            self._fail_all(worker.reclaim(len(worker.calls)), error)
            for prediction in worker.calls.values():
                prediction.fail(error)
        self.refuse_all(error)

    def refuse_all(self, error: RequestError) -> None:
        """Fail all calls that wait for a worker."""
        self._fail_all(self._queue, error)

    def _fail_all(self, predictions: MutableSequence[Prediction], error: RequestError) -> None:
        for prediction in predictions:
            prediction.fail(error)
            prediction.end()
        predictions.clear()


def _load(worker: WorkerHandle) -> int:
    return len(worker.calls)
