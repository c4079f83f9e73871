"""The metrics: their names, types, labels and values. `docs/metrics.md` explains each."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.utils import floatToGoString

import deepaas
from deepaas.metrics.counts import PARTS, Distribution, ModelCounts
from deepaas.metrics.state import (
    JOB_KINDS,
    JOB_STATUSES,
    WORKER_STATES,
    ModelState,
    ServerState,
)


@dataclass(frozen=True)
class ModelView:
    """The counts and the state of one model. Without a name, the state is None."""

    name: str
    counts: ModelCounts
    state: ModelState | None


Value = tuple[Sequence[str], Any]
"""The values of all labels but `model`, and the value."""


@dataclass(frozen=True)
class Family:
    """A metric with the label `model` and `labels`."""

    kind: Callable[..., Metric]
    name: str
    text: str
    labels: Sequence[str]
    values: Callable[[ModelView], Iterable[Value]]

    def of(self, view: ModelView) -> Metric:
        """Return the metric with the values of one model."""
        metric: Any = self.kind(self.name, self.text, labels=["model", *self.labels])
        for labels, value in self.values(view):
            _add(metric, [view.name, *labels], value)
        return metric  # type: ignore[no-any-return]


def _add(metric: Any, labels: Sequence[str], value: Any) -> None:
    if isinstance(metric, HistogramMetricFamily):
        metric.add_metric(labels, _buckets(value), value.total)
    elif isinstance(metric, SummaryMetricFamily):
        metric.add_metric(labels, *value)
    else:
        metric.add_metric(labels, value)


def _buckets(distribution: Distribution) -> list[tuple[str, float]]:
    """Return the cumulative counts, by upper bound."""
    bounds = [*map(floatToGoString, distribution.bounds), "+Inf"]
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip(bounds, distribution.counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets


# --- the values of one model


def _requests(view: ModelView) -> Iterator[Value]:
    for key, count in view.counts.requests.items():
        yield key, count.number


def _durations(view: ModelView) -> Iterator[Value]:
    for method, duration in view.counts.durations.items():
        yield [method], duration


def _parts(view: ModelView) -> Iterator[Value]:
    if view.state is not None:
        for name, part in zip(PARTS, view.counts.parts, strict=True):
            yield [name], part


def _batches(view: ModelView) -> Iterator[Value]:
    if any(view.counts.batches.counts):
        yield [], view.counts.batches


def _refused(view: ModelView) -> Iterator[Value]:
    for code, number in view.counts.refused.items():
        yield [code], number


def _fast(view: ModelView) -> Iterator[Value]:
    if view.state is not None:
        yield [], view.counts.fast


def _body_bytes(view: ModelView) -> Iterator[Value]:
    yield [], view.counts.body_bytes


def _waiting(view: ModelView) -> Iterator[Value]:
    if view.state is not None:
        yield [], view.state.waiting


def _running(view: ModelView) -> Iterator[Value]:
    if view.state is not None:
        yield [], view.state.running


def _workers(view: ModelView) -> Iterator[Value]:
    if view.state is not None:
        found = Counter(worker.state for worker in view.state.workers)
        for state in WORKER_STATES:
            yield [state], found[state]


def _worker_memory(view: ModelView) -> Iterator[Value]:
    """Yield the memory of each worker. While a worker is replaced, two processes have its name."""
    sizes: Counter[str] = Counter()
    for worker in view.state.workers if view.state is not None else ():
        sizes[worker.name] += worker.memory
    for name, size in sizes.items():
        yield [name], size


def _worker_starts(view: ModelView) -> Iterator[Value]:
    if view.state is not None:
        yield [], (view.counts.worker_starts, view.counts.worker_start_seconds)


def _worker_ends(view: ModelView) -> Iterator[Value]:
    if view.state is not None:
        for cause, number in view.counts.worker_ends.items():
            yield [cause], number


def _jobs(view: ModelView) -> Iterator[Value]:
    if view.state is not None:
        for kind in JOB_KINDS:
            for status in JOB_STATUSES:
                yield [kind, status], view.state.jobs.get((kind, status), 0)


def _jobs_ended(view: ModelView) -> Iterator[Value]:
    yield from view.counts.jobs_ended.items()


def _job_durations(view: ModelView) -> Iterator[Value]:
    yield from view.counts.job_durations.items()


FAMILIES = [
    Family(
        CounterMetricFamily,
        "deepaas_requests",
        "Requests that have ended.",
        ["method", "status", "code"],
        _requests,
    ),
    Family(
        HistogramMetricFamily,
        "deepaas_request_duration_seconds",
        "Time from the arrival of a request to the end of its response.",
        ["method"],
        _durations,
    ),
    Family(
        HistogramMetricFamily,
        "deepaas_prediction_part_seconds",
        "Time of each part of a prediction.",
        ["part"],
        _parts,
    ),
    Family(
        HistogramMetricFamily,
        "deepaas_batch_size",
        "Calls that were processed together in one batch.",
        [],
        _batches,
    ),
    Family(
        CounterMetricFamily,
        "deepaas_refused_requests",
        "Requests that the server has refused.",
        ["reason"],
        _refused,
    ),
    Family(
        CounterMetricFamily,
        "deepaas_fast_path_requests",
        "Requests that have ended on the fast path.",
        [],
        _fast,
    ),
    Family(
        CounterMetricFamily,
        "deepaas_response_body_bytes",
        "Bytes of response bodies that were sent.",
        [],
        _body_bytes,
    ),
    Family(
        GaugeMetricFamily,
        "deepaas_calls_waiting",
        "Calls that wait for a worker.",
        [],
        _waiting,
    ),
    Family(
        GaugeMetricFamily,
        "deepaas_calls_running",
        "Calls that workers process.",
        [],
        _running,
    ),
    Family(
        GaugeMetricFamily,
        "deepaas_workers",
        "Worker processes.",
        ["state"],
        _workers,
    ),
    Family(
        GaugeMetricFamily,
        "deepaas_worker_resident_memory_bytes",
        "Resident memory of a worker process.",
        ["worker"],
        _worker_memory,
    ),
    Family(
        SummaryMetricFamily,
        "deepaas_worker_start_seconds",
        "Time from the start of a worker process until it was ready.",
        [],
        _worker_starts,
    ),
    Family(
        CounterMetricFamily,
        "deepaas_worker_ends",
        "Worker processes that have ended.",
        ["cause"],
        _worker_ends,
    ),
    Family(
        GaugeMetricFamily,
        "deepaas_jobs",
        "Trainings and asynchronous predictions that wait or run.",
        ["kind", "status"],
        _jobs,
    ),
    Family(
        CounterMetricFamily,
        "deepaas_jobs_ended",
        "Trainings and asynchronous predictions that have ended.",
        ["kind", "status"],
        _jobs_ended,
    ),
    Family(
        HistogramMetricFamily,
        "deepaas_job_duration_seconds",
        "Working time of trainings and asynchronous predictions that have ended.",
        ["kind", "status"],
        _job_durations,
    ),
]


def of_server(state: ServerState) -> Iterator[Metric]:
    """Yield the metrics of the whole server."""
    build = GaugeMetricFamily(
        "deepaas_build_info",
        "Versions of this server; the value is always 1.",
        labels=["version", "python_version", "aiohttp_version"],
    )
    build.add_metric([deepaas.__version__, platform.python_version(), aiohttp.__version__], 1)
    yield build
    yield GaugeMetricFamily(
        "deepaas_requests_in_progress",
        "Requests that have not ended.",
        value=state.active_requests(),
    )
    yield GaugeMetricFamily(
        "deepaas_server_resident_memory_bytes",
        "Resident memory of the server process.",
        value=state.memory(),
    )
