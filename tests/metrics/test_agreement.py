"""After kills, reloads, clients that leave and refusals, the counters agree to the request."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deepaas.exceptions import RequestError
from deepaas.metrics.counts import PARTS
from tests.conftest import Serve
from tests.metrics.generator import Key, Tally, mixture
from tests.metrics.reading import Metrics, read, requests_of
from tests.serving.callers import Caller, Journal, queue
from tests.support import Server, leased_port, wait_until

QUEUE_SIZE = 3
ROUNDS = 25
THREADS = 4

LIMITS = ["--client-max-size", "2000", "--queue-size", str(QUEUE_SIZE)]


@contextlib.contextmanager
def counted_server(serve: Serve, *flags: str) -> Iterator[tuple[Server, int]]:
    """Start a server, and yield it and the port of its metrics, whose requests do not count."""
    models = ["zoo.dies", "zoo.gated", "zoo.batched:Batched"]
    with leased_port() as port:
        own_port = ["--metrics-port", str(port), "--metrics-buckets", "0.01,1"]
        yield serve({}, *models, *LIMITS, *own_port, "--admin-endpoint", *flags), port


def settled(port: int, tally: Tally) -> Metrics:
    """Wait until the server has counted as many requests, and return its metrics."""
    wait_until(
        lambda: requests_of(read(port)).total() >= tally.seen.total(),
        within=30,
        what=f"{tally.seen.total()} requests in the metrics",
    )
    return read(port)


def assert_agreement(metrics: Metrics, tally: Tally) -> None:
    seen = Counter({tuple(key): number for key, number in tally.seen.items()})
    assert requests_of(metrics) == seen
    durations = metrics.by("deepaas_request_duration_seconds_count", "model", "method")
    by_method: Counter[tuple[str, ...]] = Counter()
    for (model, method, *_), number in seen.items():
        by_method[model, method] += number
    assert durations == by_method


def assert_batches_agree(metrics: Metrics, tally: Tally) -> None:
    """All predictions of the model `batched` have succeeded, so each was in one batch."""
    number = tally.seen["batched", "POST", "200", ""] - tally.reloads
    assert number > 0
    assert metrics.value("deepaas_batch_size_sum", model="batched") == number
    for part in PARTS:
        name = "deepaas_prediction_part_seconds_count"
        assert metrics.value(name, model="batched", part=part) == number


def wait_for_workers(port: int, model: str) -> None:
    """Wait until each worker that was ready has ended, except the one that is ready now."""

    def agree() -> bool:
        metrics = read(port)
        started = metrics.value("deepaas_worker_start_seconds_count", model=model)
        ends = metrics.by("deepaas_worker_ends_total", "model", "cause")
        ended = sum(n for key, n in ends.items() if key[0] == model and key[1] != "not_ready")
        return metrics.value("deepaas_workers", model=model, state="ready") == started - ended == 1

    wait_until(agree, within=30, what=f"one worker of {model}")


def refusals(tally: Tally) -> Counter[tuple[str, ...]]:
    """Return the requests that the server has refused, by model and reason."""
    codes = set(_codes(RequestError))
    found: Counter[tuple[str, ...]] = Counter()
    for (model, _, _, code), number in tally.seen.items():
        if code in codes:
            found[model, code] += number
    return found


def _codes(kind: type[RequestError]) -> Iterator[str]:
    for one in kind.__subclasses__():
        yield one.code
        yield from _codes(one)


def fill_queue(tally: Tally, journal: Journal, numbers: range, port: int) -> None:
    """Send more predictions than may wait, so that the last ones are refused."""
    with queue(tally.server, "gated", journal, numbers, gate="full") as callers:
        for _ in range(2 * len(numbers)):  # `settle` asks twice after each call
            tally.count("", "GET", 200, "")
        refused = callers[1 + QUEUE_SIZE :]
        assert refused
        for caller in refused:
            assert tally.note("gated", "POST", caller.answer()).status == 503
        journal.wait_for("begin", numbers[0])
        metrics = read(port)
        assert metrics.by("deepaas_calls_waiting", "model") == {("gated",): QUEUE_SIZE}
        assert metrics.by("deepaas_calls_running", "model") == {("gated",): 1}
        assert metrics.value("deepaas_requests_in_progress") == QUEUE_SIZE + 1
        journal.open("full")
        for caller in callers[: 1 + QUEUE_SIZE]:
            assert tally.note("gated", "POST", caller.answer()).status == 200


def kill_worker(tally: Tally) -> None:
    """Kill the worker of the model `dies` while others use it."""
    answer = tally.server.get("/v2/models/dies/ready")
    code = "" if answer.status_code == 200 else str(answer.json().get("code", ""))
    tally.count("dies", "GET", answer.status_code, code)
    for pid in answer.json().get("pids", []):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def ask_undisturbed(tally: Tally) -> None:
    """Send requests of all kinds while all workers are ready, then let one die."""
    for request in mixture(tally):
        request()
    with Caller(tally.server) as caller:
        caller.request("GET", "/v2/health/live")
        tally.note("", "GET", caller.answer())
        for number in range(3):  # the first has a new head, so it cannot take the fast path
            assert tally.predict(caller, "dies", {"number": number}).status == 200
            assert tally.predict(caller, "batched", {"id": number}).status == 200
        assert tally.predict(caller, "dies", {"how": "sigkill"}).status == 500


def run_load(tally: Tally, journal: Journal, rounds: int) -> None:
    """Send requests of all kinds from several threads, while workers are killed and reloaded."""
    numbers = itertools.count(1000)

    def predict(seed: int) -> None:
        with Caller(tally.server) as caller:
            caller.request("GET", "/v2/health/live")
            tally.note("", "GET", caller.answer())
            for number in range(rounds):
                how = "sigkill" if number % 9 == seed else "live"
                tally.predict(caller, "dies", {"how": how, "number": number})

    def batch(seed: int) -> None:
        with Caller(tally.server) as caller:
            for number in range(rounds):
                tally.predict(caller, "batched", {"id": number})

    def mix(seed: int) -> None:
        requests = mixture(tally)
        random.Random(seed).shuffle(requests)
        for request in requests:
            request()

    def disturb(seed: int) -> None:
        for _ in range(3):
            tally.leave("gated", journal, next(numbers))
            kill_worker(tally)
            tally.ask("batched", "POST", "/v2/models/batched/reload")
            tally.reloads += 1

    works = [predict, predict, batch, batch, mix, mix, disturb]
    with ThreadPoolExecutor(len(works)) as executor:
        futures = [executor.submit(work, seed) for seed, work in enumerate(works)]
        for future in futures:
            future.result()


@pytest.mark.parametrize("fast", [True, False])
def test_counters_agree_to_the_request(fast: bool, serve: Serve, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    with counted_server(serve, "--fast-path" if fast else "--nofast-path") as (server, port):
        tally = Tally(server)
        fill_queue(tally, journal, range(6), port)
        ask_undisturbed(tally)
        run_load(tally, journal, ROUNDS if fast else ROUNDS // 3)
        metrics = settled(port, tally)
        assert_agreement(metrics, tally)
        assert metrics.by("deepaas_refused_requests_total", "model", "reason") == refusals(tally)
        hits = metrics.by("deepaas_fast_path_requests_total", "model")
        assert bool(hits["dies",]) == fast
        assert bool(hits["batched",]) == fast
        assert hits["dies",] <= sum(
            number for key, number in tally.seen.items() if key[:2] == ("dies", "POST")
        )
        assert_batches_agree(metrics, tally)
        assert metrics.by("deepaas_calls_waiting", "model") == {}
        assert metrics.value("deepaas_requests_in_progress") == 0
        for model in ("dies", "gated", "batched"):
            wait_for_workers(port, model)
        ends = read(port).by("deepaas_worker_ends_total", "model", "cause")
        assert ends["dies", "died"] > 0
        assert ends["batched", "replaced"] == tally.reloads
        expected: list[Key] = [
            ("gated", "POST", "499", "client_closed"),
            ("gated", "POST", "503", "queue_full"),
            ("dies", "POST", "500", "worker_died"),
            ("dies", "POST", "413", "too_large"),
            ("", "other", "400", "bad_request"),
            ("dies", "other", "405", "method_not_allowed"),
            ("", "GET", "421", "foreign_host"),
            ("", "other", "431", "head_too_large"),
            ("", "GET", "404", "not_found"),
            ("batched", "POST", "200", ""),
        ]
        assert [key for key in expected if not tally.seen[key]] == []


def test_counters_do_not_go_back_on_reload(serve: Serve) -> None:
    with counted_server(serve) as (server, port):
        for _ in range(3):
            server.predict("dies", json={"how": "live"})
        before = read(port)
        assert server.post("/v2/models/dies/reload").status_code == 200
        server.predict("dies", json={"how": "live"})
        after = read(port)
    counters = [key for key in before if before.types.get(key[0]) != "gauge"]
    assert len(counters) > 30
    assert [key for key in counters if after[key] < before[key]] == []
    assert requests_of(after)["dies", "POST", "200", ""] == 5
