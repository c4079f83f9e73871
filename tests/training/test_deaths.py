"""How a training ends that does not end well, or in an odd manner: what its record says then."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import psutil
import pytest

from tests.conftest import Serve
from tests.support import Server, wait_until
from tests.training.trainings import Place, Trainings, of_training, pid_of_work

MODELS = {"trains": "zoo.trains"}


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all(MODELS, "--train-log-size", "1000000", "--max-trainings", "4")


@pytest.fixture
def trainings(server: Server) -> Trainings:
    return Trainings(server)


def ended(trainings: Trainings, uuid: str) -> Any:
    """The record of a training of which nothing runs any more, checked for what is always true."""
    trainings.wait(uuid)
    trainings.wait_gone(uuid)
    record = trainings.get(uuid)
    asked, started, finished = (
        datetime.fromisoformat(record[name]) for name in ("date", "start_date", "finish_date")
    )
    assert asked <= started <= finished <= datetime.now()
    assert record["duration"] == str(finished - started)
    assert finished - started < timedelta(seconds=60)
    assert record["attempt"] == 1
    listed = {one["uuid"]: one for one in trainings.list()}[uuid]
    assert listed.items() <= record.items()
    assert "training begins" in trainings.log(uuid) or record["model"] != "trains"
    return record


@pytest.mark.parametrize(
    ("arguments", "message", "exit_code", "signum"),
    [
        ({"do": "kill", "size": 9}, r"signal 9 \(SIGKILL\).*memory", None, 9),
        ({"do": "kill", "size": 11}, r"signal 11 \(SIGSEGV\)", None, 11),
        ({"do": "segfault"}, r"signal 11 \(SIGSEGV\)", None, 11),
        ({"do": "_exit", "size": 0}, "exit code 0 before train had returned", 0, None),
        ({"do": "_exit", "size": 3}, "exit code 3 before train had returned", 3, None),
        ({"do": "memory"}, "MemoryError", 1, None),
        ({"do": "raise", "text": "it is odd"}, "ValueError: it is odd", 1, None),
        ({"do": "http", "text": "no such data"}, "^no such data$", 1, None),
        ({"do": "base", "text": "no such base"}, "^no such base$", 1, None),
        ({"do": "interrupt"}, "KeyboardInterrupt", 1, None),
        ({"do": "sys.exit", "text": "enough"}, r"sys.exit\('enough'\)", 1, None),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_its_end_is_an_error_with_the_cause(
    trainings: Trainings,
    arguments: dict[str, Any],
    message: str,
    exit_code: int | None,
    signum: int | None,
) -> None:
    uuid = trainings.begin(**arguments)
    record = ended(trainings, uuid)
    assert record["status"] == "error"
    assert re.search(message, record["message"])
    assert (record["exit_code"], record["signal"]) == (exit_code, signum)
    assert "result" not in record
    cause = re.search(message.strip("^$"), trainings.log(uuid))
    assert cause or "SystemExit: enough" in trainings.log(uuid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_from_outside_it_says_by_what(
    trainings: Trainings, place: Place, number: signal.Signals
) -> None:
    uuid = trainings.begin(place=place)
    place.wait_for_attempt()
    os.kill(pid_of_work(uuid), number)
    record = ended(trainings, uuid)
    assert record["status"] == "error"
    assert number.name in record["message"]
    assert record["signal"] == number


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (400_000_000, 400_000_000))
def get_train_args(): return {}
def train():
    print("training begins", flush=True)
    return len(bytearray(10**9))
"""


def test_out_of_memory_is_told(serve: Serve, tmp_path: Any) -> None:
    (tmp_path / "limited.py").write_text(LIMITED)
    server = serve({}, str(tmp_path / "limited.py"))
    trainings = Trainings(server, "limited")
    record = ended(trainings, trainings.begin())
    assert record["status"] == "error"
    assert "MemoryError" in record["message"]


def test_result_that_is_no_json_is_shown_as_text(trainings: Trainings) -> None:
    record = ended(trainings, trainings.begin(do="object", text="a"))
    assert record["status"] == "done"
    assert record["result"]["output"]["text"] == "a"
    assert "object object at" in record["result"]["output"]["what"]
    assert "no JSON" in record["message"]


def test_result_that_is_large_becomes_an_artefact(serve: Serve) -> None:
    trainings = Trainings(serve(MODELS, "--train-result-size", "1000"))
    small = ended(trainings, trainings.begin(do="large", size=900))
    assert small["result"]["output"] == "x" * 900
    uuid = trainings.begin(do="large", size=1100)
    large = ended(trainings, uuid)
    assert large["status"] == "done"
    assert large["result"]["output"] is None
    assert "output.json" in large["message"]
    answer = trainings.server.get(f"{trainings.path}{uuid}/artifacts/output.json")
    assert answer.json() == "x" * 1100


def test_of_much_output_the_newest_is_kept(server: Server, trainings: Trainings) -> None:
    before = psutil.Process(server.pid).memory_info().rss
    uuid = trainings.begin(do="print", size=100_000_000)
    assert trainings.wait(uuid)["status"] == "done"
    trainings.wait_gone(uuid)
    log = trainings.log(uuid)
    assert 250_000 < len(log) <= 1_000_000
    assert log.endswith("printed\n")
    kept = server.home / ".local/state/deepaas/work" / uuid / "log"
    assert sum(file.stat().st_size for file in kept.iterdir()) <= 1_000_000
    assert psutil.Process(server.pid).memory_info().rss - before < 20_000_000


def test_closed_output_is_no_harm(trainings: Trainings) -> None:
    record = ended(trainings, trainings.begin(do="close", text="a"))
    assert record["status"] == "done"
    assert record["result"]["output"] == {"text": "a"}


def test_one_that_ignores_sigterm_is_killed(trainings: Trainings, place: Place) -> None:
    uuid = trainings.begin(place=place, do="early deaf")
    wait_until(lambda: "deaf" in place.attempts, within=20)
    began = datetime.now()
    answer = trainings.delete(uuid)
    assert answer.json()["status"] == "cancelled"
    assert of_training(uuid) == []
    assert datetime.now() - began < timedelta(seconds=15)  # 3 s, on a machine that is not busy
    assert trainings.get(uuid)["signal"] == signal.SIGKILL


def test_how_long_it_may_take_to_end_is_an_option(serve: Serve, place: Place) -> None:
    trainings = Trainings(serve(MODELS, "--cancel-timeout", "0"))
    uuid = trainings.begin(place=place, do="early deaf")
    wait_until(lambda: "deaf" in place.attempts, within=20)
    began = datetime.now()
    trainings.delete(uuid)
    assert datetime.now() - began < timedelta(seconds=2.9)


THREAD = """
import threading, time
def get_train_args(): return {}
def train():
    print("training begins", flush=True)
    threading.Thread(target=time.sleep, args=(1000,)).start()
    return "returned"
"""


def test_thread_that_goes_on_is_given_some_time(serve: Serve, tmp_path: Any) -> None:
    (tmp_path / "threads.py").write_text(THREAD)
    server = serve({}, str(tmp_path / "threads.py"), "--train-exit-timeout", "1")
    trainings = Trainings(server, "threads")
    uuid = trainings.begin()
    record = ended(trainings, uuid)
    assert record["status"] == "done"
    assert record["result"]["output"] == "returned"
    assert record["signal"] == signal.SIGKILL
    assert "did not end after train had returned" in trainings.log(uuid)


# --- children --------------------------------------------------------------------------------


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that looks like a child of a training, and is none."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_children_stay_up_when_it_is_done(trainings: Trainings, place: Place) -> None:
    uuid = trainings.begin(place=place, do="early children", text="a")
    record = trainings.wait(uuid)
    assert record["status"] == "done"
    assert record["result"]["output"] == {"text": "a"}
    wait_until(lambda: trainings.get(uuid)["exit_code"] == 0, within=20)
    assert len(place.running_children) == 3
    trainings.delete(uuid)


def test_children_end_with_the_next_training(
    serve: Serve, places: list[Place], bystander: subprocess.Popen[bytes]
) -> None:
    trainings = Trainings(serve(MODELS))
    uuid = trainings.begin(place=places[0], do="early children")
    trainings.wait(uuid)
    places[1].open_gate()
    trainings.wait(trainings.begin(place=places[1]))
    assert places[0].running_children == []
    assert bystander.poll() is None
    assert trainings.get(uuid)["status"] == "done"


def test_workers_are_replaced_though_children_stay(serve: Serve, place: Place) -> None:
    server = serve(MODELS)
    trainings = Trainings(server)
    before = server.get("/v2/models/trains/ready").json()["pids"]
    uuid = trainings.begin(place=place, do="early children")
    trainings.wait(uuid)
    wait_until(lambda: server.get("/v2/models/trains/ready").json()["pids"] != before, within=20)
    assert len(place.running_children) == 3
    trainings.delete(uuid)


def test_children_end_when_the_record_is_removed(trainings: Trainings, place: Place) -> None:
    uuid = trainings.begin(place=place, do="early children")
    trainings.wait(uuid)
    assert trainings.delete(uuid).json()["status"] == "done"
    assert place.running_children == []


def test_children_end_when_it_is_cancelled(
    trainings: Trainings, places: list[Place], bystander: subprocess.Popen[bytes]
) -> None:
    place, other = places[:2]
    second = trainings.begin(place=other)
    uuid = trainings.begin(place=place, do="early children, then wait")
    place.wait_for_children()
    other.wait_for_attempt()
    assert trainings.delete(uuid).json()["status"] == "cancelled"
    assert place.running_children == []
    assert bystander.poll() is None
    assert trainings.get(second)["status"] == "running"
    other.open_gate()
    assert trainings.wait(second)["status"] == "done"


def test_children_end_when_it_fails(trainings: Trainings, place: Place) -> None:
    uuid = trainings.begin(place=place, do="early children, then raise", text="a")
    record = ended(trainings, uuid)
    assert record["status"] == "error"
    assert record["message"] == "ValueError: a"
    assert place.running_children == []
