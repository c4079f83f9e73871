"""`--train-exclusive`: the workers of a model do not use the device while a training runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.conftest import Serve
from tests.support import Server, predictions, wait_until
from tests.training.trainings import Place, Site, Trainings, kill_server, pid_of_work

MODELS = {"trains": "zoo.trains", "echo": "zoo.echo"}
EXCLUSIVE = "--train-exclusive"


@pytest.fixture
def server(serve: Serve) -> Server:
    return serve(MODELS, EXCLUSIVE)


@pytest.fixture
def trainings(server: Server) -> Trainings:
    return Trainings(server)


def worker_of(server: Server) -> int:
    (pid,) = server.get("/v2/models/trains/ready").json()["pids"]
    return int(pid)


def wait_until_it_predicts(server: Server) -> Any:
    """Wait for the workers, and return a prediction."""
    wait_until(lambda: server.predict("trains").status_code == 200, within=20, what="predictions")
    return predictions(server.predict("trains"))


def test_workers_are_gone_while_it_trains(
    server: Server, trainings: Trainings, place: Place
) -> None:
    worker = worker_of(server)
    uuid = trainings.begin(place=place)
    place.wait_for_attempt()
    assert not psutil.pid_exists(worker)
    place.open_gate()
    trainings.wait(uuid)


def test_predict_is_refused_with_the_reason_meanwhile(
    server: Server, trainings: Trainings, place: Place
) -> None:
    trainings.begin(place=place)
    place.wait_for_attempt()
    answer = server.predict("trains")
    assert answer.status_code == 503
    assert answer.json()["code"] == "model_not_ready"
    assert "is being trained" in answer.json()["message"]
    assert int(answer.headers["Retry-After"]) > 0
    ready = server.get("/v2/models/trains/ready")
    assert ready.status_code == 503
    assert "is being trained" in ready.json()["problem"]


def test_a_request_that_has_come_often_is_refused_too(
    server: Server, trainings: Trainings, place: Place
) -> None:
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        answers = [client.post("/v2/models/trains/predict/") for _ in range(5)]
        assert {answer.status_code for answer in answers} == {200}
        trainings.begin(place=place)
        place.wait_for_attempt()
        assert client.post("/v2/models/trains/predict/").status_code == 503


def test_other_models_predict_on(server: Server, trainings: Trainings, place: Place) -> None:
    trainings.begin(place=place)
    place.wait_for_attempt()
    assert server.predict("echo", params={"text": "a"}).status_code == 200


@pytest.mark.parametrize("how", ["done", "error", "cancelled", "killed"])
def test_workers_come_back_warmed(
    server: Server, trainings: Trainings, place: Place, how: str
) -> None:
    worker = worker_of(server)
    uuid = trainings.begin(place=place, do="raise" if how == "error" else "learn", text="better")
    place.wait_for_attempt()
    if how == "cancelled":
        trainings.delete(uuid)
    elif how == "killed":
        psutil.Process(pid_of_work(uuid)).kill()
    place.open_gate()
    answer = wait_until_it_predicts(server)
    assert answer["warmed"] == 1
    assert answer["pid"] != worker
    assert answer["weights"] == ("better" if how == "done" else "none")


@contextlib.contextmanager
def predicting(server: Server, place: Place) -> Iterator[Future[httpx.Response]]:
    """Start a prediction that waits for its gate; yield the future of its response."""
    with ThreadPoolExecutor(1) as executor:
        answer = executor.submit(server.predict, "trains", params={"place": str(place)})
        place.wait_for_attempt()
        yield answer


def test_what_has_begun_gets_time_to_finish(serve: Serve, places: list[Place]) -> None:
    server = serve(MODELS, EXCLUSIVE, "--train-exclusive-timeout", "3600")
    predicts, trains, *_ = places
    with predicting(server, predicts) as answer:
        uuid = Trainings(server).begin(place=trains)
        wait_until(lambda: server.predict("trains").status_code == 503, within=10)
        assert not trains.attempts
        predicts.open_gate()
        assert answer.result(timeout=60).status_code == 200
    trains.wait_for_attempt()
    trains.open_gate()
    Trainings(server).wait(uuid)


def test_what_takes_longer_than_that_is_refused(serve: Serve, places: list[Place]) -> None:
    server = serve(MODELS, EXCLUSIVE, "--train-exclusive-timeout", "0.3")
    predicts, trains, *_ = places
    with predicting(server, predicts) as prediction:
        uuid = Trainings(server).begin(place=trains)
        answer = prediction.result(timeout=60)
    assert answer.status_code == 503
    assert "is being trained" in answer.json()["message"]
    trains.wait_for_attempt()
    trains.open_gate()
    Trainings(server).wait(uuid)


def test_workers_do_not_come_back_between_two_of_them(
    server: Server, trainings: Trainings, place: Place
) -> None:
    first, second = trainings.begin(place=place), trainings.begin(place=place)
    place.wait_for_attempt()
    place.open_gate()
    trainings.wait(first)
    trainings.wait(second)
    wait_until_it_predicts(server)
    assert server.log().count("are started again") == 1


def test_asynchronous_predictions_take_turns_with_it(
    server: Server, trainings: Trainings, place: Place
) -> None:
    uuid = trainings.begin(place=place)
    place.wait_for_attempt()
    answer = server.predict("trains", headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    assert answer.json()["status"] == "queued"
    place.open_gate()
    jobs = Trainings(server, segment="jobs")
    job = jobs.wait(answer.json()["uuid"])
    assert job["status"] == "done"
    assert job["start_date"] > trainings.get(uuid)["finish_date"]


def test_arguments_are_validated_meanwhile(
    server: Server, trainings: Trainings, place: Place
) -> None:
    trainings.begin(place=place)
    place.wait_for_attempt()
    assert trainings.post(size="many").status_code == 422
    assert trainings.post(size=1).json()["status"] == "queued"


def test_the_next_server_makes_room_for_one_that_runs(place: Place, tmp_path: Path) -> None:
    site = Site(tmp_path / "state", MODELS)
    with contextlib.closing(site):
        before = site.serve(EXCLUSIVE)
        uuid = before.begin(place=place)
        place.wait_for_attempt()
        kill_server(before.server)
        after = site.serve(EXCLUSIVE)
        server = after.server
        assert after.get(uuid)["status"] == "running"
        assert server.predict("trains").status_code == 503
        assert server.predict("echo", params={"text": "a"}).status_code == 200
        assert "post" in server.get("/swagger.json").json()["paths"][after.path]
        place.open_gate()
        assert wait_until_it_predicts(server)["warmed"] == 1
        assert "ERROR" not in server.log()


def test_without_the_option_workers_stay(serve: Serve, place: Place) -> None:
    server = serve(MODELS, "--notrain-exclusive")
    worker = worker_of(server)
    Trainings(server).begin(place=place)
    place.wait_for_attempt()
    assert worker_of(server) == worker
    assert server.predict("trains").status_code == 200


def test_workers_are_not_replaced_if_that_is_not_wanted(serve: Serve) -> None:
    server = serve(MODELS, "--noreload-after-train")
    trainings = Trainings(server)
    worker = worker_of(server)
    uuid = trainings.begin(do="learn", text="better")
    trainings.wait(uuid)
    trainings.wait_gone(uuid)
    second = trainings.begin()
    trainings.wait(second)  # the end of the first one has been handled by now
    assert worker_of(server) == worker
    assert predictions(server.predict("trains"))["weights"] == "none"
