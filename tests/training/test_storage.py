"""A state directory that is full, cannot be written, or is of another version."""

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

from tests.conftest import Serve
from tests.support import Server, predictions, run_program, wait_until
from tests.training.trainings import Place, Trainings, of_training

MODELS = {"trains": "zoo.trains"}
SIZE = 4 * 1024 * 1024


class SmallDisk:
    """A disk of four megabytes, mounted at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        """Leave no room at all."""
        with open(self._filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        self._filler.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(path)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted: run this as root, where mount is allowed")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture
def server(disk: SmallDisk) -> Iterator[Server]:
    """A server whose state is on the small disk."""
    with Server(MODELS, args=("--state-dir", str(disk.path / "state"))) as server:
        yield server


# --- a full disk -----------------------------------------------------------------------------


def test_a_full_disk_is_told_to_who_wants_to_train(server: Server, disk: SmallDisk) -> None:
    trainings = Trainings(server)
    disk.fill()
    answer = trainings.post()
    assert answer.status_code == 507
    assert answer.json()["code"] == "storage_failed"
    assert "full" in answer.json()["message"] or "space" in answer.json()["message"]
    assert predictions(server.predict("trains"))["warmed"] == 1
    assert trainings.list() == []
    disk.free()
    assert trainings.wait(trainings.begin())["status"] == "done"
    assert len(trainings.list()) == 1


def test_an_upload_that_does_not_fit_leaves_nothing(server: Server, disk: SmallDisk) -> None:
    trainings = Trainings(server)
    files = {"data": ("a", bytes(2 * SIZE))}
    answer = server.post(trainings.path, files=files)
    assert answer.status_code == 507, answer.text
    assert "space" in answer.json()["message"]
    work = disk.path / "state" / "work"
    wait_until(lambda: not list(work.iterdir()), within=20, what="that all is removed")
    assert trainings.wait(trainings.begin())["status"] == "done"


def test_an_end_is_written_once_there_is_room(
    server: Server, disk: SmallDisk, place: Place
) -> None:
    trainings = Trainings(server)
    uuid = trainings.begin(place=place, text="a")
    place.wait_for_attempt()
    disk.fill()
    place.open_gate()
    wait_until(lambda: len(of_training(uuid)) == 1, within=20, what="the end of the work")
    assert trainings.get(uuid)["status"] == "running"  # as far as is known, and no lie
    time.sleep(1.1)  # so that the time of its end is another than that when it is written
    freed = str(datetime.now())
    disk.free()
    record = trainings.wait(uuid)
    assert record["status"] == "done"
    assert record["result"]["output"] == {"text": "a"}
    assert record["finish_date"] < freed
    trainings.wait_gone(uuid)


def test_cancelling_ends_the_work_on_a_full_disk_too(
    server: Server, disk: SmallDisk, place: Place
) -> None:
    trainings = Trainings(server)
    uuid = trainings.begin(place=place)
    place.wait_for_attempt()
    disk.fill()
    answer = trainings.delete(uuid)
    assert answer.status_code in (200, 507)  # 200 if the record had room left in its file
    wait_until(lambda: len(of_training(uuid)) <= 1, within=10, what="the end of the work")
    disk.free()
    assert trainings.wait(uuid)["status"] == "cancelled"
    trainings.wait_gone(uuid)


def test_a_log_that_finds_no_room_says_so(server: Server, disk: SmallDisk, place: Place) -> None:
    trainings = Trainings(server)
    uuid = trainings.begin(place=place, do="print", size=3 * SIZE)
    place.wait_for_attempt()
    (disk.path / "reserve").write_bytes(bytes(SIZE // 4))
    place.open_gate()
    wait_until(lambda: len(of_training(uuid)) <= 1, within=20, what="the end of the work")
    (disk.path / "reserve").unlink()
    assert trainings.wait(uuid)["status"] == "done"
    trainings.wait_gone(uuid)
    assert "bytes of output were lost: No space left on device" in trainings.log(uuid)


# --- a directory that cannot be used ---------------------------------------------------------


def test_without_the_usual_directory_models_predict(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    server = serve(MODELS, env={"XDG_STATE_HOME": str(tmp_path / "file")})
    assert predictions(server.predict("trains"))["warmed"] == 1
    answer = server.post("/v2/models/trains/train/")
    assert answer.status_code == 507
    assert "--state-dir" in answer.json()["message"]
    assert server.get("/v2/models/trains/train/").status_code == 507
    assert server.predict("trains", headers={"Prefer": "respond-async"}).status_code == 507
    assert "ERROR" not in server.log()
    assert "There can be no trainings" in server.log()


def test_a_directory_that_was_asked_for_has_to_be_usable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    args = ["--state-dir", str(tmp_path / "file" / "state")]
    finished = run_program(tmp_path / "home", args, models=MODELS)
    assert finished.code == 1
    assert "cannot be used" in finished.output
    assert "Traceback" not in finished.output


def test_records_of_a_newer_version_are_left_alone(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    with contextlib.closing(sqlite3.connect(state / "trainings.db")) as database:
        database.execute("PRAGMA user_version=99")
    before = (state / "trainings.db").read_bytes()
    finished = run_program(tmp_path / "home", ["--state-dir", str(state)], models=MODELS)
    assert finished.code == 1
    assert "newer version" in finished.output
    assert (state / "trainings.db").read_bytes()[100:] == before[100:]


def test_what_is_no_database_is_told(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "trainings.db").write_bytes(b"no database at all" * 1000)
    finished = run_program(tmp_path / "home", ["--state-dir", str(state)], models=MODELS)
    assert finished.code == 1
    assert "cannot be used" in finished.output
