"""The counts of events, and the values of labels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

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
from deepaas.http.request import Request
from deepaas.metrics.counts import Counts, Distribution
from deepaas.metrics.labels import CODES
from deepaas.metrics.page import MetricsPage
from deepaas.metrics.state import ModelState, WorkerState
from tests.metrics.reading import Metrics, requests_of
from tests.test_reference import literal_codes

BOUNDS = (0.1, 1.0, 10.0)


class Quiet:
    """The state of a server whose models have the workers `a[0]`, twice, and `a[1]`."""

    def active_requests(self) -> int:
        return 3

    def memory(self) -> int:
        return 1000

    def model(self, name: str) -> ModelState:
        workers = [
            WorkerState(f"{name}[0]", "ready", 10),
            WorkerState(f"{name}[0]", "ending", 5),
            WorkerState(f"{name}[1]", "starting", 7),
        ]
        return ModelState(2, 1, workers, {("train", "running"): 4})


def ended(
    model: str = "a",
    method: str = "POST",
    status: int = 200,
    code: str = "",
    seconds: float = 0.5,
    length: int = 7,
    *,
    is_fast: bool = False,
    times: Times | None = None,
) -> RequestEnded:
    return RequestEnded(
        *("127.0.0.1", method, "/secret", model, status, code, length, seconds, "agent", "id", ""),
        is_fast=is_fast,
        times=times,
    )


def counting() -> tuple[Counts, Events]:
    counts, events = Counts(["a", "b"], BOUNDS), Events()
    counts.listen_to(events)
    return counts, events


async def shown(counts: Counts, accept: str = "", models: list[str] | None = None) -> Metrics:
    headers = SimpleNamespace(getall=lambda *_: [accept])
    request = cast(Request, SimpleNamespace(headers=headers))
    response = await MetricsPage(counts, Quiet()).respond(request, models)
    return Metrics.of(response.text)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("value", "index"), [(0.0, 0), (0.1, 0), (0.11, 1), (1.0, 1), (10.0, 2), (10.1, 3)]
)
def test_bound_belongs_to_the_bucket_below_it(value: float, index: int) -> None:
    distribution = Distribution(BOUNDS)
    distribution.add(value)
    assert distribution.counts == [int(index == one) for one in range(4)]
    counts, _ = counting()
    counts.note_request(ended(seconds=value, times=Times(*[value] * 5)))
    model = counts.models["a"]
    for one in (model.durations["POST"], *model.parts):
        assert (one.counts, one.total) == (distribution.counts, value)


async def test_events_become_metrics() -> None:
    counts, events = counting()
    times = Times(queue=0.05, validate=0.5, batch_wait=5.0, predict=50.0, encode=0.2)
    events.request_ended.report(ended(is_fast=True, times=times))
    events.request_ended.report(ended(is_fast=True))
    events.request_ended.report(ended(status=503, code="queue_full", length=20, seconds=20.0))
    events.request_refused.report(RequestRefused("a", "queue_full"))
    events.batch_run.report(BatchRun("b", 5, 0.1))
    events.worker_ready.report(WorkerReady("b", "b[0]", 17, 1.5))
    events.worker_ended.report(WorkerEnded("b", "b[0]", 17, "replaced", "exited"))
    for status, seconds in (("queued", None), ("running", None), ("done", 2.0), ("error", None)):
        events.job_changed.report(JobChanged("a", "train", "uuid", status, seconds))
    metrics = await shown(counts)
    assert requests_of(metrics) == {
        ("a", "POST", "200", ""): 2,
        ("a", "POST", "503", "queue_full"): 1,
    }
    name = "deepaas_request_duration_seconds"
    buckets = {
        le: metrics.value(f"{name}_bucket", model="a", method="POST", le=le)
        for le in ("0.1", "1.0", "10.0", "+Inf")
    }
    assert buckets == {"0.1": 0, "1.0": 2, "10.0": 2, "+Inf": 3}
    assert metrics.value(f"{name}_sum", model="a", method="POST") == 21.0
    sums = {
        part: metrics.value("deepaas_prediction_part_seconds_sum", model="a", part=part)
        for part in ("queue", "validate", "batch_wait", "predict", "encode")
    }
    assert sums == {
        "queue": 0.05,
        "validate": 0.5,
        "batch_wait": 5.0,
        "predict": 50.0,
        "encode": 0.2,
    }
    one = {"model": "a"}
    assert metrics.value("deepaas_prediction_part_seconds_count", part="encode", **one) == 1
    assert metrics.value("deepaas_fast_path_requests_total", **one) == 2
    assert metrics.value("deepaas_response_body_bytes_total", **one) == 34
    assert metrics.by("deepaas_refused_requests_total", "model", "reason") == {
        ("a", "queue_full"): 1
    }
    assert metrics.value("deepaas_batch_size_sum", model="b") == 5
    assert metrics.value("deepaas_batch_size_bucket", model="b", le="4.0") == 0
    assert metrics.value("deepaas_batch_size_bucket", model="b", le="8.0") == 1
    assert metrics.value("deepaas_worker_start_seconds_sum", model="b") == 1.5
    assert metrics.value("deepaas_worker_start_seconds_count", model="b") == 1
    assert metrics.by("deepaas_worker_ends_total", "model", "cause") == {("b", "replaced"): 1}
    assert metrics.value("deepaas_worker_ends_total", model="a", cause="died") == 0
    done = {"kind": "train", "status": "done", **one}
    assert metrics.by("deepaas_jobs_ended_total", "model", "kind", "status") == {
        ("a", "train", "done"): 1,
        ("a", "train", "error"): 1,
    }
    assert metrics.value("deepaas_job_duration_seconds_sum", **done) == 2.0
    assert metrics.by("deepaas_job_duration_seconds_count", "status") == {("done",): 1}


async def test_state_becomes_metrics() -> None:
    metrics = await shown(counting()[0])
    assert metrics.value("deepaas_requests_in_progress") == 3
    assert metrics.value("deepaas_server_resident_memory_bytes") == 1000
    for model in ("a", "b"):
        assert metrics.value("deepaas_calls_waiting", model=model) == 2
        assert metrics.value("deepaas_calls_running", model=model) == 1
        for state in ("starting", "ready", "ending"):
            assert metrics.value("deepaas_workers", model=model, state=state) == 1
        memory = {
            worker: metrics.value("deepaas_worker_resident_memory_bytes", **one)
            for worker in ("[0]", "[1]")
            for one in [{"model": model, "worker": f"{model}{worker}"}]
        }
        assert memory == {"[0]": 15, "[1]": 7}
        running = {"kind": "train", "status": "running", "model": model}
        assert metrics.value("deepaas_jobs", **running) == 4
        assert metrics.value("deepaas_jobs", **running | {"status": "queued"}) == 0


async def test_client_that_is_limited_to_a_model_sees_no_other() -> None:
    counts, events = counting()
    for model in ("a", "b", ""):
        events.request_ended.report(ended(model))
    metrics = await shown(counts, models=["b"])
    seen = {dict(labels)["model"] for _, labels in metrics if "model" in dict(labels)}
    assert seen == {"b", ""}


async def test_values_of_clients_create_no_time_series() -> None:
    counts, events = counting()
    for one in (ended(), ended(""), ended("", "other", 400, "other")):
        events.request_ended.report(one)
    before = set(await shown(counts))
    for number in range(1000):
        events.request_ended.report(ended(f"model {number}"))
        events.request_ended.report(ended("", f"METHOD{number}", 400, f"code {number}"))
        events.request_refused.report(RequestRefused(f"model {number}", f"code {number}"))
    metrics = await shown(counts)
    refused = ("deepaas_refused_requests_total", (("model", ""), ("reason", "other")))
    assert set(metrics) == before | {refused}
    assert requests_of(metrics)["", "POST", "200", ""] == 1001
    assert requests_of(metrics)["", "other", "400", "other"] == 1001
    assert metrics[refused] == 1000
    assert len(counts._known) == 3  # those that were counted before


@pytest.mark.parametrize(("status", "label"), [(299, "299"), (99, "other"), (1000, "other")])
async def test_status_is_a_number_of_three_digits(status: int, label: str) -> None:
    counts, events = counting()
    events.request_ended.report(ended(status=status))
    assert requests_of(await shown(counts)) == {("a", "POST", label, ""): 1}


def test_all_codes_of_the_package_are_known() -> None:
    assert {*literal_codes(), ""} == CODES
