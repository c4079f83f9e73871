"""A server that is killed at any moment loses no training, and its records stay correct."""

from __future__ import annotations

import itertools
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import httpx
import pytest

from tests.conftest import Chaos
from tests.support import wait_until
from tests.training.trainings import Place, Site, Trainings, kill_server, of_training, pid_of_work

LEAST_TIMES = 4


@pytest.fixture
def times(chaos: Chaos) -> int:
    """How often each test kills a server: 10 times in the long form."""
    return max(LEAST_TIMES, chaos.rounds // 10)


def restart(site: Site, moment: Callable[[], object] = lambda: None, *args: str) -> Trainings:
    """Kill the newest server when `moment` returns, and start another one."""
    kill_server(site.servers[-1], moment)
    return site.serve(*args)


def after(seconds: float, act: Callable[[], object]) -> Callable[[], None]:
    """Return a function that calls `act` and then waits."""

    def moment() -> None:
        act()
        time.sleep(seconds)

    return moment


def stop_reason(site: Site, uuid: str) -> str:
    """Return the reason in the record for stopping a training, or an empty string."""
    db = sqlite3.connect(site.state / "trainings.db", timeout=30)
    try:
        (reason,) = db.execute("SELECT stop FROM records WHERE uuid = ?", (uuid,)).fetchone()
        return str(reason)
    finally:
        db.close()


def assert_done(trainings: Trainings, uuid: str, place: Place) -> None:
    """Check that the training is done, ran once, and has a complete record."""
    record = trainings.wait(uuid)
    assert (record["status"], record.get("message")) == ("done", None)
    assert record["result"]["output"] == {"text": uuid_text(place)}
    assert record["attempt"] == 1
    assert len(place.attempts) == 1
    began, ended = (datetime.fromisoformat(record[f"{name}_date"]) for name in ("start", "finish"))
    assert datetime.fromisoformat(record["date"]) <= began <= ended
    assert trainings.log(uuid).count("training begins") == 1
    wait_until(lambda: trainings.get(uuid)["exit_code"] == 0, within=10, what="an exit code")
    assert trainings.get(uuid)["signal"] is None


def assert_cancelled(trainings: Trainings, uuid: str, attempts: int, place: Place) -> None:
    record = trainings.wait(uuid)
    assert record["status"] == "cancelled"
    assert "result" not in record
    assert record["attempt"] == len(place.attempts) == attempts
    trainings.wait_gone(uuid)


def uuid_text(place: Place) -> str:
    return f"learned in {place.path.name}"


def begin(trainings: Trainings, place: Place, **arguments: Any) -> str:
    return trainings.begin(place=place, text=uuid_text(place), **arguments)


def test_what_runs_goes_on_and_is_adopted(site: Site, places: list[Place], times: int) -> None:
    trainings = site.serve()
    known = []
    for number, place in enumerate(places[:times]):
        uuid = begin(trainings, place)
        known.append(uuid)
        place.wait_for_attempt()
        pid = pid_of_work(uuid)
        trainings = restart(site)
        assert trainings.get(uuid)["status"] == "running"
        assert "training begins" in trainings.log(uuid)
        assert pid_of_work(uuid) == pid == int(place.attempts[0])
        if number % 2:
            assert trainings.delete(uuid).json()["status"] == "cancelled"
            assert of_training(uuid) == []
            assert_cancelled(trainings, uuid, 1, place)
        else:
            place.open_gate()
            assert_done(trainings, uuid, place)
        assert [one["uuid"] for one in trainings.list()] == known


def test_what_waits_is_run_when_its_turn_comes(site: Site, places: list[Place], times: int) -> None:
    trainings = site.serve()
    running = begin(trainings, places[0])
    places[0].wait_for_attempt()
    for place, following in itertools.pairwise(places[: times + 1]):
        waiting = begin(trainings, following)
        unwanted = begin(trainings, following)
        assert trainings.get(waiting)["status"] == "queued"
        assert trainings.delete(unwanted).json()["status"] == "cancelled"
        trainings = restart(site)
        assert trainings.get(running)["status"] == "running"
        assert trainings.get(waiting)["status"] == "queued"
        assert trainings.get(waiting)["attempt"] == 0
        assert trainings.get(unwanted)["status"] == "cancelled"
        place.open_gate()
        assert_done(trainings, running, place)
        following.wait_for_attempt()
        assert trainings.get(waiting)["status"] == "running"
        running = waiting
    trainings.delete(running)
    assert_cancelled(trainings, running, 1, places[times])


def test_what_is_being_started_runs_once(site: Site, places: list[Place], times: int) -> None:
    trainings = site.serve()
    for number, place in enumerate(places[:times]):
        uuids: list[str] = []

        def start(place: Place = place, uuids: list[str] = uuids) -> None:
            uuids.append(begin(trainings, place))  # noqa: B023

        trainings = restart(site, after(0.15 * number / times, start))
        place.wait_for_attempt()
        other = begin(trainings, places[-1])
        assert trainings.get(other)["status"] == "queued"
        trainings.delete(other)
        assert trainings.get(uuids[0])["status"] == "running"
        place.open_gate()
        assert_done(trainings, uuids[0], place)
    assert places[-1].attempts == []


def test_what_has_just_finished_is_done(site: Site, places: list[Place], times: int) -> None:
    trainings = site.serve()
    for number, place in enumerate(places[:times]):
        uuid = begin(trainings, place)
        place.wait_for_attempt()
        trainings = restart(site, after(0.1 * number / times, place.open_gate))
        assert trainings.get(uuid)["status"] in ("running", "done")
        assert_done(trainings, uuid, place)
        trainings.wait_gone(uuid)


def test_what_is_being_cancelled_ends_cancelled(
    site: Site, places: list[Place], times: int
) -> None:
    trainings = site.serve()
    for number, place in enumerate(places[:times]):
        uuid = begin(trainings, place)
        place.wait_for_attempt()
        cancelling = threading.Thread(target=_delete, args=(trainings, uuid))
        trainings = restart(site, after(0.05 * number / times, cancelling.start))
        cancelling.join()
        if trainings.get(uuid)["status"] == "running" and not stop_reason(site, uuid):
            trainings.delete(uuid)  # the server was killed before it received the request
        assert_cancelled(trainings, uuid, 1, place)


def _delete(trainings: Trainings, uuid: str) -> None:
    try:
        trainings.delete(uuid)
    except httpx.TransportError:
        pass


def test_what_is_deaf_is_cancelled_without_the_server(site: Site, place: Place) -> None:
    trainings = site.serve()
    uuid = begin(trainings, place, do="early deaf")
    place.wait_until_deaf()
    cancelling = threading.Thread(target=_delete, args=(trainings, uuid))

    def cancel() -> None:
        cancelling.start()
        wait_until(lambda: stop_reason(site, uuid), within=10, what="the wish to stop it")

    kill_server(site.servers[-1], cancel)
    cancelling.join()
    trainings.wait_gone(uuid)
    record = site.serve().get(uuid)
    assert (record["status"], record["attempt"]) == ("cancelled", 1)
    assert record["signal"] == 9


def test_a_request_that_is_cut_off_is_all_there_or_not_at_all(
    site: Site, places: list[Place], times: int
) -> None:
    trainings = site.serve()
    known: set[str] = set()
    for number, place in enumerate(places[:times]):
        posting = threading.Thread(target=_begin_and_fail, args=(trainings, place))
        trainings = restart(site, after(0.03 * number / times, posting.start))
        posting.join()
        place.open_gate()
        new = {record["uuid"] for record in trainings.list()} - known
        for uuid in new:
            assert_done(trainings, uuid, place)
        assert len(place.attempts) == len(new) <= 1
        known |= new
        assert {path.name for path in (site.state / "work").iterdir()} == known


def _begin_and_fail(trainings: Trainings, place: Place) -> None:
    try:
        begin(trainings, place)
    except httpx.TransportError:
        pass


def test_lock_of_a_server_that_was_killed_is_removed(site: Site) -> None:
    kill_server(site.serve().server)
    (before,) = (site.state / "servers").iterdir()
    site.serve("--sweep-interval", "0.2")
    wait_until(lambda: not before.exists(), within=10, what="that the lock is removed")
    assert len(list((site.state / "servers").iterdir())) == 1
