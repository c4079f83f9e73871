"""Several servers that share one state directory."""

from __future__ import annotations

import pytest

from tests.support import wait_until
from tests.training.trainings import (
    END_SECONDS,
    Place,
    Site,
    Trainings,
    kill_server,
    of_training,
    stop_server,
)

ADOPTED_SECONDS = 12.0


@pytest.fixture
def pair(site: Site) -> tuple[Trainings, Trainings]:
    return site.serve(), site.serve()


def begin_two(trainings: Trainings, one: Place, other: Place) -> list[str]:
    """Start two trainings, of which the second waits for the first."""
    uuids = [trainings.begin(place=one), trainings.begin(place=other)]
    one.wait_for_attempt()
    return uuids


def statuses(trainings: Trainings) -> dict[str, str]:
    return {one["uuid"]: one["status"] for one in trainings.list()}


def test_each_lists_all_and_starts_its_own(
    pair: tuple[Trainings, Trainings], places: list[Place]
) -> None:
    mine, yours = begin_two(pair[0], *places[:2]), begin_two(pair[1], *places[2:4])
    expected = dict(zip(mine + yours, ["running", "queued"] * 2, strict=True))
    assert statuses(pair[0]) == statuses(pair[1]) == expected
    places[0].open_gate()  # the first server has a free place, and a training waits on the second
    places[1].wait_for_attempt()
    places[1].open_gate()
    assert pair[1].wait(mine[1])["status"] == "done"
    assert statuses(pair[0])[yours[1]] == "queued"
    assert places[3].attempts == []
    for place in places[2:4]:
        place.open_gate()
    assert pair[0].wait(yours[1])["status"] == "done"
    assert [len(place.attempts) for place in places[:4]] == [1] * 4


def test_one_cancels_what_runs_at_the_other(
    pair: tuple[Trainings, Trainings], places: list[Place]
) -> None:
    running, waiting = begin_two(pair[0], *places[:2])
    assert pair[1].delete(running).json()["status"] == "cancelled"
    assert of_training(running) == []
    assert pair[0].get(running)["status"] == "cancelled"
    places[1].wait_for_attempt()
    places[1].open_gate()
    assert pair[1].wait(waiting)["status"] == "done"


def test_one_shows_the_log_of_what_runs_at_the_other(
    pair: tuple[Trainings, Trainings], place: Place
) -> None:
    uuid = pair[0].begin(place=place)
    place.wait_for_attempt()
    wait_until(lambda: "training begins" in pair[1].log(uuid), within=10)
    place.open_gate()
    assert pair[1].wait(uuid)["status"] == "done"


def test_one_adopts_what_both_have_left(
    site: Site, pair: tuple[Trainings, Trainings], places: list[Place]
) -> None:
    mine, yours = begin_two(pair[0], *places[:2]), begin_two(pair[1], *places[2:4])
    for trainings in pair:
        kill_server(trainings.server)
    trainings = site.serve()
    expected = dict(zip(mine + yours, ["running", "queued"] * 2, strict=True))
    assert statuses(trainings) == expected
    places[0].open_gate()
    assert trainings.wait(mine[0])["status"] == "done"
    assert trainings.get(mine[1])["status"] == "queued"  # one is still running
    for place in places[1:4]:
        place.open_gate()
    assert [trainings.wait(uuid)["status"] for uuid in mine + yours] == ["done"] * 4
    assert [len(place.attempts) for place in places[:4]] == [1] * 4


@pytest.mark.parametrize("end", [kill_server, stop_server])
def test_one_adopts_what_the_other_leaves(
    pair: tuple[Trainings, Trainings], places: list[Place], end: object
) -> None:
    running, waiting = begin_two(pair[0], *places[:2])
    assert callable(end)
    end(pair[0].server)
    places[0].open_gate()
    places[1].open_gate()
    record = pair[1].wait(running)
    assert record["status"] == ("done" if end is kill_server else "error")
    wait_until(lambda: places[1].attempts, within=ADOPTED_SECONDS, what="one that is adopted")
    assert pair[1].wait(waiting)["status"] == "done"
    assert len(places[1].attempts) == 1


def test_the_other_goes_on_when_one_is_told_to_stop(
    pair: tuple[Trainings, Trainings], place: Place
) -> None:
    uuid = pair[0].begin(place=place)
    place.wait_for_attempt()
    stop_server(pair[1].server)
    assert pair[0].get(uuid)["status"] == "running"
    place.open_gate()
    assert pair[0].wait(uuid)["status"] == "done"


def test_what_one_has_left_running_ends_with_it_alone(
    pair: tuple[Trainings, Trainings], places: list[Place]
) -> None:
    uuids = [
        one.begin(place=place, do="early children")
        for one, place in zip(pair, places, strict=False)
    ]
    for uuid in uuids:
        assert pair[0].wait(uuid)["status"] == "done"
    kill_server(pair[0].server)
    wait_until(lambda: not places[0].running_children, within=END_SECONDS, what="their end")
    assert places[1].running_children == places[1].children
