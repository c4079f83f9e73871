"""The normal life cycle of a training."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support import Part, Server, multipart, predictions, wait_until
from tests.training.trainings import Place, Trainings, of_training

MODELS = {"trains": "zoo.trains", "bare": "zoo.bare"}


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all(MODELS)


@pytest.fixture
def trainings(server: Server) -> Trainings:
    return Trainings(server)


def test_it_is_answered_at_once_with_its_record(trainings: Trainings, place: Place) -> None:
    record = trainings.post(place=place, text="a").json()
    assert record["args"] == {
        "place": str(place),
        "do": "return",
        "text": "a",
        "size": 0,
        "seconds": 0.0,
    }
    assert re.fullmatch("[0-9a-f]{32}", record["uuid"])
    assert record["status"] == "running"
    assert abs((datetime.now() - datetime.fromisoformat(record["date"])).total_seconds()) < 30
    place.open_gate()
    trainings.wait(record["uuid"])


def test_it_is_done_with_a_result(trainings: Trainings, place: Place) -> None:
    uuid = trainings.begin(place=place, text="a")
    place.wait_for_attempt()
    assert trainings.get(uuid)["status"] == "running"
    assert "result" not in trainings.get(uuid)
    place.open_gate()
    record = trainings.wait(uuid)
    assert record["status"] == "done"
    assert record["result"]["output"] == {"text": "a"}
    assert datetime.fromisoformat(record["result"]["finish_date"]) > datetime.fromisoformat(
        record["date"]
    )
    assert re.fullmatch(r"0:00:\d\d(\.\d+)?", record["result"]["duration"])
    assert record["attempt"] == 1
    assert record["model"] == "trains"
    wait_until(lambda: trainings.get(uuid)["exit_code"] == 0, within=10)
    assert "training begins" in trainings.log(uuid)
    trainings.wait_gone(uuid)


def test_it_sees_the_directory_and_the_environment_of_the_server(
    server: Server, trainings: Trainings
) -> None:
    output = trainings.wait(trainings.begin(do="arguments"))["result"]["output"]
    assert output["cwd"] == str(server.home)
    assert output["home"] == str(server.home)
    assert output["warmed"] == 1


def test_an_upload_is_there_while_it_trains(server: Server, trainings: Trainings) -> None:
    form = multipart(Part("do", b"arguments"), Part("data", b"content", "x/a.txt", "text/plain"))
    record = server.post(trainings.path, **form).json()
    assert record["args"]["data"] == ["data", "text/plain", "a.txt"]
    assert trainings.wait(record["uuid"])["result"]["output"]["content"] == "content"


def test_secrets_reach_train_and_nothing_else(server: Server, trainings: Trainings) -> None:
    record = trainings.post(do="arguments", password="hidden-1", key="hidden-2").json()
    uuid = record["uuid"]
    done = trainings.wait(uuid)
    assert done["result"].pop("output")["password"] == "hidden-1"
    shown = str([record, done["args"], [one["args"] for one in trainings.list()], server.log()])
    assert "hidden" not in shown
    assert record["args"]["password"] == record["args"]["key"] == "********"


def test_invalid_arguments_are_refused_before_anything_is_kept(
    server: Server, trainings: Trainings
) -> None:
    known = {one["uuid"] for one in trainings.list()}
    answer = trainings.post(size="many")
    assert answer.status_code == 422
    assert answer.json() == {"size": ["Not a valid integer."]}
    assert {one["uuid"] for one in trainings.list()} == known
    work = server.home / ".local/state/deepaas/work"
    wait_until(lambda: {path.name for path in work.iterdir()} <= known, within=10)


def test_a_model_that_does_not_train_says_so(server: Server) -> None:
    answer = server.post("/v2/models/bare/train/")
    assert answer.status_code == 501
    assert "Not implemented by underlying model" in answer.text
    assert Trainings(server, "bare").list() == []


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_what_there_is_not_is_not_found(server: Server, method: str) -> None:
    for path in ("nope", "0" * 32, "..%2f..%2f", "%00"):
        answer = server.request(method, f"/v2/models/trains/train/{path}")
        assert answer.status_code == 404
        assert answer.text == "404: Not Found"


def test_a_training_of_one_model_is_none_of_another(server: Server, trainings: Trainings) -> None:
    uuid = trainings.begin()
    assert server.get(f"/v2/models/bare/train/{uuid}").status_code == 404
    assert server.get(f"/v2/models/trains/jobs/{uuid}").status_code == 404
    trainings.wait(uuid)


def test_new_weights_and_arguments_come_without_a_restart(serve: Serve) -> None:
    server = serve(MODELS)
    trainings = Trainings(server)
    assert predictions(server.predict("trains"))["weights"] == "none"
    assert server.predict("trains", params={"known": "better"}).status_code == 422
    trainings.wait(trainings.begin(do="learn", text="better"))
    wait_until(
        lambda: predictions(server.predict("trains"))["weights"] == "better",
        within=20,
        what="the new weights",
    )
    assert predictions(server.predict("trains"))["warmed"] == 1
    assert server.predict("trains", params={"known": "better"}).status_code == 200


def test_predictions_are_answered_meanwhile(
    server: Server, trainings: Trainings, place: Place
) -> None:
    uuid = trainings.begin(place=place)
    place.wait_for_attempt()
    assert predictions(server.predict("trains"))["warmed"] == 1
    assert trainings.get(uuid)["status"] == "running"
    place.open_gate()
    trainings.wait(uuid)


def test_one_that_runs_is_cancelled(trainings: Trainings, place: Place) -> None:
    uuid = trainings.begin(place=place)
    place.wait_for_attempt()
    answer = trainings.delete(uuid)
    assert answer.status_code == 200
    assert answer.json()["status"] == "cancelled"
    assert of_training(uuid) == []
    assert trainings.get(uuid)["status"] == "cancelled"


def test_the_record_of_one_that_has_ended_is_removed(server: Server, trainings: Trainings) -> None:
    uuid = trainings.begin()
    trainings.wait(uuid)
    answer = trainings.delete(uuid)
    assert answer.status_code == 200
    assert answer.json()["status"] == "done"
    assert server.get(f"{trainings.path}{uuid}").status_code == 404
    assert uuid not in [one["uuid"] for one in trainings.list()]
    assert not (server.home / ".local/state/deepaas/work" / uuid).exists()


def test_files_of_the_state_are_private(server: Server, trainings: Trainings) -> None:
    trainings.wait(trainings.begin(do="write", text="file"))
    state = server.home / ".local/state/deepaas"
    assert state.stat().st_mode & 0o077 == 0
    kept = [path for path in state.rglob("*") if path.is_file() and "artifacts" not in path.parts]
    assert len(kept) > 5
    open_to_others = [path for path in kept if path.stat().st_mode & 0o077]
    assert [path for path in open_to_others if path.name != "supervisor.log"] == []


def test_the_working_directory_may_have_modules_of_our_names(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "deepaas.py").write_text("raise RuntimeError")
    (tmp_path / "sqlite3.py").write_text("raise RuntimeError")
    trainings = Trainings(serve(MODELS, cwd=tmp_path))
    assert trainings.wait(trainings.begin())["status"] == "done"
