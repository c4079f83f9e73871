"""Supervisors that are killed, with or without their servers; and similar other processes."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.conftest import short_and_long
from tests.support import run_program, wait_until
from tests.training.locking import stop_without_lock
from tests.training.trainings import (
    END_SECONDS,
    Place,
    Site,
    Trainings,
    kill_server,
    of_training,
    pid_of_work,
    supervisor_of,
)

UNSEEN = "it ended while no server and no supervisor process was running; the cause is unknown"


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does not belong to any training."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        assert process.poll() is None
        process.kill()


def set_supervisor(site: Site, uuid: str, supervisor: str) -> None:
    """Set the supervisor in the record to another process."""
    db = sqlite3.connect(site.state / "trainings.db", timeout=30, isolation_level=None)
    db.execute("UPDATE records SET keeper = ? WHERE uuid = ?", (supervisor, uuid))
    db.close()


def begin_with_children(trainings: Trainings, place: Place) -> str:
    """Start a training, and return its uuid when its children run."""
    uuid = trainings.begin(place=place, do="early children, then wait")
    place.wait_for_children()
    return uuid


def assert_error(record: Any, message: str) -> None:
    assert record["status"] == "error"
    assert record["message"].startswith(message)
    assert record["attempt"] == 1
    assert record["finish_date"] >= record["start_date"]
    assert "result" not in record


def assert_gone(uuid: str, place: Place) -> None:
    wait_until(lambda: not of_training(uuid), within=END_SECONDS, what="the end of all processes")
    assert place.running_children == []


@pytest.mark.parametrize("first", ["supervisor", "server"])
def test_server_and_supervisor_killed_is_an_error_for_the_next_server(
    site: Site, place: Place, first: str
) -> None:
    trainings = site.serve()
    uuid = begin_with_children(trainings, place)
    supervisor = supervisor_of(uuid)
    if first == "supervisor":
        kill_server(trainings.server, supervisor.kill)
    else:
        kill_server(trainings.server)
        supervisor.kill()
    trainings = site.serve()
    assert_error(trainings.wait(uuid), UNSEEN if first == "server" else "it")
    assert_gone(uuid, place)
    assert len(place.attempts) == 1
    assert trainings.log(uuid).endswith("training begins\n")
    assert [one["uuid"] for one in trainings.list()] == [uuid]


def test_a_supervisor_that_is_killed_is_an_error_at_once(site: Site, place: Place) -> None:
    trainings = site.serve()
    uuid = begin_with_children(trainings, place)
    supervisor_of(uuid).kill()
    record = trainings.wait(uuid)
    assert_error(record, "its supervisor process failed")
    assert_gone(uuid, place)
    again = trainings.begin()
    assert trainings.wait(again)["status"] == "done"


def test_an_adopted_supervisor_that_is_killed_is_an_error_at_once(site: Site, place: Place) -> None:
    uuid = begin_with_children(site.serve(), place)
    kill_server(site.servers[-1])
    trainings = site.serve()
    assert trainings.get(uuid)["status"] == "running"
    supervisor_of(uuid).kill()
    assert_error(trainings.wait(uuid), "its supervisor process failed")
    assert_gone(uuid, place)


def test_a_supervisor_that_is_stopped_cannot_keep_a_training_from_being_cancelled(
    site: Site, place: Place
) -> None:
    trainings = site.serve("--cancel-timeout", "0.5")
    uuid = begin_with_children(trainings, place)
    supervisor_of(uuid).suspend()
    assert trainings.delete(uuid).json()["status"] == "cancelled"
    assert_gone(uuid, place)
    assert trainings.get(uuid)["status"] == "cancelled"


def test_a_training_whose_supervisor_was_killed_is_cancelled_by_a_server_that_does_not_own_it(
    site: Site, place: Place
) -> None:
    """The server that owns the training is suspended, so only the other one can act."""
    owner, other = site.serve(), site.serve()
    uuid = begin_with_children(owner, place)
    supervisor = supervisor_of(uuid)
    stop_without_lock(psutil.Process(owner.server.pid), site.state)
    try:
        supervisor.kill()
        assert other.delete(uuid).json()["status"] == "cancelled"
        assert place.running_children == []
        assert other.get(uuid)["status"] == "cancelled"
    finally:
        os.kill(owner.server.pid, signal.SIGCONT)
    assert_gone(uuid, place)
    assert owner.get(uuid)["status"] == "cancelled"


@pytest.mark.parametrize("times", short_and_long([3], [10]))
def test_the_answer_to_cancelling_says_how_a_training_ended_whose_supervisor_was_killed(
    site: Site, places: list[Place], times: int
) -> None:
    """If the server has recorded an error already, DELETE removes or returns that record."""
    trainings = site.serve("--max-trainings", "10")
    for place in places[:times]:
        uuid = begin_with_children(trainings, place)
        supervisor_of(uuid).kill()
        status = trainings.delete(uuid).json()["status"]
        assert status in ("cancelled", "error")
        assert place.running_children == []
        assert [one["status"] for one in trainings.list()] in ([], [status])
        if trainings.list():
            assert trainings.delete(uuid).status_code == 200


def test_a_supervisor_that_is_told_to_stop_ends_its_training(site: Site, place: Place) -> None:
    trainings = site.serve()
    uuid = begin_with_children(trainings, place)
    supervisor_of(uuid).terminate()
    assert_error(trainings.wait(uuid), "was told to stop by SIGTERM")
    assert_gone(uuid, place)


def test_a_process_that_has_the_pid_of_a_supervisor_that_was_is_not_touched(
    site: Site, place: Place, bystander: subprocess.Popen[bytes]
) -> None:
    trainings = site.serve()
    uuid = begin_with_children(trainings, place)
    supervisor = supervisor_of(uuid)
    kill_server(trainings.server)  # first, since it would record that the supervisor has failed
    supervisor.kill()
    set_supervisor(site, uuid, f"{bystander.pid}:1")
    trainings = site.serve()
    assert_error(trainings.wait(uuid), UNSEEN)
    assert_gone(uuid, place)
    assert trainings.delete(uuid).status_code == 200
    assert trainings.list() == []


def test_a_process_of_no_training_lives_when_one_beside_it_is_killed(
    site: Site, places: list[Place], bystander: subprocess.Popen[bytes]
) -> None:
    trainings = site.serve("--max-trainings", "2")
    one, other = (begin_with_children(trainings, place) for place in places[:2])
    os.kill(int(places[0].attempts[0]), signal.SIGKILL)
    assert trainings.wait(one)["signal"] == 9
    assert_gone(one, places[0])
    assert trainings.get(other)["status"] == "running"
    assert places[1].running_children == places[1].children
    assert bystander.poll() is None
    places[1].open_gate()
    assert trainings.wait(other)["status"] == "done"


def test_a_server_that_cannot_begin_does_not_end_what_runs(site: Site, place: Place) -> None:
    uuid = begin_with_children(site.serve(), place)
    kill_server(site.servers[-1])
    args = ["--state-dir", str(site.state)]
    failed = run_program(site.state.parent / "home", args, models={"bad": "zoo.unloadable"})
    assert failed.code == 1
    trainings = site.serve()
    assert trainings.get(uuid)["status"] == "running"
    place.open_gate()
    assert trainings.wait(uuid)["status"] == "done"
    assert len(place.attempts) == 1


def test_a_server_of_another_model_takes_nothing_that_waits(
    site: Site, places: list[Place]
) -> None:
    trainings = site.serve()
    running = trainings.begin(place=places[0])
    places[0].wait_for_attempt()
    waiting = trainings.begin(place=places[1])
    kill_server(trainings.server)
    bare = site.serve(models={"bare": "zoo.bare"})
    places[0].open_gate()
    wait_until(lambda: not of_training(running), within=END_SECONDS, what="its end")
    assert bare.server.get("/v2/models/trains/train/").status_code == 404
    trainings = site.serve()
    assert trainings.get(running)["status"] == "done"
    places[1].open_gate()
    assert trainings.wait(waiting)["status"] == "done"
    assert len(places[1].attempts) == 1


def test_supervisor_that_gets_the_report_and_the_end_of_the_output_at_once_notes_the_exit(
    site: Site, place: Place
) -> None:
    """It is stopped meanwhile, as it may be on a busy machine."""
    trainings = site.serve()
    uuid = trainings.begin(place=place)
    place.wait_for_attempt()
    supervisor, work = supervisor_of(uuid), psutil.Process(pid_of_work(uuid))
    supervisor.suspend()
    place.open_gate()
    wait_until(lambda: work.status() == psutil.STATUS_ZOMBIE, within=END_SECONDS, what="the exit")
    supervisor.resume()
    record = trainings.wait(uuid)
    assert record["status"] == "done"
    wait_until(lambda: trainings.get(uuid)["exit_code"] == 0, within=END_SECONDS, what="its code")
    trainings.wait_gone(uuid)
