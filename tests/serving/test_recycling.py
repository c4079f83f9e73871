"""Workers that are replaced after a number of requests or for their memory: no caller notices."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import Serve
from tests.serving.callers import (
    WAIT_SECONDS,
    Caller,
    Journal,
    Load,
    code_of,
    descriptors,
    in_background,
    predicted,
    processes,
    settle,
    wait_for_descriptors,
)
from tests.serving.processes import MEGABYTE, answers, health, lives, pids, wait_gone, wait_ready
from tests.support import Server, predictions, wait_until


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


def ask(server: Server, journal: Journal, number: int, **args: Any) -> Any:
    return predictions(server.predict("gated", params=journal.args(number, **args)))


def wait_settled(server: Server, model: str, workers: int) -> None:
    """Wait until only this many ready workers and the guard are left."""
    wait_until(
        lambda: processes(server) == workers + 1 and len(pids(server, model)) == workers,
        within=WAIT_SECONDS,
        what="the end of all old workers",
    )


class Watch:
    """Polls the number of a server's processes and of its ready workers."""

    def __init__(self, server: Server, model: str) -> None:
        self.processes: list[int] = []
        self.ready: list[int] = []
        self._server = server
        self._model = model
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._end.wait(0.01):
            self.processes.append(processes(self._server))
            self.ready.append(len(pids(self._server, self._model)))

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


# --- --worker-max-requests


@pytest.mark.parametrize("workers", [1, 2])
def test_no_request_is_lost_while_workers_are_recycled(
    serve: Serve, journal: Journal, workers: int
) -> None:
    """Each worker ends only after its replacement is warm."""
    server = serve({}, "zoo.gated", "-p", str(workers), "--worker-max-requests", "30")
    wait_ready(server, "gated", workers)
    before = descriptors(server)

    def call(number: int) -> int:
        answer = ask(server, journal, number, seconds=0.002)
        assert answer["number"] == number
        assert answer["warmed"] == [answer["pid"]]
        return int(answer["pid"])

    with Watch(server, "gated") as watch, Load(call).running() as load:
        wait_until(
            lambda: len(set(load.results)) > 2 * workers or load.has_ended(),
            within=30,
            what="three generations of workers",
        )
    counts = Counter(load.results)
    wait_settled(server, "gated", workers)
    replaced = [count for pid, count in counts.items() if pid not in pids(server, "gated")]
    assert len(replaced) >= 2
    assert min(replaced) >= 30
    assert min(watch.ready) >= workers
    assert max(watch.processes) <= workers + 3  # the guard, a new one, one that is ending
    assert sorted(journal.numbers("begin")) == sorted(set(journal.numbers("begin")))
    journal.assert_one_at_a_time()
    wait_for_descriptors(server, before)
    assert "has answered 30 requests and is replaced" in server.log()
    assert "ERROR" not in server.log()
    assert server.temporary_files() == []


@pytest.mark.parametrize("model", ["gated_async", "gated_batch"])
def test_no_request_of_other_models_is_lost(serve: Serve, journal: Journal, model: str) -> None:
    server = serve({}, f"zoo.{model}", "--worker-max-requests", "50")

    def call(number: int) -> int:
        answer = predictions(server.predict(model, params=journal.args(number)))
        assert answer["number"] == number
        return int(answer["pid"])

    with Load(call, threads=6).running() as load:
        wait_until(
            lambda: len(set(load.results)) > 2 or load.has_ended(), within=30, what="three workers"
        )
    begun = journal.numbers("begin")
    assert sorted(begun) == sorted(set(begun))
    wait_settled(server, model, 1)


def test_worker_may_be_good_for_a_single_request(serve: Serve, journal: Journal) -> None:
    server = serve({}, "zoo.gated", "--worker-max-requests", "1")
    seen = set()
    for number in range(3):
        worker = ask(server, journal, number)["pid"]
        seen.add(worker)
        wait_gone([worker], within=WAIT_SECONDS)
    assert len(seen) == 3
    wait_settled(server, "gated", 1)


@contextlib.contextmanager
def at_work(server: Server, journal: Journal, **args: Any) -> Iterator[tuple[Caller, int]]:
    """Yield the caller of call 2, and the pid of the worker that runs it after reaching its limit.

    The server must recycle workers after one request.
    """
    with Caller(server) as first, Caller(server) as second:
        first.predict("gated", journal.args(1, gate="first"))
        old = journal.wait_for("begin", 1).pid
        second.predict("gated", journal.args(2, gate="gate", **args))
        settle(server)
        journal.open("first")
        assert predicted(first.answer())["pid"] == old
        assert journal.wait_for("begin", 2).pid == old
        yield second, old


def wait_replaced(server: Server, old: int) -> None:
    """Wait until a new worker is ready."""
    wait_until(
        lambda: len(set(pids(server, "gated")) - {old}) == 1 and old not in pids(server, "gated"),
        within=WAIT_SECONDS,
        what="the new worker",
    )


def test_old_worker_finishes_what_it_has_begun(serve: Serve, journal: Journal) -> None:
    """The new worker serves other calls meanwhile."""
    server = serve({}, "zoo.gated", "--worker-max-requests", "1")
    with at_work(server, journal) as (caller, old):
        wait_replaced(server, old)
        assert ask(server, journal, 3)["pid"] != old
        assert lives(old)
        journal.open("gate")
        assert predicted(caller.answer())["pid"] == old
    wait_gone([old])


def test_calls_of_an_old_worker_take_no_room(serve: Serve, journal: Journal) -> None:
    """They do not count towards the queue's limit."""
    server = serve({}, "zoo.gated", "--worker-max-requests", "1", "--queue-size", "1")
    with at_work(server, journal) as (caller, old), Caller(server) as other:
        wait_replaced(server, old)
        other.predict("gated", journal.args(3, gate="gate"))
        new = journal.wait_for("begin", 3).pid
        with Caller(server) as third:
            third.predict("gated", journal.args(4))  # one call may wait
            settle(server)
            assert server.predict("gated").json()["code"] == "queue_full"
            journal.open("gate")
            assert predicted(other.answer())["pid"] == new
            assert predicted(third.answer())["number"] == 4
        assert predicted(caller.answer())["pid"] == old


def test_stream_of_the_old_worker_goes_on_to_its_end(serve: Serve, journal: Journal) -> None:
    server = serve({}, "zoo.gated", "--worker-max-requests", "1")
    with at_work(server, journal, do="stream", size=2) as (caller, old):
        wait_replaced(server, old)
        journal.open("gate")
        caller.request("GET", "/v2/health/live", headers={"Connection": "close"})
        text = caller.rest().decode()
    assert f'"pid":{old}' in text
    assert "\r\n0\r\n\r\nHTTP/1.1 200 OK" in text
    wait_gone([old])


FLAWED = """\
import os
import pathlib

HERE = pathlib.Path(__file__).parent


def warm():
    if (HERE / "flawed").exists():
        raise RuntimeError("too cold")


def predict(**kwargs):
    return os.getpid()
"""


def test_worker_stays_when_no_new_one_can_be_started(serve: Serve, tmp_path: Path) -> None:
    """The replacement is tried again later."""
    (tmp_path / "model.py").write_text(FLAWED)
    flags = ["--worker-max-requests", "2", "--restart-delay-max", "1"]
    server = serve({}, str(tmp_path / "model.py"), *flags)
    (tmp_path / "flawed").touch()
    old = answers(server, "model")
    assert answers(server, "model") == old
    wait_until(lambda: "stays, as the new one" in server.log(), within=10, what="the failure")
    assert "RuntimeError: too cold" in server.log()
    assert answers(server, "model") == old
    assert health(server, "model")["ready"] is True
    (tmp_path / "flawed").unlink()
    wait_until(lambda: answers(server, "model") != old, within=10, what="the new worker")
    wait_gone([old])


def test_worker_is_kept_unless_told_otherwise(serve: Serve, journal: Journal) -> None:
    server = serve({}, "zoo.gated")
    assert len({ask(server, journal, number)["pid"] for number in range(300)}) == 1


def test_old_worker_that_dies_at_work_is_replaced_once(serve: Serve, journal: Journal) -> None:
    server = serve({}, "zoo.gated", "--worker-max-requests", "1")
    with at_work(server, journal, do="exit") as (caller, old):
        journal.open("gate")
        assert code_of(caller.answer()) == "worker_died"
    wait_gone([old])
    wait_settled(server, "gated", 1)
    assert ask(server, journal, 3)["pid"] != old


# --- --worker-max-memory


def memory_of(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss) // MEGABYTE


@pytest.fixture(scope="module")
def idle_size(serve_all: Serve) -> int:
    """Megabytes of memory of a worker of zoo.gated before it grows."""
    server = serve_all({}, "zoo.gated")
    server.predict("gated")
    return memory_of(pids(server, "gated")[0])


def test_worker_that_grows_is_replaced_and_no_request_is_lost(
    serve: Serve, journal: Journal, idle_size: int
) -> None:
    limit = idle_size + 60
    server = serve({}, "zoo.gated", "--worker-max-memory", str(limit))

    def call(number: int) -> int:
        return int(ask(server, journal, number, do="keep", size=256 * 1024)["pid"])

    with Watch(server, "gated") as watch, Load(call, threads=2).running() as load:
        wait_until(
            lambda: len(set(load.results)) > 1 or load.has_ended(), within=30, what="a new worker"
        )
    assert min(watch.ready) == 1
    assert max(watch.processes) <= 4
    assert " MB of memory and is replaced" in server.log()
    assert "ERROR" not in server.log()
    journal.assert_one_at_a_time()


def test_one_is_replaced_at_a_time(serve: Serve, journal: Journal, idle_size: int) -> None:
    """Several new workers at once would need too much memory."""
    server = serve({}, "zoo.gated", "-p", "3", "--worker-max-memory", str(idle_size + 60))
    old = set(wait_ready(server, "gated", 3))
    with Watch(server, "gated") as watch:
        calls = []
        for number in range(3):
            sent = journal.args(number, gate="gate", do="keep", size=100 * MEGABYTE)
            calls.append(Caller(server))
            calls[-1].predict("gated", sent)
            journal.wait_for("begin", number)
        journal.open("gate")
        assert {predicted(caller.answer())["pid"] for caller in calls} == old
        for caller in calls:
            caller.leave()
        wait_gone(sorted(old), within=WAIT_SECONDS)
    assert min(watch.ready) == 3
    assert max(watch.processes) <= 6  # the guard, three, a new one, one that is ending
    wait_settled(server, "gated", 3)


def test_limit_below_what_the_model_needs_is_told_and_changes_nothing(
    serve: Serve, journal: Journal
) -> None:
    server = serve({}, "zoo.gated", "--worker-max-memory", "10")
    workers = pids(server, "gated")
    until = time.monotonic() + 2.5  # the server checks it every second
    while time.monotonic() < until:
        assert ask(server, journal, 1)["pid"] == workers[0]
        assert processes(server) == 2
    assert pids(server, "gated") == workers
    assert "before its first call, more than it may have" in server.log()


def test_recycling_waits_for_a_reload_that_runs(serve: Serve, tmp_path: Path) -> None:
    """Both replace workers, one after the other, and one worker remains."""
    (tmp_path / "model.py").write_text(FLAWED)
    flags = ["--worker-max-requests", "3", "--admin-endpoint"]
    server = serve({}, str(tmp_path / "model.py"), *flags)

    def call(number: int) -> Any:
        return predictions(server.predict("model"))

    with Load(call, threads=2).running() as load:
        for _ in range(3):
            load.wait_for_more(5)
            with in_background(lambda: server.post("/v2/models/model/reload")) as reload:
                assert reload.result(timeout=30).status_code == 200
    wait_settled(server, "model", 1)
    assert "ERROR" not in server.log()
