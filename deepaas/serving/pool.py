"""The calls of one model: taken in, handed to workers, taken back, answered."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
import os
import tempfile
from collections import deque
from collections.abc import Callable, MutableSequence, Sequence
from dataclasses import dataclass, field
from typing import Any

from deepaas.exceptions import (
    NotReadyError,
    PredictTimeoutError,
    QueueFullError,
    ReloadFailedError,
    ReloadInProgressError,
    RequestError,
    StoppingError,
    WorkerDiedError,
)
from deepaas.model.loading import ModelSource
from deepaas.model.v2.exchange import Call, Calling
from deepaas.serving import messages
from deepaas.serving.crew import Crew, CrewOptions
from deepaas.serving.guard import Guard
from deepaas.serving.prediction import Awaited, Prediction
from deepaas.serving.worker import StartError, Worker

logger = logging.getLogger("deepaas.serving")

TOO_LONG = "takes too long"
GRACE = 1.0
"""Seconds that a cancelled call of an async model gets to end, before its worker is replaced."""

MAX_RETRY_AFTER = 3600


@dataclass(frozen=True)
class PoolOptions:
    """What the calls of a model have to keep to. A time-out of 0 seconds is none."""

    queue_size: int = 1000
    predict_timeout: float = 0
    cancel_running: bool = False
    spill_dir: str = ""
    crew: CrewOptions = field(default_factory=CrewOptions)


class Pool:
    """The calls of one model, and the workers they go to.

    `description` is what the model says of itself, once a worker has been ready; `problem` is why
    it cannot answer at present, `reload_problem` why the last reload failed, or an empty string.
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
        self.reload_problem = ""
        self.seconds_to_ready = 0.0
        self._crew = Crew(source, options.crew, guard, self, on_output)
        self._ready = self._crew.ready
        self._ids = itertools.count(1)
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Prediction] = deque()
        self._taken_in = 0  # calls that have not ended
        self._last_answer = 0.0
        self._seconds_a_call = 0.0  # between two answers while others wait, on average
        self._calling = Calling("one")
        self._reloading = False
        self._draining = False
        self._stopped = False

    def __repr__(self) -> str:
        return f"<Pool {self.name}: {len(self._ready)} workers ready, {self._taken_in} calls>"

    # --- what it is

    @property
    def ready(self) -> bool:
        """Whether a worker could take a call now."""
        return bool(self._ready) and not self._draining

    @property
    def pids(self) -> list[int]:
        """The processes of the workers that are ready."""
        return [worker.pid for worker in self._ready]

    @property
    def calls(self) -> int:
        """How many calls have been taken in and have not ended."""
        return self._taken_in

    @property
    def sources(self) -> list[str]:
        """The files of the model's code."""
        return list(self.description.get("sources", []))

    # --- its life

    async def start(self) -> None:
        """Start the workers; return when each is ready, or has failed once."""
        await self._crew.start()

    def drain(self) -> None:
        """Say that no more calls are taken in; those whose requests have come already still are."""
        self._draining = True
        self.problem = "is being stopped"

    async def stop(self) -> None:
        """End the workers. Whatever they have not answered is refused."""
        self.drain()
        self._stopped = True
        error = StoppingError(f"The server stopped before model {self.name} had answered")
        for worker in self._crew.workers:
            self._give_up(worker.take_back(len(worker.calls)), error)
            for prediction in worker.calls.values():
                prediction.fail(error)
        self._give_up(self._queue, error)
        await self._crew.stop()

    def kill(self) -> None:
        """End all workers at once."""
        self._crew.kill_all()

    async def reload(self) -> float:
        """Replace the workers one after another by newly loaded ones; the seconds it took.

        Raises ReloadInProgressError while that is being done, and ReloadFailedError when a new one
        does not become ready: then the old one goes on.
        """
        if self._draining:
            raise StoppingError("The server is about to stop")
        if self._reloading:
            raise ReloadInProgressError(f"Model {self.name} is being reloaded already")
        self._reloading = True
        began = self._loop.time()
        try:
            await self._crew.replace_all()
        except StartError as error:
            self.reload_problem = str(error)
            logger.error("Reloading model %s failed, the old one stays: it %s", self.name, error)
            raise ReloadFailedError(f"The new worker of model {self.name} {error}") from None
        finally:
            self._reloading = False
        self.reload_problem = ""
        seconds = self._loop.time() - began
        logger.info("Model %s was reloaded in %.2f s", self.name, seconds)
        return seconds

    # --- calls

    def check(self) -> None:
        """Raise the RequestError with which a call would be refused now."""
        if self._draining:
            raise StoppingError("The server is about to stop")
        self._check_room()

    def _check_room(self) -> None:
        if not self._crew.promising:
            raise self._not_ready()
        room = self.options.queue_size + self.options.crew.workers * self._calling.at_once
        if self._taken_in >= room:
            # What a retired worker is about to finish is in nobody's way.
            room += sum(len(worker.calls) for worker in self._crew.workers if worker.doom)
        if self._taken_in >= room:
            waiting = self._taken_in - room + self.options.queue_size
            wait = min(MAX_RETRY_AFTER, math.ceil(self._taken_in * self._seconds_a_call))
            message = f"{waiting} calls wait for model {self.name}, and no more may"
            raise QueueFullError(message, wait)

    def predict(self, call: Call, patience: float = 0) -> Awaited:
        """Take a call in, whose reply is to be awaited. Otherwise as `submit`."""
        prediction = Awaited()
        self.submit(prediction, messages.encode_meta(call), call.body, patience)
        return prediction

    def submit(self, prediction: Prediction, meta: bytes, body: bytes, patience: float = 0) -> None:
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
            spilled = self._spill(packet)
            packet = messages.call_in_file(call_id, spilled)
        prediction.id = call_id
        prediction.packet = packet
        prediction.leave = self._leave
        prediction.on_end.append(self._on_end)
        if spilled:
            prediction.on_end.append(lambda: _unlink(spilled))
        self._taken_in += 1
        if patience:
            prediction.patience_ends = self._loop.time() + patience
        if patience or self.options.predict_timeout:
            wait = min(filter(None, (patience, self.options.predict_timeout)))
            prediction.timer = self._loop.call_later(wait, self._time_is_over, prediction)
        if self._queue or not self._hand_over(prediction):
            self._queue.append(prediction)

    def _spill(self, packet: bytes) -> str:
        fd, path = tempfile.mkstemp(dir=self.options.spill_dir or None)
        with open(fd, "wb") as file:
            file.write(packet)
        return path

    def _on_end(self) -> None:
        self._taken_in -= 1

    def _not_ready(self) -> NotReadyError:
        wait = max(0.0, self._crew.retry_at - self._loop.time())
        return NotReadyError(f"Model {self.name} {self.problem or 'has no worker'}", wait)

    def _hand_over(self, prediction: Prediction) -> bool:
        """Give a call to the worker with the least to do; False if none can take it now."""
        if len(self._ready) == 1:
            worker = self._ready[0]
        elif self._ready:
            worker = min(self._ready, key=_load)
        else:
            return False
        return len(worker.calls) < worker.depth and worker.hand_over(prediction)

    def on_room(self, worker: Worker) -> None:
        """See to it that a worker has work, after it has answered, or has room again."""
        if worker.doom:
            self._crew.end_if_idle(worker)
            return
        if self._queue:
            self._learn_pace(worker)
            self._pump()
        if not worker.calls and len(self._ready) > 1:
            self._relieve_for(worker)
        most = self.options.crew.max_requests
        if most and worker.answered >= most:
            self._crew.recycle(worker, f"has answered {worker.answered} requests")

    def _learn_pace(self, worker: Worker) -> None:
        """Note how long calls take while others wait, for those that have to be refused."""
        now = worker.progress
        since, self._last_answer = self._last_answer, now
        self._seconds_a_call += 0.2 * (min(now - since, 60.0) - self._seconds_a_call)

    def _pump(self) -> None:
        while self._queue and self._hand_over(self._queue[0]):
            self._queue.popleft()

    def _relieve_for(self, idle: Worker) -> None:
        """Give an idle worker half of what the busiest one has not begun."""
        busiest = max(self._ready, key=_load)
        waiting = len(busiest.calls) - 1
        if waiting < 1 or busiest is idle:
            return
        self._hand_back(idle, busiest.take_back((waiting + 1) // 2))

    def _hand_back(self, worker: Worker, predictions: list[Prediction]) -> None:
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
        not_begun = worker.take_back(len(worker.calls))
        if prediction.worker is None:
            not_begun.remove(prediction)
            self._hand_back(worker, not_begun)
            return True
        if self._cancel(worker, prediction):
            self._queue.extendleft(reversed(not_begun))
        else:
            self._hand_back(worker, not_begun)
        return False

    def _cancel(self, worker: Worker, prediction: Prediction) -> bool:
        """End the work on an abandoned call, if that may be; True if its worker ends with it."""
        if not prediction.abandoned:
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
        self._crew.kill(worker, "was cancelled")
        return True

    def _time_is_over(self, prediction: Prediction) -> None:
        """A call has waited as long as it may, for its caller or for a worker."""
        prediction.timer = None
        now = self._loop.time()
        ends = prediction.patience_ends
        if ends and now >= ends:
            prediction.fail(PredictTimeoutError("No answer within the time that the request gives"))
            self._leave(prediction)
            return
        limit = self.options.predict_timeout
        idle = self._idler(prediction, now - limit)
        if limit and not prediction.alone and self._withdraw(prediction):
            if idle is not None:
                logger.error("Worker %s does not begin its calls and is killed", idle.name)
                self._crew.kill(idle, TOO_LONG)
            prediction.fail(PredictTimeoutError(f"No worker was free for {limit:g} s"))
            prediction.end()
            self._pump()
        elif ends:
            prediction.timer = self._loop.call_at(ends, self._time_is_over, prediction)

    def _idler(self, prediction: Prediction, since: float) -> Worker | None:
        """The worker that a call has waited for since then, and has done nothing else."""
        worker = prediction.worker
        if worker is None or next(iter(worker.calls.values())) is not prediction:
            return None
        return worker if max(prediction.since, worker.progress) <= since + 0.01 else None

    def _watch_time(self, worker: Worker) -> None:
        """End a worker that takes too long for a call; look again when the next could be due."""
        if worker.exited.done():
            return
        limit = self.options.predict_timeout
        now = self._loop.time()
        if worker.calling.kind == "many":
            due = self._check_each(worker, now, limit)
        else:
            due = _begun_at(worker, now) + limit
            if due <= now:
                logger.error("Worker %s takes more than %g s and is killed", worker.name, limit)
                self._crew.kill(worker, TOO_LONG)
                return
        self._loop.call_at(max(due, now + 0.01), self._watch_time, worker)

    def _check_each(self, worker: Worker, now: float, limit: float) -> float:
        """Cancel the calls of an async worker that take too long; when the next could be due.

        If they do not end when they are cancelled the worker is replaced, and is killed when it
        has nothing else to do.
        """
        first = now
        overdue = 0
        for prediction in worker.calls.values():
            begun = now if prediction.reader_is_slow else prediction.since
            if begun + limit > now:
                first = min(first, begun)
                continue
            overdue += 1
            prediction.fail(self._too_long())
            worker.cancel(prediction)
            if begun + limit + GRACE <= now and not worker.doom:
                logger.error("Worker %s does not end what takes more than %g s", worker.name, limit)
                self._crew.retire(worker, TOO_LONG)
        if worker.doom and overdue and overdue == len(worker.calls):
            worker.kill()
        return min(first + limit, now + GRACE / 4) if overdue else first + limit

    # --- what becomes of workers

    def on_joined(self, worker: Worker) -> None:
        """Let a worker that is ready have calls, and speak for the model."""
        self.description = worker.description
        self.headers = worker.description["predict"]["headers"]
        self._calling = worker.calling
        self.seconds_to_ready = worker.seconds_to_ready
        if not self._draining:
            self.problem = ""
        if self.options.predict_timeout:
            self._watch_time(worker)
        self._pump()
        if not worker.calls:
            self._relieve_for(worker)

    def on_left(self, worker: Worker, why: str) -> None:
        """Take from a worker what it has not begun."""
        if not self._ready and not self.problem:
            self.problem = f"has lost its worker, which {why}"
        self._queue.extendleft(reversed(worker.take_back(len(worker.calls))))
        self._pump()

    def on_ended(self, worker: Worker, ending: str) -> None:
        """Answer for a worker that has died; what it had not begun goes to another."""
        not_begun = worker.take_back(len(worker.calls))
        begun = list(worker.calls.values())
        worker.calls.clear()
        if worker.doom == TOO_LONG:
            error: RequestError = self._too_long()
        else:
            error = WorkerDiedError(
                f"The worker of model {self.name} {ending} during this prediction"
            )
        self._queue.extendleft(reversed([*self._bury(worker, begun, error), *not_begun]))
        if not self._ready and not worker.doom and not self._draining:
            self.problem = f"has lost its worker, which {ending}"
        self._pump()

    def _bury(
        self, worker: Worker, begun: Sequence[Prediction], error: RequestError
    ) -> list[Prediction]:
        """End the calls with which a worker died, save those that were not alone in their batch:
        these are returned, to be tried by themselves."""
        in_batch = worker.calling.kind == "batch" and len(begun) > 1
        again = []
        for prediction in begun:
            worker.died_alone = worker.died_alone or prediction.alone
            if in_batch and not prediction.abandoned and not self._stopped:
                prediction.alone = True
                prediction.worker = None
                again.append(prediction)
            else:
                prediction.fail(error)
                prediction.end()
        return again

    def on_not_started(self, why: str) -> None:
        """Refuse what waits, as it could be for long. What has been begun in a batch, and is to be
        tried alone, waits: to be told to come again could make it the end of another batch."""
        if self._ready:
            return
        if why and not self._draining:
            self.problem = why
        if self._crew.promising:
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

    def _too_long(self) -> PredictTimeoutError:
        limit = self.options.predict_timeout
        return PredictTimeoutError(f"The prediction took longer than {limit:g} s")


def _load(worker: Worker) -> int:
    return len(worker.calls)


def _begun_at(worker: Worker, now: float) -> float:
    """When a worker began what it works on; now if that is nothing, or not its fault."""
    for first in worker.calls.values():
        return now if first.reader_is_slow else max(first.since, worker.progress)
    return now


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
