"""The calls of one model: taken in, handed to workers, taken back, answered."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
import os
from collections import deque
from collections.abc import Callable, MutableSequence, Sequence
from dataclasses import dataclass, field
from typing import Any

from deepaas.exceptions import (
    NotReadyError,
    PredictTimeoutError,
    QueueFullError,
    RequestError,
    StartingError,
    StoppingError,
    WorkerDiedError,
)
from deepaas.model.loading import ModelSource
from deepaas.model.v2.exchange import Call, Calling
from deepaas.protocol import messages
from deepaas.serving.deadlines import TOO_LONG, DeadlineMonitor
from deepaas.serving.guard import Guard
from deepaas.serving.prediction import Awaited, Prediction
from deepaas.serving.worker_handle import StartError, WorkerHandle
from deepaas.serving.worker_supervisor import WorkerOptions, WorkerSupervisor

logger = logging.getLogger("deepaas.serving")

MAX_RETRY_AFTER = 3600
SUSPENDED = "was suspended"
SUSPENDED_RETRY_AFTER = 30
STARTING_RETRY_AFTER = 30


@dataclass(frozen=True)
class PoolOptions:
    """What the calls of a model have to keep to. A time-out of 0 seconds is none."""

    queue_size: int = 1000
    predict_timeout: float = 0
    cancel_running: bool = False
    spill_dir: str = ""
    worker_options: WorkerOptions = field(default_factory=WorkerOptions)


class Dispatcher:
    """The calls of one model, and the workers they go to.

    `description` is what the model says of itself, once a worker has been ready; `was_ready` is set
    then. While `is_quiet`, the log does not say what is tried again, as the server may yet end.
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
        self.headers: list[str] = []  # those that the arguments of predict come from
        self.train_headers: list[str] = []
        self.was_ready = asyncio.Event()
        self.is_quiet = False
        self.seconds_to_ready = 0.0
        self._problem = "is starting"
        self._began = 0.0  # when the workers were first started, by the loop's clock
        self._logged: list[str] = []  # the last reason why a worker could not be started
        self._is_repeated = False  # whether it was the reason once more
        self._mistakes: list[str] = []  # those of the model's author that the log has
        self._supervisor = WorkerSupervisor(source, options.worker_options, guard, self, on_output)
        self._ready = self._supervisor.ready
        self._deadlines = DeadlineMonitor(options.predict_timeout, self._supervisor)
        self._ids = itertools.count(1)
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Prediction] = deque()
        self._taken_in = 0  # calls that have not ended
        self._note_end = self._on_end  # bound once, and not for each call
        self._last_answer = 0.0
        self._seconds_a_call = 0.0  # between two answers while others wait, on average
        self._calling = Calling("one")
        self._suspended = ""  # why it is
        self._draining = False
        self._stopped = False

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"<{name} {self.name}: {len(self._ready)} workers ready, {self._taken_in} calls>"

    # --- how far its loading is

    @property
    def phase(self) -> str:
        """What a model that is loaded for the first time is doing; empty for any other."""
        if (
            self.was_ready.is_set()
            or self._suspended
            or self._draining
            or self._supervisor.has_settled
        ):
            return ""
        return self._supervisor.phase

    @property
    def seconds_so_far(self) -> float:
        """How long the model has been loading."""
        return self._loop.time() - self._began if self._began else 0.0

    @property
    def retries_in(self) -> float:
        """Seconds until a worker is started again, if it is known that one will be."""
        return max(0.0, self._supervisor.retry_at - self._loop.time())

    @property
    def problem(self) -> str:
        """Why the model cannot answer at present; empty if it can."""
        phase = self.phase
        return (
            f"is starting: {phase}, {self.seconds_so_far:.0f} s so far" if phase else self._problem
        )

    def refuse_while_loading(self) -> None:
        """Raise StartingError if the model is loaded for the first time."""
        if self.phase:
            raise self._not_ready()

    # --- calls that are taken in

    def check(self) -> None:
        """Raise the RequestError with which a call would be refused now."""
        if self._draining:
            raise StoppingError("The server is about to stop")
        self._check_room()

    def _check_room(self) -> None:
        if not self._ready and not (self.was_ready.is_set() and self._supervisor.promising):
            raise self._not_ready()
        if self._taken_in < self.options.queue_size:  # as nearly always
            return
        room = self.options.queue_size + self.options.worker_options.workers * self._calling.at_once
        if self._taken_in >= room:
            # What a retired worker is about to finish is in nobody's way.
            room += sum(
                len(worker.calls) for worker in self._supervisor.workers if worker.end_reason
            )
        if self._taken_in >= room:
            waiting = self._taken_in - room + self.options.queue_size
            wait = min(MAX_RETRY_AFTER, math.ceil(self._taken_in * self._seconds_a_call))
            message = f"{waiting} calls wait for model {self.name}, and no more may"
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
        if self._stopped:
            raise StoppingError("The server has stopped")
        self._check_room()
        call_id = next(self._ids) & 0xFFFFFFFF
        packet = messages.encode_call(call_id, meta, body)
        spilled = ""
        if len(packet) > messages.MAX_PACKET:
            packet, spilled = messages.spill(call_id, packet, self.options.spill_dir)
        prediction.id = call_id
        prediction.packet = packet
        prediction.leave = self._leave
        prediction.on_end.append(self._note_end)
        if spilled:
            prediction.on_end.append(lambda: _unlink(spilled))
        self._taken_in += 1
        if deadline_seconds:
            prediction.deadline = self._loop.time() + deadline_seconds
        if deadline_seconds or self.options.predict_timeout:
            wait = min(filter(None, (deadline_seconds, self.options.predict_timeout)))
            prediction.timer = self._loop.call_later(wait, self._time_is_over, prediction)
        if self._queue or not self._hand_over(prediction):
            self._queue.append(prediction)

    def _on_end(self) -> None:
        self._taken_in -= 1

    def _not_ready(self) -> NotReadyError:
        message = f"Model {self.name} {self.problem or 'has no worker'}"
        phase = self.phase
        if phase:  # what has taken long will take some time yet
            wait = min(self.seconds_so_far, STARTING_RETRY_AFTER)
            return StartingError(message, phase, wait)
        return NotReadyError(message, SUSPENDED_RETRY_AFTER if self._suspended else self.retries_in)

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
        most = self.options.worker_options.max_requests
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
        if not self.options.cancel_running:
            return False
        if worker.calling.kind == "many":
            worker.cancel(prediction)
            return False
        if not all(other.abandoned for other in worker.calls.values()):
            return False
        self._supervisor.kill(worker, "was cancelled")
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
        limit = self.options.predict_timeout
        idle = self._idler(prediction, now - limit)
        if limit and not prediction.alone and self._withdraw(prediction):
            if idle is not None:
                logger.error("Worker %s does not begin its calls and is killed", idle.name)
                self._supervisor.kill(idle, TOO_LONG)
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

    # --- what becomes of workers

    def on_joined(self, worker: WorkerHandle) -> None:
        """Let a worker that is ready have calls, and speak for the model."""
        self._describe(worker.description)
        self._calling = worker.calling
        self.seconds_to_ready = worker.seconds_to_ready
        if not self._draining:
            self._problem = ""
        self.was_ready.set()
        self._logged = []
        if self.options.predict_timeout:
            self._deadlines.watch(worker)
        self._pump()
        if not worker.calls:
            self._relieve_for(worker)

    def _describe(self, description: dict[str, Any]) -> None:
        self.description = description
        self.headers = description["predict"]["headers"]
        self.train_headers = description.get("train", {}).get("headers", [])
        mistakes = description.get("mistakes", [])
        for mistake in mistakes if mistakes != self._mistakes else ():
            logger.warning("Model %s: %s", self.name, mistake)
        self._mistakes = mistakes

    def on_left(self, worker: WorkerHandle, why: str) -> None:
        """Take from a worker what it has not begun."""
        if not self._ready and not self._problem:
            self._problem = f"has lost its worker, which {why}"
        self._queue.extendleft(reversed(worker.reclaim(len(worker.calls))))
        self._go_on()

    def on_ended(self, worker: WorkerHandle, ending: str) -> None:
        """Answer for a worker that has died; what it had not begun goes to another."""
        not_begun = worker.reclaim(len(worker.calls))
        begun = list(worker.calls.values())
        worker.calls.clear()
        if worker.end_reason == TOO_LONG:
            error: RequestError = self._deadlines.error()
        else:
            error = WorkerDiedError(
                f"The worker of model {self.name} {ending} during this prediction"
            )
        self._queue.extendleft(reversed([*self._reap(worker, begun, error), *not_begun]))
        if not self._ready and not worker.end_reason and not self._draining and not self._suspended:
            self._problem = f"has lost its worker, which {ending}"
        self._go_on()

    def _go_on(self) -> None:
        """Give what waits to the workers that there are, or refuse it if there are to be none."""
        if self._suspended:
            self._give_up(self._queue, self._not_ready())
        self._pump()

    def _reap(
        self, worker: WorkerHandle, begun: Sequence[Prediction], error: RequestError
    ) -> list[Prediction]:
        """End the calls with which a worker died, save those that were not alone in their batch:
        these are returned, to be tried by themselves."""
        in_batch = (
            worker.calling.kind == "batch" and len(begun) > 1 and worker.end_reason != SUSPENDED
        )
        again = []
        for prediction in begun:
            worker.died_alone = worker.died_alone or prediction.alone
            wanted = not prediction.abandoned and not prediction.is_check
            if in_batch and wanted and not self._suspended and not self._stopped:
                prediction.alone = True
                prediction.worker = None
                again.append(prediction)
            else:
                prediction.fail(error)
                prediction.end()
        return again

    def on_not_started(self, error: StartError) -> None:
        """Say why a worker could not be started, if that is news, and refuse what waits for it."""
        self._is_repeated = error.lines == self._logged
        if not self._is_repeated:
            self._logged = error.lines
            error.log(f"Model {self.name}")
        self._refuse_what_waits(str(error))

    def on_waiting(self, name: str, delay: float) -> None:
        """Say that a worker is started again, and when; refuse what waits for it."""
        if not self.is_quiet and not self._draining:  # a server that ends starts nothing again
            before = "fails as before, and " if self._is_repeated else ""
            logger.warning("Worker %s %sis started again in %g s", name, before, delay)
        self._refuse_what_waits("")

    def _refuse_what_waits(self, why: str) -> None:
        """Refuse what waits, as it could be for long. What has been begun in a batch, and is to be
        tried alone, waits: to be told to come again could make it the end of another batch."""
        if self._ready or self._suspended:
            return
        if why and not self._draining:
            self._problem = why
        if self._supervisor.promising:
            return
        waiting = [prediction for prediction in self._queue if not prediction.alone]
        retried = [prediction for prediction in self._queue if prediction.alone]
        self._queue.clear()
        self._give_up(waiting, self._not_ready())
        if why:
            error = f"The worker of model {self.name} died during this prediction; the next {why}"
            self._give_up(retried, WorkerDiedError(error))
        self._queue.extend(retried)

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
