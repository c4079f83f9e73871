"""Waiting trainings run in order; the numbers of running and of waiting ones are limited."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import short_and_long
from tests.support import Part, multipart, wait_until
from tests.training.trainings import Place, Site, Trainings, kill_server


def statuses(trainings: Trainings, uuids: Sequence[str]) -> list[str]:
    return [trainings.get(uuid)["status"] for uuid in uuids]


@pytest.mark.parametrize(
    ("at_once", "kill"), short_and_long([(1, False), (2, True)], [(1, True), (2, False)])
)
def test_trainings_take_their_turns_in_order(
    site: Site, places: list[Place], at_once: int, kill: bool
) -> None:
    args = ("--max-trainings", str(at_once))
    trainings = site.serve(*args)
    uuids = [trainings.begin(place=place) for place in places[:5]]
    for number, uuid in enumerate(uuids):
        for place in places[number : min(number + at_once, 5)]:
            place.wait_for_attempt()
        expected = ["done"] * number + ["running"] * at_once + ["queued"] * 5
        assert statuses(trainings, uuids) == expected[:5]
        if kill and number in (0, 2):
            kill_server(trainings.server)
            trainings = site.serve(*args)
            assert statuses(trainings, uuids) == expected[:5]
        assert all(place.attempts == [] for place in places[number + at_once : 5])
        places[number].open_gate()
        assert trainings.wait(uuid)["status"] == "done"
    began = [trainings.get(uuid)["start_date"] for uuid in uuids]
    assert all(first < later for first, later in zip(began, began[at_once:], strict=False))
    assert [len(place.attempts) for place in places[:5]] == [1] * 5


def test_one_of_the_queue_that_is_cancelled_is_passed_over(site: Site, places: list[Place]) -> None:
    trainings = site.serve()
    uuids = [trainings.begin(place=place) for place in places[:3]]
    assert trainings.delete(uuids[1]).json()["status"] == "cancelled"
    places[0].open_gate()
    places[2].wait_for_attempt()
    places[2].open_gate()
    trainings.wait(uuids[2])
    assert statuses(trainings, uuids) == ["done", "cancelled", "done"]
    assert places[1].attempts == []


def test_one_of_the_queue_that_another_server_removes_holds_up_no_other(
    site: Site, places: list[Place]
) -> None:
    trainings, beside = site.serve(), site.serve()
    for place, following in zip(places[:6:2], places[1:6:2], strict=True):
        uuids = [trainings.begin(place=one) for one in (place, following)]
        last = trainings.begin()
        for status in ("cancelled", "cancelled"):  # the second one removes it
            assert beside.delete(uuids[1]).json()["status"] == status
        place.open_gate()
        assert trainings.wait(last)["status"] == "done"
        assert trainings.wait(uuids[0])["status"] == "done"
        assert following.attempts == []


def test_no_more_wait_than_may(site: Site, place: Place) -> None:
    trainings = site.serve("--max-queued-trainings", "2")
    uuids = [trainings.begin(place=place) for _ in range(3)]
    answer = trainings.post(place=place)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert "(2 waiting)" in answer.text
    assert [one["uuid"] for one in trainings.list()] == uuids
    trainings.delete(uuids[1])
    uuids.append(trainings.begin(place=place))
    assert trainings.post(place=place).status_code == 503
    place.open_gate()
    for uuid in uuids:
        trainings.wait(uuid)
    assert len(place.attempts) == 3


@pytest.mark.parametrize("number", short_and_long([0, 2], [1, 3]))
def test_of_many_that_come_at_once_as_many_are_taken_as_may_wait(
    site: Site, place: Place, number: int
) -> None:
    trainings = site.serve("--max-queued-trainings", str(number))
    with ThreadPoolExecutor(8) as threads:
        posting = [threads.submit(trainings.post, place=place) for _ in range(8)]
        codes = sorted(one.result().status_code for one in posting)
    assert codes == [200] * (number + 1) + [503] * (7 - number)
    for record in trainings.list()[::-1]:
        trainings.delete(record["uuid"])


def test_an_upload_that_the_end_of_the_server_cuts_off_leaves_nothing(
    site: Site, tmp_path: Path
) -> None:
    trainings = site.serve()
    form = multipart(Part("data", b"x" * 3_000_000, "a.txt", "text/plain"))
    body = form["content"]
    work = site.state / "work"

    def pieces() -> object:
        yield body[: len(body) // 2]
        wait_until(lambda: any(path.is_file() for path in work.rglob("uploads/*")), within=10)
        kill_server(trainings.server)
        yield body[len(body) // 2 :]

    headers = {**form["headers"], "Content-Length": str(len(body))}
    with pytest.raises(Exception, match=r"(?i)disconnect|reset|pipe|closed"):
        trainings.server.post(trainings.path, content=pieces(), headers=headers)
    assert len(list(work.iterdir())) == 1
    trainings = site.serve()
    assert trainings.list() == []
    assert list(work.iterdir()) == []


def test_one_that_was_asked_for_before_another_is_not_passed_by_it_after_a_restart(
    site: Site, places: list[Place]
) -> None:
    trainings = site.serve()
    uuids = [trainings.begin(place=place) for place in places[:3]]
    kill_server(trainings.server)
    trainings = site.serve()
    uuids.append(trainings.begin(place=places[3]))
    for place, uuid in zip(places, uuids, strict=False):
        place.wait_for_attempt()
        assert statuses(trainings, uuids).count("running") == 1
        place.open_gate()
        trainings.wait(uuid)
    began = [trainings.get(uuid)["start_date"] for uuid in uuids]
    assert began == sorted(began)
