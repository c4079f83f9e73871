"""The disk of the state directory is full, or the directory is no good at all."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.conftest import DISK_BYTES, Disk, Serve
from tests.support import predictions, run_program, wait_until
from tests.training.trainings import Place, Site, Trainings, of_training, stop_server

MODELS = {"trains": "zoo.trains"}


@pytest.fixture
def site(disk: Disk) -> Iterator[Site]:
    """The state directory is on the small disk."""
    site = Site(disk.path / "state")
    try:
        yield site
    finally:
        with contextlib.suppress(FileNotFoundError):
            disk.make_room()
        site.close()


def test_what_finds_no_room_is_refused_and_predictions_are_answered(site: Site, disk: Disk) -> None:
    trainings = site.serve()
    before = trainings.begin()
    trainings.wait(before)
    trainings.wait_gone(before)
    disk.fill()
    answer = trainings.post()
    assert answer.status_code == 507
    assert "full" in answer.text
    assert predictions(trainings.server.predict("trains"))["warmed"] >= 1
    assert [one["uuid"] for one in trainings.list()] == [before]
    disk.make_room()
    assert trainings.wait(trainings.begin())["status"] == "done"
    assert len(trainings.list()) == 2
    known = {one["uuid"] for one in trainings.list()}
    work = site.state / "work"
    wait_until(lambda: {path.name for path in work.iterdir()} <= known, within=10)


def test_an_upload_that_does_not_fit_leaves_nothing(site: Site) -> None:
    trainings = site.serve()
    answer = trainings.server.post(trainings.path, files={"data": ("a", bytes(2 * DISK_BYTES))})
    assert answer.status_code == 507
    assert answer.json()["code"] == "storage_failed"
    assert "space" in answer.json()["message"]
    work = site.state / "work"
    wait_until(lambda: not list(work.iterdir()), within=20, what="that all is removed")
    assert trainings.wait(trainings.begin())["status"] == "done"


def test_a_log_that_finds_no_room_says_so(site: Site, disk: Disk, place: Place) -> None:
    trainings = site.serve()
    uuid = trainings.begin(place=place, do="print", size=3 * DISK_BYTES)
    place.wait_for_attempt()
    reserve = disk.path / "reserve"
    reserve.write_bytes(bytes(DISK_BYTES // 4))
    work = int(place.attempts[0])
    place.open_gate()
    wait_until(lambda: work not in [one.pid for one in of_training(uuid)], within=30)
    reserve.unlink()
    assert trainings.wait(uuid)["status"] == "done"
    trainings.wait_gone(uuid)
    assert "bytes of output were lost: No space left on device" in trainings.log(uuid)


def test_what_has_ended_while_the_disk_was_full_has_its_true_status(
    site: Site, disk: Disk, place: Place
) -> None:
    trainings = site.serve()
    uuid = trainings.begin(place=place)
    place.wait_for_attempt()
    work = int(place.attempts[0])
    disk.fill()
    place.open_gate()
    wait_until(lambda: work not in [one.pid for one in of_training(uuid)], within=20)
    assert trainings.get(uuid)["status"] == "running"  # as far as is known, and no lie
    time.sleep(1.1)  # so that the time of its end is another than that when it is written
    freed = str(datetime.now())
    disk.make_room()
    record = trainings.wait(uuid)
    assert (record["status"], record["result"]["output"]) == ("done", {"text": "learned"})
    assert record["finish_date"] < freed
    wait_until(lambda: trainings.get(uuid)["exit_code"] == 0, within=10)
    trainings.wait_gone(uuid)


def test_what_has_failed_while_the_disk_was_full_has_its_true_status(
    site: Site, disk: Disk, place: Place
) -> None:
    trainings = site.serve()
    uuid = trainings.begin(place=place, do="raise", text="too cold")
    place.wait_for_attempt()
    disk.fill()
    place.open_gate()
    work = int(place.attempts[0])
    wait_until(lambda: work not in [one.pid for one in of_training(uuid)], within=20)
    disk.make_room()
    record = trainings.wait(uuid)
    assert (record["status"], record["message"]) == ("error", "ValueError: too cold")


def test_cancelling_ends_the_processes_of_what_has_filled_the_disk(
    site: Site, disk: Disk, place: Place
) -> None:
    trainings = site.serve()
    uuid = trainings.begin(place=place, do="early children, then wait")
    place.wait_for_children()
    disk.fill()
    answer = trainings.delete(uuid)
    assert answer.status_code == 507
    assert place.running_children == []
    assert int(place.attempts[0]) not in [one.pid for one in of_training(uuid)]
    disk.make_room()
    assert trainings.wait(uuid)["status"] == "cancelled"
    trainings.wait_gone(uuid)


def test_a_record_can_be_removed_to_make_room(site: Site, disk: Disk) -> None:
    trainings = site.serve()
    uuid = trainings.begin(do="large", size=2_000_000)
    trainings.wait(uuid)
    trainings.wait_gone(uuid)
    disk.fill()
    assert trainings.delete(uuid).status_code == 200
    assert trainings.list() == []
    assert trainings.wait(trainings.begin())["status"] == "done"


def test_a_server_that_stops_ends_what_runs_on_a_full_disk(
    site: Site, disk: Disk, place: Place
) -> None:
    trainings = site.serve()
    uuid = trainings.begin(place=place, do="early children, then wait")
    place.wait_for_children()
    disk.fill()
    stop_server(trainings.server)
    assert place.running_children == []
    disk.make_room()
    site.wait_idle()
    record = site.serve().get(uuid)
    assert record["status"] == "error"
    assert record["message"] == "was told to stop by SIGTERM"


def test_a_state_directory_that_was_not_asked_for_is_no_reason_not_to_predict(
    serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    server = serve(MODELS, env={"XDG_STATE_HOME": str(tmp_path / "file")})
    assert predictions(server.predict("trains"))["warmed"] == 1
    answer = Trainings(server).post()
    assert answer.status_code == 507
    assert str(tmp_path / "file") in answer.text
    assert "--state-dir" in answer.text
    assert server.get("/v2/models/trains/train/").status_code == 507
    assert server.predict("trains", headers={"Prefer": "respond-async"}).status_code == 507
    assert "There can be no trainings" in server.log()
    assert "ERROR" not in server.log()


def test_a_state_directory_that_was_asked_for_has_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    state = tmp_path / "file/state"
    finished = run_program(tmp_path / "home", ["--state-dir", str(state)], models=MODELS)
    assert finished.code == 1
    assert f"the state directory {state} cannot be used" in finished.output
    assert "Traceback" not in finished.output


def test_one_on_a_disk_that_cannot_be_written_is_refused(disk: Disk, tmp_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk.path)], check=True)
    args = ["--state-dir", str(disk.path / "state")]
    finished = run_program(tmp_path / "home", args, models=MODELS)
    assert finished.code == 1
    assert "Read-only file system" in finished.output
    assert "Traceback" not in finished.output


@pytest.mark.parametrize("given", [True, False])
def test_records_of_a_newer_form_are_not_touched(serve: Serve, tmp_path: Path, given: bool) -> None:
    state = tmp_path / "deepaas"
    state.mkdir()
    with contextlib.closing(sqlite3.connect(state / "trainings.db")) as db:
        db.execute("PRAGMA user_version=2")
        db.execute("CREATE TABLE unknown (what)")
    if given:
        args = ["--state-dir", str(state)]
        finished = run_program(tmp_path / "home", args, models=MODELS)
        assert finished.code == 1
        assert "was written by a newer version of deepaas" in finished.output
        assert "Traceback" not in finished.output
    else:
        server = serve(MODELS, env={"XDG_STATE_HOME": str(tmp_path)})
        assert predictions(server.predict("trains"))["warmed"] == 1
        answer = Trainings(server).post()
        assert answer.status_code == 507
        assert "newer version" in answer.text
    with contextlib.closing(sqlite3.connect(state / "trainings.db")) as db:
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("unknown",)]


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trainings.db").write_text("not a database" * 1000)
    args = ["--state-dir", str(tmp_path)]
    finished = run_program(tmp_path / "home", args, models=MODELS)
    assert finished.code == 1
    assert "not a database" in finished.output
    assert "Traceback" not in finished.output


def test_a_state_directory_is_made_and_is_private(site: Site) -> None:
    site.state = site.state / "a" / "b"
    trainings = site.serve()
    trainings.wait(trainings.begin())
    assert site.state.stat().st_mode & 0o777 == 0o700
    assert (site.state / "trainings.db").stat().st_mode & 0o777 == 0o600


def test_one_that_is_open_to_others_is_made_private(site: Site) -> None:
    site.state.mkdir()
    site.state.chmod(0o755)
    site.serve()
    assert site.state.stat().st_mode & 0o777 == 0o700


def test_a_relative_state_directory_is_that_of_the_working_directory(
    site: Site, tmp_path: Path
) -> None:
    site.state = tmp_path / "kept"
    trainings = site.serve(args=["--state-dir", "kept"], cwd=tmp_path)
    trainings.wait(trainings.begin())
    assert os.path.exists(tmp_path / "kept/trainings.db")
