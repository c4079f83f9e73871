"""The cost of counting one request for the metrics, and of reading them.

    python -m benchmarks.metrics

All times are CPU times, and the cases take turns, so that other processes hardly matter.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from deepaas.config.kinds import Bounds
from deepaas.config.metrics import METRICS
from deepaas.events import Event, RequestEnded, Times
from deepaas.http.request import Request
from deepaas.metrics.counts import Counts
from deepaas.metrics.page import MetricsPage
from deepaas.metrics.state import ModelState, WorkerState

ROUNDS = 20
CALLS = 50_000
BOUNDS = Bounds()(next(one.default for one in METRICS if one.name == "metrics-buckets"))

PARTS = Times(queue=0.00008, validate=0.00002, batch_wait=0.0, predict=0.0003, encode=0.00001)


class State:
    """The state of a server whose models have one worker."""

    def active_requests(self) -> int:
        return 1

    def memory(self) -> int:
        return 1

    def model(self, name: str) -> ModelState:
        return ModelState(0, 0, [WorkerState(f"{name}[0]", "ready", 1)])


def ended(model: str = "m0", times: Times | None = None, status: int = 200) -> RequestEnded:
    texts = ("127.0.0.1", "POST", "/v2/models/m0/predict/", model, status, "")
    return RequestEnded(*texts, 300, 0.0005, "wrk", "id", "", is_fast=True, times=times)


def cases() -> dict[str, Callable[[], object]]:
    """Return what is measured: an event, reported to a listener that does nothing and to counts."""
    idle: Event[RequestEnded] = Event()
    idle.listen(lambda _: None)
    counting: Event[RequestEnded] = Event()
    counting.listen(Counts(["m0"], BOUNDS).note_request)
    plain, predicted = ended(), ended(times=PARTS)
    return {
        "a listener that does nothing": lambda: idle.report(predicted),
        "a request without times": lambda: counting.report(plain),
        "a prediction": lambda: counting.report(predicted),
    }


def seconds_of(call: Callable[[], object]) -> float:
    """Return the CPU time of a call, in seconds."""
    began = time.process_time()
    for _ in range(CALLS):
        call()
    return (time.process_time() - began) / CALLS


def measure_counting() -> None:
    measured: dict[str, list[float]] = {name: [] for name in cases()}
    for _ in range(ROUNDS):
        for name, call in cases().items():
            measured[name].append(seconds_of(call))
    for name, seconds in measured.items():
        median, least = statistics.median(seconds), min(seconds)
        print(f"{name}: {median * 1e6:.2f} µs (median), {least * 1e6:.2f} µs (least)")


async def measure_reading(models: int) -> None:
    names = [f"m{number}" for number in range(models)]
    counts = Counts(names, BOUNDS)
    for name in names:
        for status in (200, 404, 503):
            counts.note_request(ended(name, PARTS, status))
    request = cast(Request, SimpleNamespace(headers=SimpleNamespace(getall=lambda *_: [])))
    page = MetricsPage(counts, State())
    turns: list[float] = []
    watching = asyncio.create_task(_note_turns(turns))
    await asyncio.sleep(0)
    began = time.process_time()
    response: Any = await page.respond(request)
    seconds = time.process_time() - began
    watching.cancel()
    print(
        f"reading {models} model(s): {seconds * 1e3:.1f} ms, {len(response.body)} bytes; "
        f"turns of the event loop: {statistics.median(turns) * 1e3:.2f} ms (median), "
        f"{max(turns) * 1e3:.2f} ms (longest)"
    )


async def _note_turns(turns: list[float]) -> None:
    last = time.process_time()
    while True:
        await asyncio.sleep(0)
        now = time.process_time()
        turns.append(now - last)
        last = now


if __name__ == "__main__":
    measure_counting()
    for number in (1, 10, 100):
        asyncio.run(measure_reading(number))
