"""The disk of the state directory is full: jobs can end and be removed, but no new one starts.

A server still starts, predicts and lists.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from tests.conftest import DISK_BYTES, Disk, mounted, short_and_long
from tests.support import HOST, predictions, wait_until
from tests.training.test_callbacks import Receiver
from tests.training.trainings import (
    Place,
    Site,
    Trainings,
    kill_server,
    of_training,
    stop_server,
    supervisor_of,
)

MODELS = {"trains": "zoo.trains", "filling": "zoo.filling"}
NO_RESERVE = ("--state-reserve", "0")
RESERVE_BYTES = 1024 * 1024


@pytest.fixture
def site(disk: Disk) -> Iterator[Site]:
    """A state directory on the small disk."""
    yield from site_on(disk)


def site_on(disk: Disk, models: dict[str, str] = MODELS) -> Iterator[Site]:
    site = Site(disk.path / "state", models)
    try:
        yield site
    finally:
        with contextlib.suppress(FileNotFoundError):
            disk.make_room()
        site.close()


def fills(trainings: Trainings) -> Trainings:
    """Return the trainings of the model that fills the disk."""
    return replace(trainings, model="filling")


def assert_predicts(trainings: Trainings) -> None:
    assert predictions(trainings.server.predict("filling")) == "predicted"


def free(disk: Disk) -> int:
    """Return the free bytes on the disk."""
    status = os.statvfs(disk.path)
    return status.f_bavail * status.f_frsize


def reserve(site: Site) -> int:
    """Return the bytes of the reserve, without the file that probes for free space."""
    files = (site.state / "reserve").glob("[0-9]*")
    return sum(file.stat().st_blocks * 512 for file in files)


def one_that_has_ended(trainings: Trainings) -> str:
    uuid = trainings.begin()
    trainings.wait(uuid)
    trainings.wait_gone(uuid)
    return uuid


def wait_for_the_end_of_work(uuid: str, place: Place) -> None:
    """Wait until the process that trains has exited; its supervisor may still run."""
    work = int(place.attempts[0])
    wait_until(lambda: work not in [one.pid for one in of_training(uuid)], within=20)


# --- new jobs --------------------------------------------------------------------------------


def test_what_finds_no_room_is_refused_and_predictions_are_answered(site: Site, disk: Disk) -> None:
    trainings = site.serve()
    before = one_that_has_ended(trainings)
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
    ballast = disk.path / "ballast"
    ballast.write_bytes(bytes(DISK_BYTES // 4))
    place.open_gate()
    wait_for_the_end_of_work(uuid, place)
    ballast.unlink()
    assert trainings.wait(uuid)["status"] == "done"
    trainings.wait_gone(uuid)
    assert "bytes of output were lost: No space left on device" in trainings.log(uuid)


def test_what_waits_for_its_turn_waits_for_room_too(
    site: Site, disk: Disk, places: list[Place]
) -> None:
    trainings = site.serve()
    uuids = [trainings.begin(place=place) for place in places[:2]]
    places[0].wait_for_attempt()
    disk.fill()
    places[0].open_gate()
    assert trainings.wait(uuids[0])["status"] == "done"
    said = "no new jobs start until there is room"
    wait_until(lambda: said in trainings.server.log(), within=20, what="that the disk is full")
    assert trainings.get(uuids[1])["status"] == "queued"
    disk.make_room()
    places[1].wait_for_attempt()
    places[1].open_gate()
    assert trainings.wait(uuids[1])["status"] == "done"
    assert "has room again" in trainings.server.log()


# --- jobs that end ---------------------------------------------------------------------------


def test_what_ends_while_the_disk_is_full_is_told_at_once(
    site: Site, disk: Disk, place: Place
) -> None:
    trainings = site.serve()
    uuid = trainings.begin(place=place)
    place.wait_for_attempt()
    disk.fill()
    place.open_gate()
    record = trainings.wait(uuid)
    assert (record["status"], record["result"]["output"]) == ("done", {"text": "learned"})
    trainings.wait_gone(uuid)
    assert trainings.get(uuid)["exit_code"] == 0


def test_what_has_filled_the_disk_is_an_error_and_its_removal_makes_room(
    site: Site, disk: Disk
) -> None:
    trainings = fills(site.serve())
    uuid = trainings.begin()
    record = trainings.wait(uuid)
    assert (record["status"], "No space left" in record["message"]) == ("error", True)
    assert_predicts(trainings)
    assert trainings.delete(uuid).status_code == 200
    assert trainings.list() == []
    assert list((site.state / "work").iterdir()) == []
    assert free(disk) > DISK_BYTES // 2


def test_the_reserve_is_made_again_when_there_is_room(site: Site, disk: Disk) -> None:
    trainings = fills(site.serve())
    assert reserve(site) >= RESERVE_BYTES
    uuid = trainings.begin()
    trainings.wait(uuid)
    assert reserve(site) == 0
    trainings.delete(uuid)
    wait_until(lambda: reserve(site) >= RESERVE_BYTES, within=20, what="a new reserve")


def test_the_reserve_is_of_the_size_that_is_asked_for(site: Site) -> None:
    site.serve("--state-reserve", "2000000")
    assert 2_000_000 <= reserve(site) < 2_100_000
    stop_server(site.servers[-1])
    site.serve("--state-reserve", "0")
    assert reserve(site) == 0


def test_cancelling_ends_what_goes_on_to_fill_the_disk(
    site: Site, disk: Disk, tmp_path: Path
) -> None:
    trainings = fills(site.serve())
    note = tmp_path / "full"
    uuid = trainings.begin(how="for ever", note=note)
    wait_until(note.exists, within=20, what="that the disk is full")
    assert trainings.delete(uuid).json()["status"] == "cancelled"
    assert trainings.get(uuid)["status"] == "cancelled"
    trainings.wait_gone(uuid)
    assert trainings.delete(uuid).status_code == 200
    assert trainings.list() == []
    assert free(disk) > DISK_BYTES // 2


def test_reserve_is_kept_for_the_end_of_what_fills_the_disk(disk: Disk) -> None:
    """Other writes about the training wait, since it would fill a reserve that is released."""
    with contextlib.contextmanager(site_on)(disk, {"filling": "zoo.filling_early"}) as site:
        trainings = fills(site.serve("--sweep-interval", "0.2"))
        uuid = trainings.begin()
        wait_until(lambda: trainings.get(uuid)["status"] == "running", within=20)
        wait_until(lambda: free(disk) == 0, within=20, what="that the disk is full")
        time.sleep(1)  # for the record that it is loaded, and for sweeps
        assert reserve(site) >= RESERVE_BYTES
        assert trainings.delete(uuid).json()["status"] == "cancelled"
        assert trainings.get(uuid)["status"] == "cancelled"
        trainings.wait_gone(uuid)
        assert trainings.delete(uuid).status_code == 200


def test_cancelling_ends_all_processes(site: Site, disk: Disk, place: Place) -> None:
    trainings = site.serve()
    uuid = trainings.begin(place=place, do="early children, then wait")
    place.wait_for_children()
    disk.fill()
    assert trainings.delete(uuid).json()["status"] == "cancelled"
    assert place.running_children == []
    trainings.wait_gone(uuid)


def test_what_waits_can_be_cancelled_and_removed(
    site: Site, disk: Disk, places: list[Place]
) -> None:
    trainings = site.serve()
    uuids = [trainings.begin(place=place) for place in places[:2]]
    places[0].wait_for_attempt()
    disk.fill()
    assert trainings.delete(uuids[1]).json()["status"] == "cancelled"
    assert trainings.delete(uuids[1]).status_code == 200
    assert [one["uuid"] for one in trainings.list()] == uuids[:1]


def test_many_can_be_removed_one_after_another(site: Site, disk: Disk) -> None:
    """The removals reuse the same space, so in total they may need more than the reserve."""
    trainings = site.serve("--state-reserve", "100000")
    uuids = [trainings.begin() for _ in range(10)]
    for uuid in uuids:
        trainings.wait(uuid)
    disk.fill()
    for uuid in uuids:
        assert trainings.delete(uuid).status_code == 200
        disk.fill()
    assert trainings.list() == []


def test_old_records_are_removed_and_make_room(site: Site, disk: Disk) -> None:
    trainings = fills(site.serve("--training-ttl", "0.1", "--sweep-interval", "0.2"))
    trainings.begin()
    wait_until(lambda: trainings.list() == [], within=20, what="that the record is removed")
    wait_until(lambda: free(disk) > DISK_BYTES // 2, within=20, what="room")


def test_a_server_that_stops_ends_what_runs(site: Site, disk: Disk, place: Place) -> None:
    trainings = site.serve()
    uuid = trainings.begin(place=place, do="early children, then wait")
    place.wait_for_children()
    disk.fill()
    stop_server(trainings.server)
    assert place.running_children == []
    site.wait_idle()
    record = site.serve().get(uuid)
    assert record["status"] == "error"


# --- without a reserve -----------------------------------------------------------------------


@pytest.mark.parametrize("do", ["return", "raise"])
def test_without_a_reserve_the_true_end_is_written_once_there_is_room(
    site: Site, disk: Disk, place: Place, do: str
) -> None:
    trainings = site.serve(*NO_RESERVE)
    uuid = trainings.begin(place=place, do=do, text="too cold")
    place.wait_for_attempt()
    disk.fill()
    place.open_gate()
    wait_for_the_end_of_work(uuid, place)
    assert trainings.get(uuid)["status"] == "running"  # nothing else can be written yet
    ended = time.time()
    wait_until(lambda: time.time() > ended + 0.1, within=10)  # so that later times differ
    freed = str(datetime.now())
    disk.make_room()
    record = trainings.wait(uuid)
    assert record["finish_date"] < freed
    assert record["status"] == ("done" if do == "return" else "error")
    assert record.get("message") == (None if do == "return" else "ValueError: too cold")
    trainings.wait_gone(uuid)


def test_without_a_reserve_a_supervisor_that_waits_for_room_does_next_to_nothing(
    site: Site, disk: Disk, place: Place
) -> None:
    trainings = site.serve(*NO_RESERVE)
    uuid = trainings.begin(place=place)
    place.wait_for_attempt()
    disk.fill()
    place.open_gate()
    wait_for_the_end_of_work(uuid, place)
    supervisor = supervisor_of(uuid)
    before, began = supervisor.cpu_times(), time.monotonic()
    waits = supervisor.num_ctx_switches().voluntary
    time.sleep(8)
    after, seconds = supervisor.cpu_times(), time.monotonic() - began
    used = after.user + after.system - before.user - before.system
    assert used < 0.01 * seconds
    assert supervisor.num_ctx_switches().voluntary - waits <= 8  # it retries after 1, 2, 4, ... s


def test_without_a_reserve_the_second_cancelling_removes_what_has_filled_the_disk(
    site: Site, disk: Disk, tmp_path: Path
) -> None:
    trainings = fills(site.serve(*NO_RESERVE))
    note = tmp_path / "full"
    uuid = trainings.begin(how="for ever", note=note)
    wait_until(note.exists, within=20, what="that the disk is full")
    disk.fill()
    answer = trainings.delete(uuid)
    assert answer.status_code == 507
    assert "have been ended" in answer.json()["message"]
    assert len(of_training(uuid)) == 1  # its supervisor
    assert trainings.delete(uuid).status_code == 200
    assert trainings.list() == []
    trainings.wait_gone(uuid)
    assert free(disk) > DISK_BYTES // 4
    assert list((site.state / "work").iterdir()) == []


def test_without_a_reserve_what_lost_its_supervisor_can_be_removed(
    site: Site, disk: Disk, place: Place
) -> None:
    trainings = site.serve(*NO_RESERVE)
    form = {"data": ("a", bytes(400_000))}
    answer = trainings.server.post(trainings.path, params={"place": str(place)}, files=form)
    uuid = answer.json()["uuid"]
    place.wait_for_attempt()
    disk.fill()
    supervisor_of(uuid).kill()
    trainings.wait_gone(uuid)
    assert trainings.delete(uuid).status_code == 200
    assert trainings.list() == []


def test_without_a_reserve_the_log_says_once_what_is_wrong(
    site: Site, disk: Disk, places: list[Place]
) -> None:
    trainings = site.serve(*NO_RESERVE)
    uuid = trainings.begin(place=places[0])
    places[0].wait_for_attempt()
    disk.fill()
    supervisor_of(uuid).kill()  # every write of its end fails
    log = trainings.server.log
    wait_until(lambda: "cannot be used" in log(), within=20, what="that the record is not written")
    wait_until(lambda: "no new jobs start" in log(), within=20, what="that the disk is full")
    assert log().count("database or disk is full") == 1


def test_without_a_reserve_a_receiver_is_not_called_again_and_again(
    site: Site, disk: Disk, place: Place
) -> None:
    """The delivery was made, but it cannot be recorded."""
    receiver = Receiver(answers=[500] * 100)
    try:
        trainings = site.serve(*NO_RESERVE, "--allow-callbacks", "127.0.0.1")
        answer = trainings.server.post(
            trainings.path, params={"place": str(place)}, headers={"Callback-URL": receiver.url}
        )
        assert answer.status_code == 200
        place.wait_for_attempt()
        disk.fill()
        receiver.answers.clear()
        wait_until(lambda: receiver.accepted, within=20, what="a call that is accepted")
        time.sleep(3)
        assert receiver.accepted == 1
        assert set(receiver.statuses) == {"queued"}
        disk.make_room()
        place.open_gate()
        wait_until(lambda: receiver.told[-1] == "done", within=30, what="the last call")
        assert receiver.told == ["queued", "running", "done"]
        assert receiver.accepted <= 4
    finally:
        receiver.close()


def test_without_a_reserve_a_request_that_was_cut_off_is_forgotten_once_there_is_room(
    site: Site, disk: Disk
) -> None:
    trainings = site.serve(*NO_RESERVE, "--sweep-interval", "0.2")
    head = f"POST {trainings.path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 100\r\n\r\n"
    with socket.create_connection((HOST, trainings.server.port)) as connection:
        connection.sendall(head.encode())
        wait_until(lambda: rows(site) == 1, within=20, what="the record of the request")
        disk.fill()
    wait_until(lambda: "cannot be used" in trainings.server.log(), within=20)
    assert rows(site) == 1
    disk.make_room()
    wait_until(lambda: rows(site) == 0, within=20, what="that the record is removed")


def rows(site: Site) -> int:
    """Return the number of records, including those of requests that are still being received."""
    with contextlib.closing(sqlite3.connect(site.state / "trainings.db")) as db:
        count: int = db.execute("SELECT count(*) FROM records").fetchone()[0]
        return count


# --- starting servers ------------------------------------------------------------------------


@pytest.mark.parametrize("end", short_and_long([kill_server], [stop_server]))
def test_a_server_starts_predicts_lists_and_deletes(
    site: Site, disk: Disk, end: Callable[..., None]
) -> None:
    trainings = site.serve()
    uuids = [one_that_has_ended(trainings) for _ in range(2)]
    end(trainings.server)
    disk.fill()
    trainings = site.serve()
    assert_predicts(trainings)
    assert [one["uuid"] for one in trainings.list()] == uuids
    assert trainings.post().status_code == 507
    assert trainings.delete(uuids[0]).status_code == 200
    assert [one["uuid"] for one in trainings.list()] == uuids[1:]
    disk.make_room()
    assert trainings.wait(trainings.begin())["status"] == "done"


def test_a_server_adopts_what_runs(site: Site, disk: Disk, places: list[Place]) -> None:
    trainings = site.serve()
    uuids = [trainings.begin(place=place) for place in places[:2]]
    places[0].wait_for_attempt()
    kill_server(trainings.server)
    disk.fill()
    trainings = site.serve()
    assert [one["status"] for one in trainings.list()] == ["running", "queued"]
    assert trainings.delete(uuids[0]).json()["status"] == "cancelled"
    disk.make_room()
    places[1].wait_for_attempt()
    places[1].open_gate()
    assert trainings.wait(uuids[1])["status"] == "done"


@pytest.mark.parametrize("stopped", [False, True])
def test_a_server_that_finds_no_room_for_its_records_has_them_later(
    site: Site, disk: Disk, stopped: bool
) -> None:
    """The directory is new, or the space that the last server released has been used since."""
    expected = []
    if stopped:
        trainings = site.serve(*NO_RESERVE)
        expected = [one_that_has_ended(trainings)]
        stop_server(trainings.server)
    disk.fill()
    trainings = site.serve(*NO_RESERVE)
    assert_predicts(trainings)
    for answer in (trainings.post(), trainings.server.get(trainings.path)):
        assert answer.status_code == 507
        assert str(site.state) in answer.text
    disk.make_room()
    wait_until(lambda: trainings.server.get(trainings.path).status_code == 200, within=20)
    assert [one["uuid"] for one in trainings.list()] == expected
    assert trainings.wait(trainings.begin())["status"] == "done"


def test_a_server_that_never_found_room_stops_well(site: Site, disk: Disk) -> None:
    disk.fill()
    stop_server(site.serve(*NO_RESERVE).server)


def test_a_server_makes_the_key_of_callbacks_once_there_is_room(site: Site, disk: Disk) -> None:
    disk.fill()
    trainings = site.serve(*NO_RESERVE, "--allow-callbacks", "127.0.0.1")
    assert_predicts(trainings)
    assert not (site.state / "callback.secret").exists()
    disk.make_room()
    wait_until(lambda: trainings.server.get(trainings.path).status_code == 200, within=20)
    headers = {"Callback-URL": "http://127.0.0.1:1/"}
    assert trainings.server.post(trainings.path, headers=headers).status_code == 200
    wait_until((site.state / "callback.secret").exists, within=20, what="the key")


# --- no free inodes --------------------------------------------------------------------------


@pytest.fixture
def few_files(tmp_path: Path) -> Iterator[Disk]:
    """A disk with few inodes."""
    with mounted(tmp_path / "disk", f"size={DISK_BYTES},nr_inodes=200") as disk:
        yield disk


def use_up_the_files(disk: Disk) -> None:
    ballast = disk.path / "files"
    with contextlib.suppress(OSError):
        ballast.mkdir()
    with contextlib.suppress(OSError):
        for number in range(1000):
            (ballast / f"{number}").touch()


@pytest.mark.parametrize("end", short_and_long([stop_server], [kill_server]))
def test_a_disk_that_can_have_no_more_files_is_a_full_one(
    few_files: Disk, end: Callable[..., None]
) -> None:
    for site in site_on(few_files):
        trainings = site.serve()
        uuids = [one_that_has_ended(trainings) for _ in range(2)]
        use_up_the_files(few_files)
        assert trainings.post().status_code == 507
        end(trainings.server)
        use_up_the_files(few_files)
        trainings = site.serve()
        assert_predicts(trainings)
        assert [one["uuid"] for one in trainings.list()] == uuids
        assert trainings.delete(uuids[0]).status_code == 200
        assert [one["uuid"] for one in trainings.list()] == uuids[1:]
