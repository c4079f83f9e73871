"""Models with the same name but different sources do not share their trainings."""

from __future__ import annotations

from pathlib import Path

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

OTHER = {"trains": "zoo.weights"}
"""Another model with the same name."""

ADOPTED_SECONDS = 12.0


def others(site: Site, *args: str) -> Trainings:
    """Start a server of the other model on the same state directory."""
    return site.serve(*args, models=OTHER)


def test_each_lists_and_shows_its_own_alone(site: Site) -> None:
    mine, yours = site.serve(), others(site)
    uuids = mine.begin(), yours.begin()
    mine.wait(uuids[0])
    yours.wait(uuids[1])
    assert [one["uuid"] for one in mine.list()] == [uuids[0]]
    assert [one["uuid"] for one in yours.list()] == [uuids[1]]
    assert [one["uuid"] for one in yours.list(limit=1, status="done")] == [uuids[1]]
    for path in ("", "/logs", "/artifacts/"):
        assert yours.server.get(f"{yours.path}{uuids[0]}{path}").status_code == 404
        assert mine.server.get(f"{mine.path}{uuids[0]}{path}").status_code == 200


def test_training_of_another_model_is_neither_cancelled_nor_removed(
    site: Site, place: Place
) -> None:
    mine, yours = site.serve(), others(site)
    uuid = mine.begin(place=place)
    place.wait_for_attempt()
    assert yours.delete(uuid).status_code == 404
    place.open_gate()
    assert mine.wait(uuid)["status"] == "done"
    assert yours.delete(uuid).status_code == 404
    assert mine.get(uuid)["status"] == "done"


def test_jobs_are_apart_too(site: Site) -> None:
    mine, yours = site.serve(), others(site)
    begun = mine.server.predict("trains", headers={"Prefer": "respond-async"}).json()
    jobs, other_jobs = (Trainings(one.server, "trains", "jobs") for one in (mine, yours))
    assert jobs.wait(begun["uuid"])["status"] == "done"
    assert other_jobs.list() == []
    assert yours.server.get(f"{other_jobs.path}{begun['uuid']}/result").status_code == 404
    assert jobs.server.get(f"{jobs.path}{begun['uuid']}/result").status_code == 200


def test_what_waits_is_left_to_a_server_of_its_model(site: Site, places: list[Place]) -> None:
    mine = site.serve()
    running, waiting = mine.begin(place=places[0]), mine.begin(place=places[1])
    places[0].wait_for_attempt()
    kill_server(mine.server)
    places[0].open_gate()
    places[1].open_gate()
    yours = others(site)
    wait_until(lambda: not of_training(running), within=END_SECONDS, what="the end of it")
    uuid = yours.begin()  # the server would start an older waiting training first
    assert yours.wait(uuid)["status"] == "done"
    assert places[1].attempts == []
    stop_server(yours.server)
    mine = site.serve()
    assert mine.wait(waiting)["status"] == "done"
    assert [one["uuid"] for one in mine.list()] == [running, waiting]


def test_model_of_the_same_name_is_not_reloaded_for_an_adopted_training(
    site: Site, place: Place
) -> None:
    site.reloads = True
    mine = site.serve()
    running = mine.begin(place=place)
    place.wait_for_attempt()
    kill_server(mine.server)
    yours = others(site)
    place.open_gate()
    wait_until(lambda: not of_training(running), within=END_SECONDS, what="the end of it")
    assert yours.wait(yours.begin())["status"] == "done"
    wait_until(lambda: "was reloaded" in yours.server.log(), within=END_SECONDS, what="a reload")
    # It was reloaded after its own training, and not after the adopted one.
    assert yours.server.log().count("Model trains was reloaded") == 1
    mine = site.serve()
    assert mine.get(running)["status"] == "done"


def test_old_records_of_another_model_are_kept(site: Site) -> None:
    mine = site.serve()
    uuid = mine.begin()
    mine.wait(uuid)
    stop_server(mine.server)
    yours = others(site, "--training-ttl", "0.1", "--sweep-interval", "0.1")
    own = yours.begin()
    yours.wait(own)
    wait_until(lambda: yours.list() == [], within=END_SECONDS, what="a sweep")
    stop_server(yours.server)
    assert [one["uuid"] for one in site.serve().list()] == [uuid]


def test_exclusive_training_does_not_wait_for_a_prediction_of_another_model(
    site: Site, place: Place
) -> None:
    mine = site.serve()
    query = {"place": str(place)}
    mine.server.predict("trains", params=query, headers={"Prefer": "respond-async"})
    place.wait_for_attempt()
    kill_server(mine.server)
    yours = others(site, "--train-exclusive")
    assert yours.wait(yours.begin())["status"] == "done"
    place.open_gate()


def test_same_file_is_the_same_model_however_it_is_named(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "demo.py").write_text("def train():\n    return 1\n")
    first = site.serve("demo.py", models={}, cwd=folder)
    first.model = "demo"
    uuid = first.begin()
    first.wait(uuid)
    stop_server(first.server)
    second = site.serve(str(folder / "demo.py"), models={}, cwd=tmp_path)
    second.model = "demo"
    assert [one["uuid"] for one in second.list()] == [uuid]


def test_log_says_at_the_start_that_records_of_another_model_are_not_shown(site: Site) -> None:
    mine = site.serve()
    mine.wait(mine.begin())
    yours = others(site)
    said = "1 record(s) of another model trains, zoo.trains, are not shown for zoo.weights"
    assert said in yours.server.log()


def test_files_of_the_same_name_are_different_models(site: Site, tmp_path: Path) -> None:
    uuids = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "demo.py").write_text(f"def train():\n    return {name!r}\n")
        trainings = site.serve("demo.py", models={}, cwd=folder)
        trainings.model = "demo"
        uuids.append(trainings.begin())
        assert trainings.wait(uuids[-1])["result"]["output"] == name
        assert [one["uuid"] for one in trainings.list()] == uuids[-1:]
