"""The contents of records: progress, metrics, lists, masked secrets, and the effect of options."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest

from deepaas.jobs.store import Ending, Store
from tests.conftest import Serve
from tests.support import Server, predictions, wait_until
from tests.training.trainings import Place, Trainings, pid_of_work
from tests.zoo.integers import SIZE

MODELS = {"trains": "zoo.trains", "rich": "zoo.rich_train", "integers": "zoo.integers"}


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all(MODELS)


@pytest.fixture
def trainings(server: Server) -> Trainings:
    return Trainings(server)


# --- progress and metrics --------------------------------------------------------------------


def test_progress_is_told_while_it_runs(trainings: Trainings, place: Place) -> None:
    uuid = trainings.begin(place=place, do="early report, then wait")
    wait_until(lambda: trainings.get(uuid)["progress"] == 0.25, within=20, what="progress")
    (listed,) = [one for one in trainings.list() if one["uuid"] == uuid]
    assert listed["progress"] == 0.25
    place.open_gate()
    assert trainings.wait(uuid)["progress"] == 0.25


def test_metrics_are_a_series(trainings: Trainings) -> None:
    record = trainings.wait(trainings.begin(do="report", size=4))
    assert record["progress"] == 1.0
    told = [(one["epoch"], one["loss"], one["progress"]) for one in record["metrics"]]
    assert told == [(0, 0.5, 0.25), (1, 0.5, 0.5), (2, 0.5, 0.75), (3, 0.5, 1.0)]
    times = [one["time"] for one in record["metrics"]]
    assert times == sorted(times)


UTC = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"


def test_all_times_in_utc_have_one_form(trainings: Trainings) -> None:
    before = datetime.now(timezone.utc)
    reporting = trainings.wait(trainings.begin(do="report", size=2))
    writing = trainings.wait(trainings.begin(do="write", text="weights.bin"))
    times = [
        *(reporting[f"{name}_utc"] for name in ("date", "start_date", "finish_date")),
        *(one["time"] for one in reporting["metrics"]),
        *(one["modified"] for one in writing["artifacts"]),
    ]
    assert len(times) == 6
    for time in times:
        assert re.fullmatch(UTC, time)
        # The kernel clock that sets the time of a file is some milliseconds late.
        assert before - timedelta(seconds=1) <= datetime.fromisoformat(time[:-1] + "+00:00")
    for name in ("date", "start_date", "finish_date"):
        local = datetime.fromisoformat(reporting[name]).astimezone(timezone.utc)
        assert local.isoformat(timespec="microseconds") == reporting[f"{name}_utc"][:-1] + "+00:00"


def test_metrics_without_a_time_are_shown_as_they_are(trainings: Trainings) -> None:
    """A model can write anything to its reports file."""
    uuid = trainings.begin(do="reports", text='{"time": "never", "loss": 1}\n{"loss": 2}\n')
    assert trainings.wait(uuid)["metrics"] == [{"time": "never", "loss": 1}, {"loss": 2}]


def test_integers_of_any_size_are_shown_exactly(server: Server) -> None:
    trainings = Trainings(server, "integers")
    ids = [2**64 + 1, -(2**70)]
    answer = server.post(trainings.path, json={"ids": ids})
    record = trainings.wait(answer.json()["uuid"])
    assert record["args"] == record["result"]["output"] == {"ids": ids, "default": SIZE}
    assert [one["size"] for one in record["metrics"]] == [SIZE]


def test_of_very_many_metrics_some_are_left_out(serve: Serve) -> None:
    trainings = Trainings(serve(MODELS, "--train-metrics-size", "2000"))
    metrics = trainings.wait(trainings.begin(do="report", size=500))["metrics"]
    assert 5 < len(metrics) < 50
    assert metrics[-1]["epoch"] == 499
    assert len(json.dumps(metrics)) < 4000


def test_artefacts_are_named(trainings: Trainings) -> None:
    record = trainings.wait(trainings.begin(do="write", text="weights.bin"))
    (artifact,) = record["artifacts"]
    assert artifact["path"] == "weights.bin"
    assert artifact["size"] == len("artefact")
    assert trainings.server.get(artifact["href"]).text == "artefact"


def test_links_lead_somewhere(trainings: Trainings) -> None:
    record = trainings.wait(trainings.begin())
    assert {link["rel"] for link in record["links"]} == {"self", "logs", "artifacts"}
    for link in record["links"]:
        assert trainings.server.get(link["href"]).status_code == 200


# --- lists -----------------------------------------------------------------------------------

STATUSES = ["done", "error", "cancelled", "done"]
COUNT = 1000


@pytest.fixture(scope="module")
def long_list(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Trainings, list[str]]]:
    """A server with a thousand existing records, and their uuids."""
    state = tmp_path_factory.mktemp("state")
    store = Store(state)
    uuids = [uuid4().hex for _ in range(COUNT)]
    for number, uuid in enumerate(uuids):
        store.add(uuid, "train", "trains", "nobody")
        store.accept(uuid, json.dumps({"number": number}))
        store.start(uuid)
        store.claim(uuid, "")
        status = STATUSES[number % len(STATUSES)]
        output = json.dumps({"number": number}) if status == "done" else None
        store.finish(uuid, Ending(status, output=output))
    store.close()
    with Server(MODELS, args=("--state-dir", str(state))) as server:
        yield Trainings(server), uuids


def test_all_are_listed_oldest_first(long_list: tuple[Trainings, list[str]]) -> None:
    trainings, uuids = long_list
    records = trainings.list()
    assert [record["uuid"] for record in records] == uuids
    assert [record["args"] for record in records] == [{"number": n} for n in range(COUNT)]
    assert records[3]["result"]["output"] == {"number": 3}
    assert "result" not in records[1]


def test_the_newest_are_listed_if_a_limit_is_given(
    long_list: tuple[Trainings, list[str]],
) -> None:
    trainings, uuids = long_list
    assert [record["uuid"] for record in trainings.list(limit=3)] == uuids[-3:]
    for more in ("5000", "9" * 30, str(2**63), "0" * 5000 + "9" * 30):
        assert len(trainings.list(limit=more)) == COUNT


@pytest.mark.parametrize(
    ("status", "count"),
    [("error", 250), (["error", "cancelled"], 500), ("done,error", 750), ("running", 0)],
    ids=str,
)
def test_statuses_are_chosen(
    long_list: tuple[Trainings, list[str]], status: Any, count: int
) -> None:
    trainings, _ = long_list
    records = trainings.list(status=status)
    assert len(records) == count
    assert all(record["status"] in str(status) for record in records)
    newest = trainings.list(status=status, limit=2)
    assert [one["uuid"] for one in newest] == [one["uuid"] for one in records[-2:]]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"limit": ""}, "limit"),
        ({"limit": "0" * 5000}, "limit"),
        ({"limit": "٣"}, "limit"),
        ({"status": "starting"}, "status"),
        ({"status": "done,odd"}, "status"),
        ({"status": ""}, "status"),
    ],
    ids=str,
)
def test_odd_choices_are_422(trainings: Trainings, query: dict[str, str], named: str) -> None:
    answer = trainings.server.get(trainings.path, params=query)
    assert answer.status_code == 422
    assert list(answer.json()) == [named]


# --- arguments -------------------------------------------------------------------------------


def test_arguments_come_from_wherever_they_may(server: Server) -> None:
    trainings = Trainings(server, "rich")
    answer = server.post(
        trainings.path,
        params={"in_query": "a", "anywhere": "1"},
        headers={"X-Token": "b"},
        json={"in_json": {"c": [1, 2]}},
    )
    record = trainings.wait(answer.json()["uuid"])
    assert record["result"]["output"] == {
        "in_query": "a",
        "anywhere": 1,
        "token": "b",
        "in_json": {"c": [1, 2]},
        "of_own_type": "Own(1)",
    }


def test_arguments_that_cannot_be_pickled_are_made_anew(server: Server) -> None:
    trainings = Trainings(server, "rich")
    answer = server.post(trainings.path, params={"unpicklable": "5"})
    record = trainings.wait(answer.json()["uuid"])
    assert record["status"] == "done", record
    assert record["result"]["output"]["unpicklable"] == "function of 5"


def test_secrets_in_a_query_are_in_no_log(server: Server, trainings: Trainings) -> None:
    trainings.wait(trainings.begin(password="hidden", key="hidden too", text="shown"))
    lines = [line for line in server.log().splitlines() if "POST" in line and "text=shown" in line]
    assert len(lines) == 1
    assert "password=********" in lines[0]
    assert "hidden" not in server.log()


def test_secrets_in_predictions_that_come_often_are_in_no_log(server: Server) -> None:
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        for _ in range(5):
            path = "/v2/models/trains/predict/?pass%77ord=hidden&number=77"
            assert client.post(path).status_code == 200

    def lines() -> int:
        return sum("number=77" in line for line in server.log().splitlines())

    wait_until(lambda: lines() == 5, within=10, what="a line in the log for each request")
    assert "hidden" not in server.log()


# --- options ---------------------------------------------------------------------------------


def test_it_may_train_without_being_warmed(serve: Serve) -> None:
    server = serve(MODELS, "--notrain-warm")
    trainings = Trainings(server)
    record = trainings.wait(trainings.begin(do="arguments"))
    assert record["result"]["output"]["warmed"] == 0
    assert predictions(server.predict("trains"))["warmed"] == 1


@pytest.mark.parametrize(("size", "is_held"), [(900, True), (1100, False)])
def test_how_much_of_a_result_is_held_is_an_option(serve: Serve, size: int, is_held: bool) -> None:
    trainings = Trainings(serve(MODELS, "--train-result-size", "1000"))
    record = trainings.wait(trainings.begin(do="large", size=size))
    assert (record["result"]["output"] == "x" * size) is is_held
    assert [file["path"] for file in record["artifacts"]] == ([] if is_held else ["output.json"])


@pytest.mark.parametrize("nice", [0, 7])
def test_it_steps_back_for_predictions(serve: Serve, place: Place, nice: int) -> None:
    server = serve(MODELS, "--train-nice", str(nice))
    trainings = Trainings(server)
    uuid = trainings.begin(place=place)
    place.wait_for_attempt()
    assert psutil.Process(pid_of_work(uuid)).nice() == os.nice(0) + nice
    place.open_gate()
    trainings.wait(uuid)


def test_trainings_that_are_switched_off_are_402(serve: Serve) -> None:
    server = serve(MODELS, "--notrain-endpoint")
    path = "/v2/models/trains/train/"
    for method, more in [("POST", ""), ("GET", ""), ("GET", "0" * 32), ("DELETE", "0" * 32)]:
        answer = server.request(method, path + more)
        assert answer.status_code == 402
        assert answer.json()["code"] == "endpoint_disabled"
    assert not [path for path in server.get("/swagger.json").json()["paths"] if "train/" in path]


# --- the description -------------------------------------------------------------------------


def test_all_that_is_referred_to_is_described(server: Server) -> None:
    description = server.get("/swagger.json").json()

    def references(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            yield from [node["$ref"]] if "$ref" in node else []
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    found = set(references(description))
    assert "#/definitions/Training" in found
    assert {one.rpartition("/")[2] for one in found} <= set(description["definitions"])


def test_trainings_and_asynchronous_predictions_are_described(server: Server) -> None:
    paths = server.get("/swagger.json").json()["paths"]
    for segment in ("train", "jobs"):
        path = f"/v2/models/trains/{segment}/"
        assert "get" in paths[path]
        assert set(paths[path + "{uuid}"]) == {"get", "delete"}
        assert "get" in paths[path + "{uuid}/logs"]
        assert "get" in paths[path + "{uuid}/artifacts/"]
        assert "get" in paths[path + "{uuid}/artifacts/{path}"]
    train = paths["/v2/models/trains/train/"]["post"]
    places = {parameter["name"]: parameter["in"] for parameter in train["parameters"]}
    assert places["data"] == "formData"
    assert train["consumes"] == ["multipart/form-data"]
    assert "get" in paths["/v2/models/trains/jobs/{uuid}/result"]


def test_the_links_know_the_base_path(serve: Serve, tmp_path: Path) -> None:
    server = serve(MODELS, "--base-path", "/x")
    answer = server.post("/x/v2/models/trains/train/", params={"do": "write", "text": "a b"})
    path = f"/x/v2/models/trains/train/{answer.json()['uuid']}"
    wait_until(lambda: server.get(path).json()["status"] == "done", within=20)
    record = server.get(path).json()
    assert record["links"][0]["href"] == path
    assert record["artifacts"][0]["href"] == f"{path}/artifacts/a%20b"
    assert server.get(record["artifacts"][0]["href"]).text == "artefact"
