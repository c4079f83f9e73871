"""Processes that are stopped while they hold the lock of the records, for example by a debugger."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest

from deepaas.jobs import identity
from deepaas.jobs.spec import JobDirectory, JobSpec
from deepaas.jobs.store import Store
from deepaas.jobs.supervisor_handle import SupervisorHandle
from tests.support import predictions, wait_until
from tests.training.locking import (
    READS_TOO,
    WRITES,
    locked,
    stop_while_it_writes,
    stop_without_lock,
)
from tests.training.trainings import (
    END_SECONDS,
    Place,
    Site,
    Trainings,
    kill_server,
    of_training,
    stop_server,
    supervisor_of,
)

DEAF = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
signal.pause()
"""

QUICK = ("--cancel-timeout", "0.5", "--state-lock-timeout", "2")


def make_supervisors_write_forever(state: Path) -> None:
    """Let the note that the function of a model is called take forever."""
    with contextlib.closing(sqlite3.connect(state / "trainings.db", timeout=60)) as db:
        db.executescript(
            "CREATE VIEW endless AS WITH RECURSIVE numbers (n) AS "
            "(SELECT 1 UNION ALL SELECT n FROM numbers) SELECT count(*) AS n FROM numbers;"
            "CREATE TRIGGER endless_write AFTER UPDATE OF load_seconds ON details "
            "BEGIN SELECT n FROM endless; END;"
        )


def let_supervisors_write(state: Path) -> None:
    with contextlib.closing(sqlite3.connect(state / "trainings.db", timeout=60)) as db:
        db.executescript("DROP TRIGGER endless_write; DROP VIEW endless")


def begin_and_stop_its_supervisor(site: Site, trainings: Trainings, place: Place) -> str:
    """Start a training whose supervisor process is stopped while it writes; return its uuid."""
    make_supervisors_write_forever(site.state)
    uuid = trainings.begin(place=place, do="early children, then wait")
    place.wait_for_children()
    stop_while_it_writes(supervisor_of(uuid), site.state)
    return uuid


@contextlib.contextmanager
def deaf_process() -> Iterator[int]:
    """Run a process that ignores SIGTERM; yield its pid."""
    args = [sys.executable, "-c", DEAF]
    with subprocess.Popen(args, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"deaf\n"
            yield process.pid
        finally:
            process.kill()


def assert_gone(uuid: str, place: Place) -> None:
    wait_until(lambda: not of_training(uuid), within=END_SECONDS, what="the end of all processes")
    assert place.running_children == []


def wait_until_it_waits(site: Site, uuid: str) -> None:
    """Wait until a supervisor process has noticed that it cannot write."""
    log = JobDirectory.of(site.state, uuid).supervisor_log
    wait_until(lambda: "is locked by" in log.read_text(), within=END_SECONDS, what="its wait")


def assert_locked_by(pid: int, answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_locked")
    assert f"locked by process {pid} (stopped)" in answer.json()["message"]
    assert answer.headers["Retry-After"] == "5"


# --- a supervisor process that is stopped while it writes ------------------------------------


@pytest.mark.parametrize("server", ["its server", "another server"])
def test_a_training_is_cancelled_whose_supervisor_was_stopped_while_it_wrote(
    site: Site, place: Place, server: str
) -> None:
    trainings = site.serve(*QUICK)
    uuid = begin_and_stop_its_supervisor(site, trainings, place)
    if server == "another server":
        trainings = site.serve(*QUICK)
    assert trainings.get(uuid)["status"] == "running"
    assert trainings.delete(uuid).json()["status"] == "cancelled"
    assert_gone(uuid, place)
    assert trainings.get(uuid)["status"] == "cancelled"
    let_supervisors_write(site.state)
    assert trainings.wait(trainings.begin())["status"] == "done"


def test_a_server_that_stops_ends_trainings_whose_supervisors_were_stopped_while_they_wrote(
    site: Site, place: Place
) -> None:
    trainings = site.serve(*QUICK)
    uuid = begin_and_stop_its_supervisor(site, trainings, place)
    stop_server(trainings.server)
    assert_gone(uuid, place)
    let_supervisors_write(site.state)
    record = site.serve().get(uuid)
    assert (record["status"], record["message"]) == ("error", "stopped with the server")


def test_a_supervisor_process_that_does_not_exit_when_it_is_killed_is_an_error(
    site: Site, place: Place
) -> None:
    """The record names another process, so the supervisor process survives."""
    trainings = site.serve(*QUICK)
    uuid = trainings.begin(place=place)
    place.wait_for_attempt()
    supervisor = supervisor_of(uuid)
    stop_without_lock(supervisor, site.state)
    with deaf_process() as other:
        with contextlib.closing(sqlite3.connect(site.state / "trainings.db", timeout=60)) as db:
            db.execute("UPDATE records SET keeper = ?", (identity.identity(other),))
            db.commit()
        answer = trainings.delete(uuid)
        assert (answer.status_code, answer.json()["code"]) == (409, "not_stoppable")
        assert "was killed and does not exit" in answer.json()["message"]
    stop_server(trainings.server)
    supervisor.kill()
    for process in of_training(uuid):
        process.kill()


# --- any process that is stopped while it writes ---------------------------------------------


def test_records_are_read_and_models_predict_while_a_stopped_process_holds_the_lock(
    site: Site, place: Place
) -> None:
    trainings = site.serve(*QUICK)
    uuid = trainings.begin(place=place)
    place.wait_for_attempt()
    with locked(site.state):
        assert [one["uuid"] for one in trainings.list()] == [uuid]
        assert trainings.get(uuid)["status"] == "running"
        assert "training begins" in trainings.log(uuid)
        assert predictions(trainings.server.predict("trains"))["weights"] == "none"


def test_new_jobs_are_refused_while_a_stopped_process_holds_the_lock(
    site: Site, place: Place
) -> None:
    trainings = site.serve(*QUICK)
    with locked(site.state) as holder:
        assert_locked_by(holder, trainings.post(place=place))
        assert_locked_by(
            holder, trainings.server.predict("trains", headers={"Prefer": "respond-async"})
        )
    assert trainings.wait(trainings.begin())["status"] == "done"
    assert len(trainings.list()) == 1


def test_cancelling_ends_the_processes_while_another_stopped_process_holds_the_lock(
    site: Site, place: Place
) -> None:
    trainings = site.serve(*QUICK)
    uuid = trainings.begin(place=place, do="early children, then wait")
    place.wait_for_children()
    with locked(site.state) as holder:
        answer = trainings.delete(uuid)
        assert_locked_by(holder, answer)
        assert f"the processes of {uuid} have been ended" in answer.json()["message"]
        assert place.running_children == []
    assert trainings.wait(uuid)["status"] == "cancelled"


@pytest.mark.parametrize("status", ["queued", "done"])
def test_deleting_waits_for_no_stopped_process_and_removes_nothing(
    site: Site, places: list[Place], status: str
) -> None:
    trainings = site.serve(*QUICK)
    uuid = trainings.begin()
    trainings.wait(uuid)
    # Its exit code, and why the model is not reloaded, are the last changes of its record.
    wait_until(lambda: trainings.get(uuid)["exit_code"] == 0, within=30, what="its exit")
    wait_until(lambda: trainings.get(uuid)["weights_problem"], within=30, what="its last change")
    trainings.begin(place=places[0])
    if status == "queued":
        uuid = trainings.begin()
    before = trainings.get(uuid)
    with locked(site.state) as holder:
        assert_locked_by(holder, trainings.delete(uuid))
        assert trainings.get(uuid) == before
    assert trainings.delete(uuid).status_code == 200


def test_the_end_of_a_training_is_recorded_when_the_lock_is_free_again(
    site: Site, places: list[Place]
) -> None:
    trainings = site.serve(*QUICK)
    first, second = (trainings.begin(place=place) for place in places[:2])
    places[0].wait_for_attempt()
    with locked(site.state):
        places[0].open_gate()
        wait_until_it_waits(site, first)
        assert trainings.get(first)["status"] == "running"
    assert trainings.wait(first)["status"] == "done"
    places[1].open_gate()
    assert trainings.wait(second)["status"] == "done"


def test_a_server_stops_and_loses_no_record_while_a_stopped_process_holds_the_lock(
    site: Site, places: list[Place]
) -> None:
    trainings = site.serve(*QUICK, "--max-trainings", "3")
    running = [trainings.begin(place=place) for place in places[:3]]
    for place in places[:3]:
        place.wait_for_attempt()
    queued = trainings.begin()
    with locked(site.state):
        stop_server(trainings.server)
        for place in places[:3]:
            wait_until(partial(_has_ended, place), within=END_SECONDS, what="its end")
    trainings = site.serve("--max-trainings", "3")
    for uuid in running:
        assert trainings.wait(uuid)["status"] == "error"
    assert trainings.wait(queued)["status"] == "done"


def _has_ended(place: Place) -> bool:
    return not psutil.pid_exists(int(place.attempts[0]))


def test_a_killed_server_is_succeeded_while_a_stopped_process_holds_the_lock(
    site: Site, places: list[Place]
) -> None:
    trainings = site.serve(*QUICK)
    running, queued = (trainings.begin(place=place) for place in places[:2])
    places[0].wait_for_attempt()
    with locked(site.state):
        kill_server(trainings.server)
        trainings = site.serve(*QUICK)
        assert [one["uuid"] for one in trainings.list()] == [running, queued]
        assert predictions(trainings.server.predict("trains"))["weights"] == "none"
    for place in places[:2]:
        place.open_gate()
    assert trainings.wait(running)["status"] == "done"
    assert trainings.wait(queued)["status"] == "done"


def test_a_server_starts_while_a_stopped_process_keeps_others_from_reading(site: Site) -> None:
    trainings = site.serve()
    uuid = trainings.begin()
    trainings.wait(uuid)
    stop_server(trainings.server)
    with locked(site.state, READS_TOO) as holder:
        trainings = site.serve(*QUICK)
        assert predictions(trainings.server.predict("trains"))["weights"] == "none"
        assert_locked_by(holder, trainings.server.get(trainings.path))
        assert_locked_by(holder, trainings.post())
    wait_until(
        lambda: trainings.server.get(trainings.path).status_code == 200,
        within=END_SECONDS,
        what="records that can be read",
    )
    assert trainings.get(uuid)["status"] == "done"


def test_an_expired_record_is_removed_when_the_lock_is_free_again(site: Site) -> None:
    trainings = site.serve(*QUICK, "--sweep-interval", "0.1")
    uuid = trainings.begin()
    trainings.wait(uuid)
    stop_server(trainings.server)
    with locked(site.state):
        trainings = site.serve(*QUICK, "--sweep-interval", "0.1", "--training-ttl", "0.1")
        wait_until(
            lambda: "is locked by" in trainings.server.log(), within=END_SECONDS, what="a sweep"
        )
        assert trainings.get(uuid)["status"] == "done"
    wait_until(lambda: not trainings.list(), within=END_SECONDS, what="the removal")


@pytest.mark.parametrize("mode", [WRITES, READS_TOO])
def test_a_supervisor_process_that_starts_waits_for_the_lock(tmp_path: Path, mode: str) -> None:
    site = Site(tmp_path)
    with contextlib.closing(Store(tmp_path)) as store:
        store.add("u", "train", "trains", "")
        store.accept("u", "{}")
        store.start("u")
    place = JobDirectory.of(tmp_path, "u")
    place.directory.mkdir(parents=True)
    spec = JobSpec(uuid="u", kind="train", model="trains", target="zoo.trains", folder="")
    with locked(tmp_path, mode):
        supervisor = SupervisorHandle.start(tmp_path, spec)
        wait_until_it_waits(site, "u")
        assert supervisor.lives
    wait_until(lambda: not supervisor.lives, within=END_SECONDS, what="its end")
    with contextlib.closing(Store(tmp_path)) as store:
        record = store.get("u")
        assert record is not None
        assert record.attempt == 1
