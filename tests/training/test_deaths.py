"""The process of a training dies, or `train` ends it, in different ways."""

from __future__ import annotations

import os
import signal
import time
from datetime import datetime, timedelta
from typing import Any

import psutil
import pytest

from tests.conftest import Serve
from tests.support import Server, wait_until
from tests.training.trainings import Place, Trainings, of_training

MODELS = {"trains": "zoo.trains"}
CHILD = "deepaas.jobs.child import"
"""A part of the command line that only a process that trains has."""


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all(MODELS)


@pytest.fixture
def trainings(server: Server) -> Trainings:
    return Trainings(server)


def ended(trainings: Trainings, uuid: str) -> Any:
    """Wait for the end of a training and its processes; return its record, with checked dates."""
    trainings.wait(uuid)
    trainings.wait_gone(uuid)
    record = trainings.get(uuid)
    began, finished = (
        datetime.fromisoformat(record[f"{name}_date"]) for name in ("start", "finish")
    )
    assert datetime.fromisoformat(record["date"]) <= began <= finished
    assert (record["load_seconds"] is None) == (record["duration"] is None)
    if record["duration"] is not None:
        measured = datetime.strptime(record["duration"], "%H:%M:%S.%f") - datetime(1900, 1, 1)
        loading = timedelta(seconds=record["load_seconds"])
        assert abs(finished - began - loading - measured) < timedelta(seconds=30)
    (shown,) = [one for one in trainings.list() if one["uuid"] == uuid]
    assert shown.items() <= record.items()
    return record


def assert_error(record: Any, message: str, exit_code: int | None, signum: int | None) -> None:
    assert record["status"] == "error"
    assert message in record["message"]
    assert (record["exit_code"], record["signal"]) == (exit_code, signum)
    assert "result" not in record


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGABRT])
def test_a_process_that_is_killed_is_an_error(trainings: Trainings, signum: signal.Signals) -> None:
    uuid = trainings.begin(do="kill", size=int(signum))
    record = ended(trainings, uuid)
    assert_error(record, f"signal {int(signum)} ({signum.name})", None, signum)
    assert "training begins" in trainings.log(uuid)
    assert record["message"] in trainings.log(uuid)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSEGV])
def test_a_process_that_is_killed_from_outside_is_an_error(
    trainings: Trainings, place: Place, signum: signal.Signals
) -> None:
    uuid = trainings.begin(place=place)
    place.wait_for_attempt()
    os.kill(int(place.attempts[0]), signum)
    assert_error(ended(trainings, uuid), signum.name, None, signum)


def test_of_sigkill_it_is_said_that_memory_may_have_run_out(trainings: Trainings) -> None:
    assert "memory" in ended(trainings, trainings.begin(do="kill", size=9))["message"]


def test_a_segmentation_fault_is_an_error(trainings: Trainings) -> None:
    assert_error(ended(trainings, trainings.begin(do="segfault")), "SIGSEGV", None, 11)


def test_a_process_that_dies_before_the_model_is_loaded_is_an_error(
    trainings: Trainings, place: Place
) -> None:
    uuid = trainings.begin(place=place)
    work: list[psutil.Process] = []

    def is_there() -> bool:
        work[:] = [one for one in of_training(uuid) if CHILD in str(one.cmdline())]
        return bool(work)

    wait_until(is_there, within=10, what="its process")
    work[0].kill()
    assert_error(ended(trainings, uuid), "SIGKILL", None, 9)


@pytest.mark.parametrize("do", ["memory", "exhaust"])
def test_too_little_memory_is_an_error(trainings: Trainings, do: str) -> None:
    uuid = trainings.begin(do=do)
    assert_error(ended(trainings, uuid), "MemoryError", 1, None)
    assert "MemoryError" in trainings.log(uuid)


@pytest.mark.parametrize("code", [0, 3])
def test_an_exit_without_a_result_is_an_error(trainings: Trainings, code: int) -> None:
    record = ended(trainings, trainings.begin(do="_exit", size=code))
    assert_error(record, f"exit code {code} before train had returned", code, None)


@pytest.mark.parametrize(
    ("do", "message"),
    [
        ("raise", "ValueError: too cold"),
        ("http", "too cold"),
        ("base", "too cold"),
        ("interrupt", "KeyboardInterrupt"),
        ("sys.exit", "sys.exit("),
    ],
)
def test_whatever_train_raises_is_an_error(trainings: Trainings, do: str, message: str) -> None:
    uuid = trainings.begin(do=do, text="too cold")
    record = ended(trainings, uuid)
    assert_error(record, message, 1, None)
    assert "Traceback" in trainings.log(uuid)
    assert "too cold" in trainings.log(uuid) or do == "interrupt"


def test_what_is_no_json_is_shown_as_text(trainings: Trainings) -> None:
    record = ended(trainings, trainings.begin(do="object"))
    assert (record["status"], record["exit_code"]) == ("done", 0)
    assert "it is shown as text" in record["message"]
    assert record["result"]["output"]["text"] == "learned"
    assert "object" in record["result"]["output"]["what"]


def test_a_large_result_is_an_artefact(server: Server, trainings: Trainings) -> None:
    size = 3_000_000
    uuid = trainings.begin(do="large", size=size)
    record = ended(trainings, uuid)
    assert (record["status"], record["exit_code"]) == ("done", 0)
    assert record["message"].endswith(f"has {size + 2} bytes: see the artefact output.json")
    assert record["result"]["output"] is None
    artefact = server.get(f"{trainings.path}{uuid}/artifacts/output.json")
    assert artefact.json() == "x" * size


def test_a_training_that_closes_its_output_is_done(trainings: Trainings) -> None:
    record = ended(trainings, trainings.begin(do="close"))
    assert record["status"] == "done"
    assert record["result"]["output"] == {"text": "learned"}


def test_of_much_output_the_newest_is_kept(serve: Serve) -> None:
    server = serve(MODELS, "--train-log-size", "2000000")
    trainings = Trainings(server)
    memory = psutil.Process(server.pid).memory_info().rss
    uuid = trainings.begin(do="print", size=100_000_000)
    record = ended(trainings, uuid)
    assert (record["status"], record["exit_code"]) == ("done", 0)
    answer = server.get(f"{trainings.path}{uuid}/logs")
    assert 1_000_000 < len(answer.content) <= 2_000_000
    assert answer.text.endswith("printed\n")
    assert int(answer.headers["X-Log-Offset"]) + len(answer.content) > 100_000_000
    files = server.home.joinpath(".local/state/deepaas/work", uuid, "log").iterdir()
    assert sum(file.stat().st_size for file in files) <= 2_000_000
    assert psutil.Process(server.pid).memory_info().rss - memory < 30_000_000


@pytest.mark.parametrize("do", ["deaf", "early deaf"])
def test_one_that_is_deaf_is_cancelled_all_the_same(
    trainings: Trainings, place: Place, do: str
) -> None:
    place.open_gate()
    uuid = trainings.begin(place=place, do=do)
    place.wait_until_deaf()
    assert trainings.delete(uuid).json()["status"] == "cancelled"
    record = ended(trainings, uuid)
    assert (record["status"], record["exit_code"], record["signal"]) == ("cancelled", None, 9)


def test_how_long_it_may_take_to_end_is_an_option(serve: Serve, place: Place) -> None:
    trainings = Trainings(serve(MODELS, "--cancel-timeout", "4"))  # a second more than the default
    uuid = trainings.begin(place=place, do="early deaf")
    place.wait_until_deaf()
    began = time.monotonic()
    assert trainings.delete(uuid).json()["status"] == "cancelled"
    assert time.monotonic() - began >= 4
    assert ended(trainings, uuid)["signal"] == signal.SIGKILL


def test_a_thread_that_goes_on_is_waited_for(trainings: Trainings) -> None:
    uuid = trainings.begin(do="thread", seconds=1)
    record = ended(trainings, uuid)
    assert (record["status"], record["exit_code"]) == ("done", 0)
    assert trainings.log(uuid).endswith("the thread has ended\n")


def test_a_thread_that_does_not_end_is_not_waited_for_too_long(serve: Serve) -> None:
    trainings = Trainings(serve(MODELS, "--train-exit-timeout", "1"))
    uuid = trainings.begin(do="thread", seconds=60)
    assert trainings.wait(uuid)["status"] == "done"
    following = trainings.begin()
    record = ended(trainings, uuid)
    assert (record["status"], record["exit_code"], record["signal"]) == ("done", None, 9)
    assert record["result"]["output"] == {"text": "learned"}
    assert "did not end after train had returned" in trainings.log(uuid)
    assert trainings.wait(following)["status"] == "done"


def test_a_server_that_stops_does_not_wait_for_a_thread(serve: Serve) -> None:
    server = serve(MODELS, "--train-exit-timeout", "3600")
    trainings = Trainings(server)
    uuid = trainings.begin(do="thread", seconds=600)
    assert trainings.wait(uuid)["status"] == "done"
    server.stop()
    assert of_training(uuid) == []
