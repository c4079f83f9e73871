"""The id of the request that asked for a job: in its record, process, callbacks and log lines."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from deepaas.jobs.store import Store
from tests.conftest import Serve
from tests.support import Server, wait_until
from tests.training.test_callbacks import ALLOW, Receiver
from tests.training.trainings import Trainings

HEADER = "X-Request-ID"


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    kinds = ("Trained", "Plain")
    return serve_all({kind: f"zoo.knows_request:{kind}" for kind in kinds}, *ALLOW)


def begin(server: Server, id: str, *, callback: str = "", fails: bool = False) -> str:
    """Start a training by a request with this id, and return its uuid."""
    headers = {HEADER: id} | ({"Callback-URL": callback} if callback else {})
    query = {"fails": str(fails)}
    answer = server.post("/v2/models/Trained/train/", params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["request_id"] == answer.headers[HEADER] == id
    uuid: str = answer.json()["uuid"]
    return uuid


def test_training_has_the_id_in_its_record_and_its_process(server: Server) -> None:
    uuid = begin(server, "of-a-training")
    record = Trainings(server, "Trained").wait(uuid)
    assert record["request_id"] == "of-a-training"
    assert record["result"]["output"] == {"id": "of-a-training", "warmed": "of-a-training"}
    listed = Trainings(server, "Trained").list()
    assert {one["uuid"]: one["request_id"] for one in listed}[uuid] == "of-a-training"


def test_asynchronous_prediction_has_the_id(server: Server) -> None:
    headers = {"Prefer": "respond-async", HEADER: "of-a-job"}
    answer = server.post("/v2/models/Plain/predict/", headers=headers)
    assert answer.json()["request_id"] == "of-a-job"
    record = Trainings(server, "Plain", "jobs").wait(answer.json()["uuid"])
    assert record["request_id"] == "of-a-job"
    later = server.get(f"{answer.headers['Location']}/result", headers={HEADER: "another"})
    assert later.json()["predictions"] == {"id": "of-a-job"}
    assert later.headers[HEADER] == "another"


def test_callbacks_have_the_id(server: Server) -> None:
    with contextlib.closing(Receiver()) as receiver:
        begin(server, "to-be-told", callback=receiver.url)
        receiver.wait_for("queued", "running", "done")
        for post in receiver.posts:
            assert post.record["request_id"] == "to-be-told"
            assert post.headers[HEADER.lower()] == "to-be-told"


def test_log_lines_about_a_job_have_the_id(server: Server) -> None:
    uuid = begin(server, "to-be-logged", fails=True)
    Trainings(server, "Trained").wait(uuid, "error")
    about = f"{uuid} of model Trained (request to-be-logged)"
    for what in ("is queued", "is started", "is error: RuntimeError: on purpose"):
        wait_until(lambda: f"{about} {what}" in server.log(), within=20, what=what)  # noqa: B023
    output = Trainings(server, "Trained").log(uuid)
    assert "train of model Trained begins (request to-be-logged)" in output
    assert "train of model Trained failed (request to-be-logged)" in output


def test_record_of_an_older_version_has_no_id(serve: Serve, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    with contextlib.closing(Store(state)) as store:
        store.add("0" * 32, "train", "Trained", "4194304-1-gone")
        store.accept("0" * 32, "{}")
        store.stop("0" * 32, "cancelled")
    with contextlib.closing(sqlite3.connect(state / "trainings.db", isolation_level=None)) as db:
        db.executescript(
            "DROP TRIGGER note_change; DROP TABLE changes; "
            "ALTER TABLE details DROP COLUMN request_id; PRAGMA user_version=4"
        )
    server = serve({"Trained": "zoo.knows_request:Trained"}, "--state-dir", str(state))
    assert Trainings(server, "Trained").get("0" * 32)["request_id"] is None
    assert Trainings(server, "Trained").wait(begin(server, "a-new-one"))["status"] == "done"
