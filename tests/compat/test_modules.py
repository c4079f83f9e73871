"""What can be a model, where its code runs, and what it cannot damage."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.support import Server, leased_port, predictions, run_program, wait_until

GOOD = {"good": "zoo.echo"}


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all(
        {
            "module": "zoo.echo",
            "instance": "zoo.objects:instance",
            "library": "zoo.library:model",
            "lambdas": "zoo.lambdas",
            "decorated": "zoo.decorated_metadata",
            "warmed": "zoo.warmed",
            "multiprocess": "zoo.multiprocess",
        },
        env={"ZOO_VARIABLE": "seen"},
    )


# --- entry points


def test_entry_point_may_be_a_module(server: Server) -> None:
    assert predictions(server.predict("module", params={"text": "a"})) == {"text": ["str", "a"]}


def test_entry_point_may_be_an_instance(server: Server) -> None:
    assert server.get("/v2/models/instance/").json()["name"] == "An object"
    assert predictions(server.predict("instance", params={"step": "5"}))["calls"] == 5


def test_model_may_derive_from_the_base_class(server: Server) -> None:
    assert server.get("/v2/models/library/").json()["name"] == "Derived"
    assert server.predict("library").status_code == 200


@pytest.mark.mended("it does not start")
def test_entry_point_may_be_a_class_made_once(serve: Serve) -> None:
    server = serve({"class": "zoo.objects:Model"})
    assert server.get("/v2/models/class/").json()["name"] == "An object"
    assert predictions(server.predict("class")) == {"calls": 1, "made here": True}
    assert predictions(server.predict("class")) == {"calls": 2, "made here": True}


def test_functions_may_be_any_callable(server: Server) -> None:
    assert server.get("/v2/models/lambdas/").json()["name"] == "Lambda"
    assert predictions(server.predict("lambdas")) == {"called": {"text": "given"}}


def test_decorators_may_hide_the_name_of_what_describes(server: Server) -> None:
    assert server.get("/v2/models/decorated/").json()["name"] == "Decorated"
    assert predictions(server.predict("decorated")) == {"text": "x"}


@pytest.mark.mended("it does not start")
def test_decorators_may_hide_the_name_of_what_works(serve: Serve) -> None:
    server = serve({"decorated": "zoo.decorated"})
    assert predictions(server.predict("decorated", params={"text": "t"})) == {"text": "t"}


# --- threads and processes


def test_predict_sees_what_warm_did(server: Server) -> None:
    got = predictions(server.predict("warmed"))
    assert got["warmed"] == 1
    assert got["in"] == got["pid"]


def test_state_stays_between_requests(server: Server) -> None:
    first, second = (predictions(server.predict("warmed")) for _ in range(2))
    assert first == second


def test_predict_runs_in_a_process_of_its_own(server: Server) -> None:
    pid = predictions(server.predict("warmed"))["pid"]
    assert pid != server.pid
    assert pid in [process.pid for process in server.processes()]


def test_warm_and_predict_see_the_working_directory(server: Server) -> None:
    got = predictions(server.predict("warmed"))
    assert got["directory"] == got["predict directory"] == str(server.home)


def test_warm_and_predict_see_the_environment(server: Server) -> None:
    got = predictions(server.predict("warmed"))
    assert got["variable"] == got["predict variable"] == "seen"


def test_nowarm_leaves_it_cold(serve: Serve) -> None:
    server = serve({"warmed": "zoo.warmed"}, "--nowarm")
    assert predictions(server.predict("warmed"))["warmed"] == 0


def test_every_one_of_several_workers_is_warmed_and_used(serve: Serve, tmp_path: Path) -> None:
    server = serve({"warmed": "zoo.warmed"}, "-p", "2")
    gate = tmp_path / "gate"
    notes = [tmp_path / f"note-{number}" for number in range(2)]

    def predict(note: Path) -> Any:
        sent = {"note": str(note), "gate": str(gate)}
        return predictions(server.predict("warmed", params=sent))

    with ThreadPoolExecutor(2) as executor:
        running = executor.map(predict, notes)
        try:
            for note in notes:
                wait_until(note.exists, within=10, what="both predictions")
        finally:
            gate.touch()
        got = list(running)
    assert got[0]["pid"] != got[1]["pid"]
    assert [one["warmed"] for one in got] == [1, 1]
    assert [one["in"] for one in got] == [one["pid"] for one in got]


def test_one_worker_takes_one_request_at_a_time(server: Server) -> None:
    def predict(_: int) -> Any:
        return predictions(server.predict("warmed", params={"seconds": "0.2"}))

    start = time.monotonic()
    with ThreadPoolExecutor(3) as executor:
        got = list(executor.map(predict, range(3)))
    assert time.monotonic() - start >= 0.6
    assert len({one["pid"] for one in got}) == 1


def test_other_paths_answer_while_a_model_predicts(server: Server, tmp_path: Path) -> None:
    note, gate = tmp_path / "begun", tmp_path / "gate"
    with ThreadPoolExecutor(1) as executor:
        sent = {"gate": str(gate), "note": str(note)}
        running = executor.submit(server.predict, "warmed", params=sent)
        try:
            wait_until(note.exists, within=10, what="the prediction")
            assert server.get("/v2/models/").status_code == 200
            assert server.get("/swagger.json").status_code == 200
            assert server.predict("module").status_code == 200
            assert not running.done()
        finally:
            gate.touch()
        assert running.result().status_code == 200


def test_predict_may_use_multiprocessing(server: Server) -> None:
    assert predictions(server.predict("multiprocess")) == 49


@pytest.mark.mended("it stays for good")
def test_child_that_a_model_started_ends_with_the_server(serve: Serve) -> None:
    server = serve({"children": "zoo.children"})
    child = predictions(server.predict("children"))
    assert child in [process.pid for process in server.processes()]
    assert server.stop() == 0


# --- several models


def names(server: Server) -> list[str]:
    models = server.get("/v2/models/").json()["models"]
    return [model["links"][0]["href"].rsplit("/", 1)[-1] for model in models]


def test_all_models_are_served_without_a_name(serve: Serve) -> None:
    server = serve({"one": "zoo.echo", "two": "zoo.bare"})
    assert sorted(names(server)) == ["one", "two"]
    assert server.get("/v2/models/two/").status_code == 200


@pytest.fixture(scope="module")
def partly_loaded(serve_all: Serve) -> Server:
    return serve_all({"bad": "zoo.unloadable", **GOOD})


def test_model_that_cannot_be_imported_harms_no_other(partly_loaded: Server) -> None:
    assert partly_loaded.predict("good").status_code == 200
    assert "good" in names(partly_loaded)
    assert partly_loaded.predict("bad").status_code >= 400


def test_cause_why_a_model_cannot_be_imported_is_logged(partly_loaded: Server) -> None:
    lines = [line for line in partly_loaded.log().splitlines() if "ERROR" in line]
    assert [line for line in lines if "bad" in line]
    assert "the weights are not there" in partly_loaded.log()


def test_entry_point_to_nothing_harms_no_other(serve: Serve) -> None:
    server = serve({"none": "zoo.not_there", "attribute": "zoo.echo:not_there", **GOOD})
    assert server.predict("good").status_code == 200
    assert "ERROR" in server.log()


@pytest.mark.mended("the server ends")
@pytest.mark.parametrize(
    ("target", "cause"),
    [
        ("zoo.exits_on_import", "leaving at once"),
        ("zoo.warm_fails", "too cold to warm"),
        ("zoo.args_fail", "no arguments today"),
        ("zoo.objects:Needy", "weights"),
    ],
)
def test_model_that_fails_harms_no_other_and_says_why(
    serve: Serve, target: str, cause: str
) -> None:
    server = serve({"bad": target, **GOOD})
    assert server.predict("good").status_code == 200
    assert "good" in names(server)
    assert server.predict("bad").status_code >= 400
    assert cause in server.log()


@pytest.mark.mended("a test model is served instead")
@pytest.mark.parametrize(
    ("models", "cause"),
    [({}, "deepaas.v2.model"), ({"bad": "zoo.unloadable"}, "the weights are not there")],
    ids=["none", "none loadable"],
)
def test_without_any_model_it_ends_with_1_and_says_why(
    tmp_path: Path, is_reference: bool, models: dict[str, str], cause: str
) -> None:
    with leased_port() as port:
        args = ["--listen-port", str(port)]
        finished = run_program(tmp_path, args, models=models, timeout=2 if is_reference else 30)
    assert finished.code == 1
    assert cause in finished.output
