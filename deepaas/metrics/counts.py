"""Counts the events of the server, in plain integers: some events happen for every request.

The objects of prometheus-client lock and take a few microseconds for each request. All listeners
run in the thread of the event loop, so nothing is locked here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence

from deepaas.events import (
    BatchRun,
    Events,
    JobChanged,
    RequestEnded,
    RequestRefused,
    Times,
    WorkerEnded,
    WorkerReady,
)
from deepaas.metrics.labels import code_label, method_label, status_label

PARTS = ("queue", "validate", "batch_wait", "predict", "encode")
"""The parts of the time of a prediction, as `deepaas.events.Times` defines them."""

BATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
JOB_BOUNDS = (1, 10, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 86400, 3 * 86400, 7 * 86400)

ENDED = ("done", "error", "cancelled")
"""The last statuses of a job."""

DIED = "died"
"""The cause of the end of a worker that the server has not ended."""


class Distribution:
    """How many values lie in each interval, and their sum.

    `counts[i]` is the number of values above `bounds[i - 1]` and up to `bounds[i]`; the last one is
    the number of values above all bounds.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class ModelCounts:
    """The counts of one model, or of the requests that concern no model."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.requests: dict[tuple[str, str, str], RequestCount] = {}  # by method, status, code
        self.durations: dict[str, Distribution] = {}  # by method
        self.parts = tuple(Distribution(bounds) for _ in PARTS)
        self.batches = Distribution(BATCH_BOUNDS)
        self.fast = 0
        self.body_bytes = 0
        self.refused: Counter[str] = Counter()  # by code
        self.worker_ends: Counter[str] = Counter({DIED: 0})  # by cause
        self.worker_starts = 0
        self.worker_start_seconds = 0.0
        self.jobs_ended: Counter[tuple[str, str]] = Counter()  # by kind and status
        self.job_durations: dict[tuple[str, str], Distribution] = {}  # by kind and status

    def add_times(self, times: Times) -> None:
        """Add the times of a prediction to its parts.

        This is called 45,000 times a second. Compared with five calls of Distribution.add, it takes
        half of the time: most parts are short, and so lie below the first bound.
        """
        of_queue, of_validate, of_batch_wait, of_predict, of_encode = self.parts
        queue, validate, batch_wait, predict, encode = times
        bounds = of_queue.bounds
        first = bounds[0]
        of_queue.counts[0 if queue <= first else bisect_left(bounds, queue)] += 1
        of_queue.total += queue
        of_validate.counts[0 if validate <= first else bisect_left(bounds, validate)] += 1
        of_validate.total += validate
        of_batch_wait.counts[0 if batch_wait <= first else bisect_left(bounds, batch_wait)] += 1
        of_batch_wait.total += batch_wait
        of_predict.counts[0 if predict <= first else bisect_left(bounds, predict)] += 1
        of_predict.total += predict
        of_encode.counts[0 if encode <= first else bisect_left(bounds, encode)] += 1
        of_encode.total += encode


class RequestCount:
    """The number of requests of one kind, and the other counts that such a request changes."""

    __slots__ = ("duration", "model", "number")

    def __init__(self, model: ModelCounts, duration: Distribution) -> None:
        self.number = 0
        self.model = model
        self.duration = duration


class Counts:
    """The counts of all models: `models` by name. The one named "" has everything else.

    `bounds` are those of the durations, in seconds, in ascending order.
    """

    def __init__(self, models: Iterable[str], bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.models = {name: ModelCounts(self.bounds) for name in ("", *models)}
        # By model, method, status and code as the events have them, if the labels are the same.
        self._known: dict[tuple[str, str, int, str], RequestCount] = {}

    def listen_to(self, events: Events) -> None:
        events.request_ended.listen(self.note_request)
        events.request_refused.listen(self.note_refusal)
        events.batch_run.listen(self.note_batch)
        events.worker_ready.listen(self.note_start)
        events.worker_ended.listen(self.note_end)
        events.job_changed.listen(self.note_job)

    def note_request(self, ended: RequestEnded) -> None:
        count = self._known.get((ended.model, ended.method, ended.status, ended.code))
        if count is None:
            count = self._count_of(ended)
        count.number += 1
        # As Distribution.add does, without a call.
        duration, seconds = count.duration, ended.seconds
        duration.counts[bisect_left(duration.bounds, seconds)] += 1
        duration.total += seconds
        model = count.model
        model.body_bytes += ended.length
        if ended.is_fast:
            model.fast += 1
        if ended.times is not None:
            model.add_times(ended.times)

    def _count_of(self, ended: RequestEnded) -> RequestCount:
        """Return the count of requests like this one.

        It is found faster next time, unless a client can choose a part of the key.
        """
        model = self._model(ended.model)
        method = method_label(ended.method)
        key = (method, status_label(ended.status), code_label(ended.code))
        count = model.requests.get(key)
        if count is None:
            duration = model.durations.get(method)
            if duration is None:
                duration = model.durations[method] = Distribution(self.bounds)
            count = model.requests[key] = RequestCount(model, duration)
        if key == (ended.method, str(ended.status), ended.code) and ended.model in self.models:
            self._known[ended.model, ended.method, ended.status, ended.code] = count
        return count

    def _model(self, name: str) -> ModelCounts:
        return self.models.get(name) or self.models[""]

    def note_refusal(self, refused: RequestRefused) -> None:
        self._model(refused.model).refused[code_label(refused.code)] += 1

    def note_batch(self, batch: BatchRun) -> None:
        self._model(batch.model).batches.add(batch.size)

    def note_start(self, ready: WorkerReady) -> None:
        model = self._model(ready.model)
        model.worker_starts += 1
        model.worker_start_seconds += ready.seconds

    def note_end(self, ended: WorkerEnded) -> None:
        self._model(ended.model).worker_ends[ended.cause] += 1

    def note_job(self, job: JobChanged) -> None:
        if job.status not in ENDED:
            return
        model, key = self._model(job.model), (job.kind, job.status)
        model.jobs_ended[key] += 1
        if job.seconds is not None:
            duration = model.job_durations.get(key)
            if duration is None:
                duration = model.job_durations[key] = Distribution(JOB_BOUNDS)
            duration.add(job.seconds)
