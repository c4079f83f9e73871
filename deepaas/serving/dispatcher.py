"""The calls of one model: taken in, handed to workers, taken back, answered."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
import os
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
        self._taken_in = 0  # calls that have not ended
        self._note_end = self._on_end  # bound once, and not for each call
        self._last_answer = 0.0
        self._seconds_a_call = 0.0  # between two answers while others wait, on average
        self._calling = Calling(CallingKind.SEQUENTIAL)

    def __repr__(self) -> str:
        return f"<Dispatcher {self._name}: {self._taken_in} calls>"

    @property
    def calls(self) -> int:
        """How many calls have been taken in and have not ended."""
        return self._taken_in

    def check(self) -> None:
        """Raise the RequestError with which a call would be refused now."""
        if self._status.is_draining:
            raise StoppingError("The server is about to stop")
        self._check_room()

    def _check_room(self) -> None:
        if not self._ready and not (self._status.was_ready.is_set() and self._supervisor.promising):
            raise self._status.not_ready()
        if self._taken_in < self._options.queue_size:  # as nearly always
            return
        room = (
            self._options.queue_size + self._options.worker_options.workers * self._calling.at_once
        )
        if self._taken_in >= room:
            # What a retired worker is about to finish is in nobody's way.
            room += sum(
                len(worker.calls) for worker in self._supervisor.workers if worker.end_reason
            )
        if self._taken_in >= room:
            waiting = self._taken_in - room + self._options.queue_size
            wait = min(MAX_RETRY_AFTER, math.ceil(self._taken_in * self._seconds_a_call))
            message = f"{waiting} calls wait for model {self._name}, and no more may"
            raise QueueFullError(message, wait)

    def predict(self, call: Call, deadline_seconds: float = 0) -> Awaited:
        """Take a call in, whose reply is to be awaited. Otherwise as `submit`."""
        prediction = Awaited()
        self.submit(prediction, messages.encode_meta(call), call.body, deadline_seconds)
        return prediction

    def submit(
        self, prediction: Prediction, meta: bytes, body: bytes, deadline_seconds: float = 0
    ) -> None:
        """Take a call in; its caller waits for `patience` seconds in all, without end if that is 0.

        Raises NotReadyError if no worker is there or about to be, QueueFullError if too many wait.
        The prediction may fail with PredictTimeoutError, with WorkerDiedError if the worker ended
        while it worked on it, or with NotReadyError if it could not be begun.
        """
        if self._status.has_stopped:
            raise StoppingError("The server has stopped")
        self._check_room()
        call_id = next(self._ids) & 0xFFFFFFFF
        packet = messages.encode_call(call_id, meta, body)
        spilled = ""
        if len(packet) > messages.MAX_PACKET:
            packet, spilled = messages.spill(call_id, packet, self._options.spill_dir)
        prediction.id = call_id
        prediction.packet = packet
        prediction.leave = self._leave
        prediction.on_end.append(self._note_end)
        if spilled:
            prediction.on_end.append(lambda: _unlink(spilled))
        self._taken_in += 1
        if deadline_seconds:
            prediction.deadline = self._loop.time() + deadline_seconds
        if deadline_seconds or self._options.predict_timeout:
            wait = min(filter(None, (deadline_seconds, self._options.predict_timeout)))
            prediction.timer = self._loop.call_later(wait, self._time_is_over, prediction)
        if self._queue or not self._hand_over(prediction):
            self._queue.append(prediction)

    def _on_end(self) -> None:
        self._taken_in -= 1

    def _hand_over(self, prediction: Prediction) -> bool:
        """Give a call to the worker with the least to do; False if none can take it now."""
        if len(self._ready) == 1:
            worker = self._ready[0]
        elif self._ready:
            worker = min(self._ready, key=_load)
        else:
            return False
        return len(worker.calls) < worker.depth and worker.hand_over(prediction)

    def on_room(self, worker: WorkerHandle) -> None:
        """See to it that a worker has work, after it has answered, or has room again."""
        if worker.end_reason:
            self._supervisor.end_if_idle(worker)
            return
        if self._queue:
            self._learn_pace(worker)
            self._pump()
        if not worker.calls and len(self._ready) > 1:
            self._relieve_for(worker)
        most = self._options.worker_options.max_requests
        if most and worker.answered >= most:
            self._supervisor.recycle(worker, f"has answered {worker.answered} requests")

    def _learn_pace(self, worker: WorkerHandle) -> None:
        """Note how long calls take while others wait, for those that have to be refused."""
        now = worker.progress
        since, self._last_answer = self._last_answer, now
        self._seconds_a_call += 0.2 * (min(now - since, 60.0) - self._seconds_a_call)

    def _pump(self) -> None:
        while self._queue and self._hand_over(self._queue[0]):
            self._queue.popleft()

    def _relieve_for(self, idle: WorkerHandle) -> None:
        """Give an idle worker half of what the busiest one has not begun."""
        busiest = max(self._ready, key=_load)
        waiting = len(busiest.calls) - 1
        if waiting < 1 or busiest is idle:
            return
        self._hand_back(idle, busiest.reclaim((waiting + 1) // 2))

    def _hand_back(self, worker: WorkerHandle, predictions: list[Prediction]) -> None:
        """Give calls to a worker, and what it has no room for to the head of the queue."""
        for number, prediction in enumerate(predictions):
            if not worker.hand_over(prediction):
                self._queue.extendleft(reversed(predictions[number:]))
                return

    # --- the end of waiting

    def _leave(self, prediction: Prediction) -> None:
        """Nobody waits for this call any more: it leaves the queue, or is let finish."""
        if prediction.abandoned:
            return
        prediction.abandoned = True
        if not self._withdraw(prediction):
            return
        prediction.end()
        self._pump()

    def _withdraw(self, prediction: Prediction) -> bool:
        """Take a call out of where it waits; False if a worker has begun it."""
        worker = prediction.worker
        if worker is None:
            self._queue.remove(prediction)
            return True
        not_begun = worker.reclaim(len(worker.calls))
        if prediction.worker is None:
            not_begun.remove(prediction)
            self._hand_back(worker, not_begun)
            return True
        if self._cancel(worker, prediction):
            self._queue.extendleft(reversed(not_begun))
        else:
            self._hand_back(worker, not_begun)
        return False

    def _cancel(self, worker: WorkerHandle, prediction: Prediction) -> bool:
        """End the work on an abandoned call, if that may be; True if its worker ends with it."""
        if not prediction.abandoned or prediction.is_check:
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

    def _time_is_over(self, prediction: Prediction) -> None:
        """A call has waited as long as it may, for its caller or for a worker."""
        prediction.timer = None
        now = self._loop.time()
        ends = prediction.deadline
        if ends and now >= ends:
            prediction.fail(PredictTimeoutError("No answer within the time that the request gives"))
            self._leave(prediction)
            return
        limit = self._options.predict_timeout
        idle = self._idler(prediction, now - limit)
        if limit and not prediction.alone and self._withdraw(prediction):
            if idle is not None:
                logger.error("Worker %s does not begin its calls and is killed", idle.name)
                self._supervisor.kill(idle, EndReason.TOO_SLOW)
            prediction.fail(PredictTimeoutError(f"No worker was free for {limit:g} s"))
            prediction.end()
            self._pump()
        elif ends:
            prediction.timer = self._loop.call_at(ends, self._time_is_over, prediction)

    def _idler(self, prediction: Prediction, since: float) -> WorkerHandle | None:
        """The worker that a call has waited for since then, and has done nothing else."""
        worker = prediction.worker
        if worker is None or next(iter(worker.calls.values())) is not prediction:
            return None
        return worker if max(prediction.since, worker.progress) <= since + 0.01 else None

    # --- workers that come and go

    def worker_joined(self, worker: WorkerHandle) -> None:
        """Give a worker that is ready calls."""
        self._calling = worker.calling
        if self._options.predict_timeout:
            self._deadlines.watch(worker)
        self._pump()
        if not worker.calls:
            self._relieve_for(worker)

    def worker_left(self, worker: WorkerHandle) -> None:
        """Take the calls from a worker that it has not begun."""
        self._queue.extendleft(reversed(worker.reclaim(len(worker.calls))))
        self._go_on()

    def worker_ended(self, worker: WorkerHandle, ending: str) -> None:
        """Fail the calls that died with a worker; calls that it had not begun go to another."""
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
        self._go_on()

    def _go_on(self) -> None:
        """Give what waits to the workers that there are, or refuse it if there are to be none."""
        if self._status.suspended:
            self._give_up(self._queue, self._status.not_ready())
        self._pump()

    def _reap(
        self, worker: WorkerHandle, begun: Sequence[Prediction], error: RequestError
    ) -> list[Prediction]:
        """End the calls with which a worker died, save those that were not alone in their batch:
        these are returned, to be tried by themselves."""
        in_batch = (
            worker.calling.kind is CallingKind.BATCH
            and len(begun) > 1
            and worker.end_reason is not EndReason.CUT_SHORT
        )
        again = []
        for prediction in begun:
            worker.died_alone = worker.died_alone or prediction.alone
            wanted = not prediction.abandoned and not prediction.is_check
            if in_batch and wanted and not self._status.suspended and not self._status.has_stopped:
                prediction.alone = True
                prediction.worker = None
                again.append(prediction)
            else:
                prediction.fail(error)
                prediction.end()
        return again

    def refuse_waiting(self, why: str) -> None:
        """Refuse what waits, as it could be for long. What has been begun in a batch, and is to be
        tried alone, waits: to be told to come again could make it the end of another batch."""
        if self._ready or self._status.suspended:
            return
        if self._supervisor.promising:
            return
        waiting = [prediction for prediction in self._queue if not prediction.alone]
        retried = [prediction for prediction in self._queue if prediction.alone]
        self._queue.clear()
        self._give_up(waiting, self._status.not_ready())
        if why:
            error = f"The worker of model {self._name} died during this prediction; the next {why}"
            self._give_up(retried, WorkerDiedError(error))
        self._queue.extend(retried)

    def close(self, error: RequestError) -> None:
        """Refuse all calls that have not been answered."""
        for worker in self._supervisor.workers:
            self._give_up(worker.reclaim(len(worker.calls)), error)
            for prediction in worker.calls.values():
                prediction.fail(error)
        self.refuse_all(error)

    def refuse_all(self, error: RequestError) -> None:
        """Refuse all calls that wait for a worker."""
        self._give_up(self._queue, error)

    def _give_up(self, predictions: MutableSequence[Prediction], error: RequestError) -> None:
        for prediction in predictions:
            prediction.fail(error)
            prediction.end()
        predictions.clear()


def _load(worker: WorkerHandle) -> int:
    return len(worker.calls)


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
