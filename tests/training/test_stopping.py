"""Stopping a server with trainings, and cancelling trainings from several clients at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import short_and_long
from tests.support import wait_until
from tests.training.trainings import (
    Place,
    Site,
    kill_server,
    of_training,
    pid_of_work,
    stop_server,
)

STOPPED = "stopped with the server"


def test_what_runs_ends_with_the_server_and_what_waits_is_left_to_the_next(
    site: Site, places: list[Place]
) -> None:
    trainings = site.serve()
    running = trainings.begin(place=places[0], do="early children, then wait")
    places[0].wait_for_children()
    waiting = trainings.begin(place=places[1])
    stop_server(trainings.server)
    assert site.processes() == []
    places[1].open_gate()
    trainings = site.serve()
    record = trainings.get(running)
    assert (record["status"], record["message"]) == ("error", STOPPED)
    assert record["signal"] == signal.SIGTERM
    assert trainings.wait(waiting)["status"] == "done"
    assert (len(places[0].attempts), len(places[1].attempts)) == (1, 1)


@pytest.mark.parametrize("seconds", short_and_long([0.0, 0.08], [0.04, 0.2]))
def test_what_is_being_started_is_stopped_or_left_to_the_next(
    site: Site, place: Place, seconds: float
) -> None:
    trainings = site.serve()
    uuid = trainings.begin(place=place)
    time.sleep(seconds)
    stop_server(trainings.server)
    assert site.processes() == []
    began = len(place.attempts)
    place.open_gate()
    record = site.serve().wait(uuid)
    if record["status"] == "done":
        assert (began, len(place.attempts), record["attempt"]) == (0, 1, 1)
    else:
        assert (record["status"], record["message"]) == ("error", STOPPED)
        assert record["attempt"] == 1
        assert len(place.attempts) == began


def test_what_is_deaf_ends_with_the_server(site: Site, place: Place) -> None:
    trainings = site.serve("--cancel-timeout", "0.5")
    uuid = trainings.begin(place=place, do="early deaf")
    place.wait_until_deaf()
    stop_server(trainings.server)
    assert site.processes() == []
    record = site.serve().get(uuid)
    assert (record["status"], record["message"], record["signal"]) == ("error", STOPPED, 9)


def test_a_server_that_stops_at_once_leaves_a_true_record(site: Site, place: Place) -> None:
    trainings = site.serve("--cancel-timeout", "3600")
    uuid = trainings.begin(place=place, do="early deaf")
    place.wait_until_deaf()
    os.kill(trainings.server.pid, signal.SIGTERM)
    wait_until(lambda: not trainings.server.is_open(), within=5, what="the closed port")
    os.kill(trainings.server.pid, signal.SIGTERM)
    assert trainings.server.wait_end() == 128 + signal.SIGTERM
    os.kill(pid_of_work(uuid), signal.SIGKILL)  # the supervisor would wait an hour before it kills
    record = site.serve().wait(uuid)
    assert (record["status"], record["message"]) == ("error", STOPPED)
    site.wait_idle()


@pytest.mark.parametrize("again", [(), pytest.param(("--keep-trainings",), marks=pytest.mark.long)])
def test_trainings_that_are_to_be_kept_go_on(
    site: Site, places: list[Place], again: tuple[str, ...]
) -> None:
    trainings = site.serve("--keep-trainings")
    running = trainings.begin(place=places[0])
    waiting = trainings.begin(place=places[1])
    places[0].wait_for_attempt()
    pid = pid_of_work(running)
    stop_server(trainings.server)
    assert pid_of_work(running) == pid
    trainings = site.serve(*again)
    assert trainings.get(running)["status"] == "running"
    assert trainings.get(waiting)["status"] == "queued"
    places[0].open_gate()
    assert trainings.wait(running)["status"] == "done"
    assert trainings.delete(waiting).json()["status"] == "cancelled"
    assert len(places[0].attempts) == 1


def test_what_ends_while_no_server_is_there_is_done(site: Site, place: Place) -> None:
    trainings = site.serve("--keep-trainings")
    uuid = trainings.begin(place=place)
    place.wait_for_attempt()
    stop_server(trainings.server)
    place.open_gate()
    site.wait_idle()
    record = site.serve().get(uuid)
    assert (record["status"], record["exit_code"], record["attempt"]) == ("done", 0, 1)


def test_cancelled_by_many_at_once_it_is_still_to_be_seen(site: Site, places: list[Place]) -> None:
    trainings = site.serve("--cancel-timeout", "2")  # all requests arrive within this time
    for place in places[:2]:
        uuid = trainings.begin(place=place, do="early deaf")
        place.wait_until_deaf()
        barrier = threading.Barrier(6)

        def delete(uuid: str = uuid, barrier: threading.Barrier = barrier) -> tuple[int, str]:
            barrier.wait()
            answer = trainings.delete(uuid)
            return answer.status_code, answer.json()["status"]

        with ThreadPoolExecutor(6) as threads:
            answers = [one.result() for one in [threads.submit(delete) for _ in range(6)]]
        assert answers == [(200, "cancelled")] * 6
        assert trainings.get(uuid)["status"] == "cancelled"
        assert of_training(uuid) == []


def test_removed_by_many_at_once_it_is_removed(site: Site) -> None:
    trainings = site.serve()
    uuid = trainings.begin()
    trainings.wait(uuid)
    with ThreadPoolExecutor(6) as threads:
        deleting = [threads.submit(trainings.delete, uuid) for _ in range(6)]
        codes = {one.result().status_code for one in deleting}
    assert codes <= {200, 404}
    assert 200 in codes
    assert trainings.list() == []
    assert not (site.state / "work" / uuid).exists()


def test_cancelled_as_soon_as_a_server_is_back(site: Site, places: list[Place]) -> None:
    trainings = site.serve()
    running, waiting = (trainings.begin(place=place) for place in places[:2])
    places[0].wait_for_attempt()
    kill_server(trainings.server)
    trainings = site.serve()
    for uuid in (waiting, running):
        assert trainings.delete(uuid).json()["status"] == "cancelled"
        assert trainings.get(uuid)["status"] == "cancelled"
    assert places[1].attempts == []
    site.wait_idle()


def test_cancelled_while_it_is_started_it_never_runs_on(site: Site, places: list[Place]) -> None:
    trainings = site.serve()
    for number, place in enumerate(places[:8]):
        uuid = trainings.begin(place=place)
        time.sleep(number * 0.03)
        assert trainings.delete(uuid).json()["status"] == "cancelled"
        trainings.wait_gone(uuid)
        record = trainings.get(uuid)
        assert record["status"] == "cancelled"
        assert len(place.attempts) <= record["attempt"] <= 1
