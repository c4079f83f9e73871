"""Requests of clients about trainings: start, look up, cancel."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.support import Part, Server, multipart, wait_until

PATH = "/v2/models/trained/train/"
MODELS = {"trained": "zoo.trained", "bare": "zoo.bare"}
JSON = "application/json; charset=utf-8"


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all(MODELS)


@pytest.fixture
def doomed(serve_doomed: Serve) -> Server:
    """A server for requests that the reference release does not survive."""
    return serve_doomed(MODELS)


def begin(server: Server, **query: Any) -> Any:
    answer = server.post(PATH, params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == JSON
    return answer.json()


def ended(server: Server, uuid: str, within: float = 10) -> Any:
    unfinished = ("queued", "running")
    wait_until(lambda: server.get(PATH + uuid).json()["status"] not in unfinished, within=within)
    return server.get(PATH + uuid).json()


def test_answer_has_date_arguments_uuid_and_status(server: Server) -> None:
    record = begin(server, epochs=3, rate=0.5)
    assert record["args"] == {"epochs": 3, "rate": 0.5, "do": "return", "labels": ["a", "b"]}
    assert re.fullmatch("[0-9a-f]{32}", record["uuid"])
    assert record["status"] == "running"
    date = datetime.strptime(record["date"], "%Y-%m-%d %H:%M:%S.%f")
    assert abs((datetime.now() - date).total_seconds()) < 60
    ended(server, record["uuid"])


def test_end_has_output_date_and_duration(server: Server) -> None:
    begun = begin(server, epochs=7)
    record = ended(server, begun["uuid"])
    assert record["status"] == "done"
    assert record["result"]["output"]["epochs"] == 7
    finished = datetime.strptime(record["result"]["finish_date"], "%Y-%m-%d %H:%M:%S.%f")
    assert finished > datetime.strptime(record["date"], "%Y-%m-%d %H:%M:%S.%f")
    assert re.fullmatch(r"\d+:\d\d:\d\d(\.\d+)?", record["result"]["duration"])
    assert {name: record[name] for name in ("date", "args", "uuid")} == {
        name: begun[name] for name in ("date", "args", "uuid")
    }


def test_absent_argument_without_a_default_is_not_passed(server: Server) -> None:
    record = ended(server, begin(server)["uuid"])
    assert record["result"]["output"]["arguments"] == ["do", "epochs", "labels"]


def test_model_is_warm_when_it_trains(server: Server) -> None:
    assert ended(server, begin(server)["uuid"])["result"]["output"]["warmed"] == 1


def test_all_are_a_bare_list(server: Server) -> None:
    first, second = begin(server)["uuid"], begin(server)["uuid"]
    ended(server, second)
    answer = server.get(PATH)
    assert answer.status_code == 200
    assert isinstance(answer.json(), list)
    uuids = [record["uuid"] for record in answer.json()]
    assert uuids.index(first) < uuids.index(second)
    ended(server, first)


def test_exception_is_the_message(server: Server) -> None:
    record = ended(server, begin(server, do="raise")["uuid"])
    assert record["status"] == "error"
    assert "it does not converge" in record["message"]
    assert "result" not in record


@pytest.mark.parametrize("uuid", ["nope", "0" * 32])
def test_unknown_one_is_404(server: Server, uuid: str) -> None:
    answer = server.get(PATH + uuid)
    assert answer.status_code == 404
    assert answer.text == "404: Not Found"


def test_invalid_arguments_are_422(server: Server) -> None:
    answer = server.post(PATH, params={"epochs": "many"})
    assert answer.status_code == 422
    assert answer.json() == {"epochs": ["Not a valid integer."]}


def test_file_is_echoed_by_its_names(server: Server) -> None:
    form = multipart(Part("data", b"content", "a.csv", "text/csv"))
    record = server.post(PATH, **form).json()
    assert record["args"]["data"] == ["data", "text/csv", "a.csv"]
    ended(server, record["uuid"])


def test_model_without_train_is_501(server: Server) -> None:
    answer = server.post("/v2/models/bare/train/")
    assert answer.status_code == 501
    assert "Not implemented by underlying model" in answer.text


def test_arguments_of_train_are_described(server: Server) -> None:
    operation = server.get("/swagger.json").json()["paths"][PATH]["post"]
    described = {one["name"]: one for one in operation["parameters"]}
    assert described["epochs"]["in"] == "query"
    assert described["epochs"]["type"] == "integer"
    assert described["epochs"]["default"] == 2
    assert described["epochs"]["description"] == "How often"
    assert described["do"]["enum"] == ["return", "raise", "http", "object", "wait"]
    assert described["labels"]["collectionFormat"] == "multi"
    assert described["data"]["in"] == "formData"
    assert described["data"]["type"] == "file"


def test_list_and_single_records_are_described(server: Server) -> None:
    paths = server.get("/swagger.json").json()["paths"]
    assert set(paths[PATH]) == {"get", "post"}
    assert {"get", "delete"} <= set(paths[PATH + "{uuid}"])


@pytest.mark.mended("an upload has gone when the training reads it")
def test_upload_is_there_for_the_training(server: Server) -> None:
    form = multipart(Part("data", b"content", "a.csv", "text/csv"))
    record = ended(server, server.post(PATH, **form).json()["uuid"])
    assert record["result"]["output"]["content"] == "content"


@pytest.mark.mended("an HTTP error leaves it running for ever")
def test_http_error_is_the_message(doomed: Server, patience: float) -> None:
    record = ended(doomed, begin(doomed, do="http")["uuid"], within=patience)
    assert record["status"] == "error"
    assert "no such data" in record["message"]


@pytest.mark.mended("a result that is no JSON breaks the list")
def test_result_that_is_no_json_does_no_harm(doomed: Server, patience: float) -> None:
    uuid = begin(doomed, do="object")["uuid"]
    assert ended(doomed, uuid, within=patience)["status"] == "done"
    assert uuid in [record["uuid"] for record in doomed.get(PATH).json()]


@pytest.mark.mended("a dead process leaves it running for ever")
def test_dead_process_is_an_error(doomed: Server, patience: float) -> None:
    record = ended(doomed, begin(doomed, do="kill")["uuid"], within=patience)
    assert record["status"] == "error"
    assert record["message"]


@pytest.mark.mended("to cancel is an error of the server")
def test_cancelled_one_says_so(doomed: Server, patience: float) -> None:
    uuid = begin(doomed, do="wait")["uuid"]
    answer = doomed.request("DELETE", PATH + uuid, timeout=patience)
    assert answer.status_code == 200
    assert answer.json()["status"] == "cancelled"
    assert doomed.get(PATH + uuid).json()["status"] == "cancelled"


@pytest.mark.mended("predictions wait for the training")
def test_predictions_are_answered_meanwhile(serve: Serve, patience: float) -> None:
    server = serve(MODELS)
    uuid = begin(server, do="wait")["uuid"]
    assert server.predict("trained", timeout=patience).status_code == 200
    assert server.get(PATH + uuid).json()["status"] == "running"


@pytest.mark.mended("trainings are forgotten when the server ends")
def test_trainings_are_remembered(serve: Serve, tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path)}
    before = serve(MODELS, env=env)
    uuid = begin(before)["uuid"]
    record = ended(before, uuid)
    before.stop()
    after = serve(MODELS, env=env)
    remembered = after.get(PATH + uuid).json()
    for name in ("date", "args", "uuid", "status", "result"):
        assert remembered[name] == record[name]


@pytest.mark.mended("a path with a final slash is not found")
def test_final_slash_is_no_matter(server: Server) -> None:
    uuid = begin(server)["uuid"]
    ended(server, uuid)
    assert _lasting(server.get(f"{PATH}{uuid}/").json()) == _lasting(
        server.get(f"{PATH}{uuid}").json()
    )
    with_slash, without = server.get(PATH).json(), server.get(PATH.rstrip("/")).json()
    assert list(map(_lasting, with_slash)) == list(map(_lasting, without))


def _lasting(record: Any) -> Any:
    """Return the fields that do not change after the end; the exit is recorded a little later."""
    return {name: record.get(name) for name in ("date", "args", "uuid", "status", "result")}
