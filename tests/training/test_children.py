"""Children of a training, such as a TensorBoard, keep running only after a success."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from tests.conftest import short_and_long
from tests.support import wait_until
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


def leave_children(trainings: Trainings, place: Place) -> str:
    """Run a training that ends with "done" and leaves three processes running; return its uuid."""
    place.open_gate()
    uuid = trainings.begin(place=place, do="children")
    assert trainings.wait(uuid)["status"] == "done"
    wait_until(lambda: trainings.get(uuid)["exit_code"] == 0, within=10, what="its end")
    assert place.running_children == place.children
    assert len(place.children) == 3
    return uuid


def wait_for_the_end(place: Place, within: float = END_SECONDS) -> None:
    wait_until(lambda: not place.running_children, within=within, what="the end of the children")


def test_they_stay_up_until_the_next_training_of_the_model(site: Site, places: list[Place]) -> None:
    trainings = site.serve()
    uuid = leave_children(trainings, places[0])
    following = trainings.begin(place=places[1])
    places[1].wait_for_attempt()
    assert places[0].running_children == []
    assert trainings.get(uuid)["status"] == "done"
    places[1].open_gate()
    assert trainings.wait(following)["status"] == "done"


def test_they_stay_up_when_another_model_is_trained(site: Site, place: Place) -> None:
    models = {"trains": "zoo.trains", "other": "zoo.trains"}
    trainings = site.serve(models=models)
    leave_children(trainings, place)
    other = Trainings(trainings.server, "other")
    assert other.wait(other.begin())["status"] == "done"
    assert place.running_children == place.children


def test_the_workers_are_replaced_though_they_stay_up(site: Site, place: Place) -> None:
    trainings = site.serve("--reload-after-train")
    ready = "/v2/models/trains/ready"
    before = trainings.server.get(ready).json()["pids"]
    leave_children(trainings, place)
    wait_until(lambda: trainings.server.get(ready).json()["pids"] != before, within=END_SECONDS)
    assert place.running_children == place.children


def test_they_end_when_the_record_is_removed(site: Site, place: Place) -> None:
    trainings = site.serve()
    uuid = leave_children(trainings, place)
    assert trainings.delete(uuid).json()["status"] == "done"
    assert place.running_children == []
    assert trainings.list() == []


@pytest.mark.parametrize("args", [(), ("--keep-trainings",)])
def test_they_end_with_the_server(site: Site, place: Place, args: tuple[str, ...]) -> None:
    trainings = site.serve(*args)
    uuid = leave_children(trainings, place)
    stop_server(trainings.server)
    assert place.running_children == []
    assert of_training(uuid) == []


@pytest.mark.parametrize("again", short_and_long([True], [False]))
def test_they_end_when_the_server_was_killed(site: Site, place: Place, again: bool) -> None:
    trainings = site.serve()
    uuid = leave_children(trainings, place)
    kill_server(trainings.server)
    if again:
        trainings = site.serve()
    wait_for_the_end(place, within=6)
    record = (trainings if again else site.serve()).get(uuid)
    assert (record["status"], record["exit_code"]) == ("done", 0)


def test_they_end_when_the_supervisor_was_killed(site: Site, place: Place) -> None:
    trainings = site.serve()
    uuid = leave_children(trainings, place)
    supervisor_of(uuid).kill()
    wait_for_the_end(place)
    assert trainings.get(uuid)["status"] == "done"


def test_they_end_when_the_training_is_adopted_and_ends_without_success(
    site: Site, place: Place
) -> None:
    trainings = site.serve()
    uuid = trainings.begin(place=place, do="early children, then wait")
    place.wait_for_children()
    kill_server(trainings.server)
    trainings = site.serve()
    os.kill(int(place.attempts[0]), signal.SIGKILL)
    assert trainings.wait(uuid)["status"] == "error"
    wait_for_the_end(place)


def fail(trainings: Trainings, place: Place) -> str:
    place.open_gate()
    return trainings.begin(place=place, do="children, then raise")


def cancel(trainings: Trainings, place: Place) -> str:
    uuid = trainings.begin(place=place, do="early children, then wait")
    place.wait_for_children()
    trainings.delete(uuid)
    return uuid


def kill(trainings: Trainings, place: Place) -> str:
    uuid = trainings.begin(place=place, do="early children, then wait")
    place.wait_for_children()
    os.kill(int(place.attempts[0]), signal.SIGKILL)
    return uuid


@pytest.mark.parametrize(
    ("end", "status"), [(fail, "error"), (cancel, "cancelled"), (kill, "error")]
)
def test_they_end_with_what_is_no_success(
    site: Site, place: Place, end: Callable[[Trainings, Place], str], status: str
) -> None:
    trainings = site.serve()
    uuid = end(trainings, place)
    assert trainings.wait(uuid)["status"] == status
    wait_for_the_end(place)
    trainings.wait_gone(uuid)
    assert len(place.children) == 3


def test_a_child_that_has_the_pipes_of_its_parent_does_not_hide_its_death(
    site: Site, place: Place
) -> None:
    trainings = site.serve()
    uuid = trainings.begin(place=place, do="early fork, then kill")
    record = trainings.wait(uuid)
    assert (record["status"], record["signal"]) == ("error", 9)
    trainings.wait_gone(uuid)


def test_a_child_that_returns_from_train_does_not_end_the_training(
    site: Site, place: Place
) -> None:
    trainings = site.serve()
    uuid = trainings.begin(place=place, do="early fork, then wait")
    wait_until(lambda: "returned" in place.attempts, within=END_SECONDS, what="the end of a child")
    assert trainings.get(uuid)["status"] == "running"
    place.open_gate()
    record = trainings.wait(uuid)
    assert (record["status"], record["result"]["output"]) == ("done", {"text": "learned"})


def test_a_training_ends_soon_with_its_server_when_it_leaves_children_just_then(
    site: Site, place: Place
) -> None:
    trainings = site.serve()
    uuid = trainings.begin(place=place, do="children")
    place.wait_for_attempt()
    place.open_gate()
    trainings.wait(uuid)
    stop_server(trainings.server)
    assert place.running_children == []
    assert "in time" not in trainings.server.log()
