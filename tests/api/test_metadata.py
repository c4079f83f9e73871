"""Models whose `get_metadata` fails, and models without it.

The server serves a model whose `get_metadata` fails, and reports the failure. The docstring
describes a model without `get_metadata`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.serving.processes import health
from tests.support import Server, predictions, wait_until

# --- get_metadata fails

FAILING = {
    "Raises": "RuntimeError: rclone is not configured",
    "Exits": "SystemExit: no metadata today",
    "Interrupts": "KeyboardInterrupt",
    "ReturnsNone": "get_metadata returns None, and not a dictionary; "
    'write return {"name": "my model"}',
    "ReturnsPairs": "get_metadata returns a list, and not a dictionary; "
    'write return {"name": "my model"}',
    "WantsArguments": "get_metadata is called without arguments, but needs 'name'; remove it",
    "RaisesUnspeakable": "Unspeakable: (str() raised SystemExit)",
    "HoldsUnprintable": "SystemExit: while the value was shown",
}
WORKING = {"Prints": "printed", "ClosesOutput": "closed", "Forks": "parent"}


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all({name: f"zoo.metadata_problems:{name}" for name in (*FAILING, *WORKING)})


@pytest.mark.parametrize("model", FAILING)
def test_failing_get_metadata_is_on_the_health_pages_and_the_model_is_ready(
    server: Server, model: str
) -> None:
    one = server.get(f"/v2/models/{model}/ready")
    assert one.status_code == 200
    problem = f"get_metadata failed: {FAILING[model]}"
    assert one.json()["metadata_problem"] == problem
    assert health(server, model)["metadata_problem"] == problem
    assert health(server, model)["ready"] is True
    assert server.get("/v2/health/ready").status_code == 200


@pytest.mark.parametrize("model", FAILING)
def test_failing_get_metadata_is_in_the_entry_of_the_model(server: Server, model: str) -> None:
    problem = f"get_metadata failed: {FAILING[model]}"
    described = server.get(f"/v2/models/{model}/").json()
    assert described["metadata_problem"] == problem
    assert described["name"] == model
    listed = {one["name"]: one for one in server.get("/v2/models/").json()["models"]}
    assert listed[model] == described


@pytest.mark.parametrize("model", FAILING)
def test_model_whose_get_metadata_fails_predicts(server: Server, model: str) -> None:
    assert predictions(server.predict(model)) == "predicted"


def test_traceback_of_get_metadata_is_in_the_log(server: Server) -> None:
    assert "get_metadata of model Raises failed" in server.log()
    assert "RuntimeError: rclone is\nnot configured" in server.log()


def test_model_whose_get_metadata_fails_is_described_by_its_docstring(server: Server) -> None:
    described = server.get("/v2/models/Raises/").json()
    assert described["description"] == "Has a docstring, and metadata that cannot be had."


@pytest.mark.parametrize("model", WORKING)
def test_metadata_without_a_problem_shows_none(server: Server, model: str) -> None:
    assert server.get(f"/v2/models/{model}/ready").json()["metadata_problem"] is None
    assert health(server, model)["metadata_problem"] is None
    described = server.get(f"/v2/models/{model}/").json()
    assert "metadata_problem" not in described
    assert described["name"] == WORKING[model]


def test_what_get_metadata_prints_is_in_the_log(server: Server) -> None:
    assert "some words from get_metadata" in server.log()


def test_output_that_get_metadata_closed_is_open_for_predict(server: Server) -> None:
    assert predictions(server.predict("ClosesOutput")) == "predicted"
    wait_until(lambda: "some words from predict" in server.log(), within=10, what="the output")


def test_problem_goes_when_a_reload_repairs_get_metadata(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "repaired.py"
    file.write_text("def get_metadata():\n    raise ValueError('broken')\n")
    server = serve({}, str(file), "--admin-endpoint")
    problem = "get_metadata failed: ValueError: broken"
    assert health(server, "repaired")["metadata_problem"] == problem
    file.write_text("def get_metadata():\n    return {'version': 'of the second try'}\n")
    assert server.post("/v2/models/repaired/reload").status_code == 200
    assert health(server, "repaired")["metadata_problem"] is None
    described = server.get("/v2/models/repaired/").json()
    assert described["version"] == "of the second try"
    assert "metadata_problem" not in described


# --- get_metadata is missing

DOCUMENTED = {
    "zoo.documented": "A module with a docstring.\n\nIts second paragraph is indented.",
    "zoo.documented:Documented": "A class with a docstring.\n\n"
    "Its second paragraph is not indented.",
    "zoo.documented:instance": "A class with a docstring.\n\nIts second paragraph is not indented.",
    "zoo.documented:DocumentedData": "A dataclass with a docstring.",
    "zoo.documented:Undocumented": "",
    "zoo.documented:UndocumentedData": "",
    "zoo.documented:base": "",
    "zoo.documented:namespace": "",
    "zoo.documented:pair": "",
}


@pytest.fixture(scope="module")
def documented(serve_all: Serve) -> Server:
    return serve_all({target.rpartition(":")[2]: target for target in DOCUMENTED})


@pytest.mark.parametrize("target", DOCUMENTED)
def test_docstring_is_the_description_of_a_model_without_get_metadata(
    documented: Server, target: str
) -> None:
    name = target.rpartition(":")[2]
    described: Any = documented.get(f"/v2/models/{name}/").json()
    assert described == {
        "id": "0",
        "name": name,
        "description": DOCUMENTED[target],
        "links": [{"rel": "self", "href": f"/v2/models/{name}"}],
    }
    assert health(documented, name)["metadata_problem"] is None


def test_class_in_a_file_named_like_a_standard_module_has_its_docstring(
    serve: Serve, tmp_path: Path
) -> None:
    file = tmp_path / "antigravity.py"
    file.write_text('class Model:\n    """Flies."""\n\n    def predict(self):\n        return 1\n')
    server = serve({}, f"{file}:Model")
    assert server.get("/v2/models/antigravity/").json()["description"] == "Flies."


def test_model_that_cannot_be_loaded_has_a_text_that_says_so(serve: Serve) -> None:
    server = serve({}, "zoo.echo", "zoo.unloadable")
    described = server.get("/v2/models/unloadable/").json()
    assert described["description"].startswith("Could not load description")
    assert "the weights are not there" in described["problem"]
    assert "metadata_problem" not in described
    assert health(server, "unloadable")["metadata_problem"] is None
