"""A server logs one line for each mistake of a model author when it starts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cmd.planted import MISTAKES
from tests.conftest import Serve
from tests.support import Server, predictions, run_program

PAGE = Path(__file__).resolve().parents[2] / "docs" / "mistakes.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mistakes")
    for name, planted in MISTAKES.items():
        (folder / f"{name}.py").write_text(planted.code)
    return folder


@pytest.fixture(scope="module")
def server(serve_all: Serve, folder: Path) -> Server:
    """Start one server with a model for each mistake, and a model without a mistake."""
    targets = [
        f"{name}.py" + (f":{planted.attribute}" if planted.attribute else "")
        for name, planted in MISTAKES.items()
    ]
    flags = ["--start-grace", "600"]
    return serve_all({}, "zoo.echo", *targets, *flags, cwd=folder, ready_seconds=300)


def lines_about(server: Server, model: str) -> list[str]:
    """Return the log lines about a model, from "Model" on, before the port was open."""
    before = server.log().partition("Listening on ")[0].splitlines()
    found = [line.partition(" Model ")[2] for line in before]
    return [f"Model {line}" for line in found if re.match(rf"{model}\b", line)]


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_of_an_author_is_told_in_one_line(server: Server, name: str) -> None:
    told = lines_about(server, name)
    assert [line for line in told if "ready in" not in line] == [MISTAKES[name].said]


@pytest.mark.parametrize("name", MISTAKES)
def test_model_is_served_unless_the_line_says_that_it_cannot_be(server: Server, name: str) -> None:
    is_ready = server.get(f"/v2/models/{name}/ready").json()["ready"]
    assert is_ready is (" cannot be " not in MISTAKES[name].said)


def test_no_more_is_told_of_a_model_without_mistakes(server: Server) -> None:
    assert len(lines_about(server, "echo")) == 1
    assert predictions(server.predict("echo", params={"text": "a"})) == {"text": ["str", "a"]}


def test_place_of_a_mistake_is_for_the_log_alone(server: Server) -> None:
    """Clients receive the mistake, but not the paths of files on the server."""
    message = server.predict("field_class").json()["message"]
    assert message == (
        "Model field_class cannot be loaded: the argument 'x' is the class fields.Float; "
        "write fields.Float()"
    )


@pytest.mark.parametrize("name", MISTAKES)
def test_page_of_mistakes_has_the_line(name: str) -> None:
    line = MISTAKES[name].said.partition(": ")[2]
    assert f"`{line}`" in PAGE.read_text()


def test_page_of_mistakes_has_no_other_line() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    assert len(rows) == len(MISTAKES) + 2  # the header rows of the two tables


def test_several_mistakes_of_one_model_are_a_line_each(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(
        "from webargs import fields\n\ndef get_predict_args():\n"
        "    return {\n        'x': fields.Float,\n        'y': int,\n    }\n"
    )
    finished = run_program(tmp_path, ["--listen-port", "0", "m.py", "--workers", "2"])
    assert finished.code == 1
    said = [line.partition(" ERROR ")[2] for line in finished.stdout.splitlines()]
    assert [line for line in said if line] == [
        "deepaas.serving Model m cannot be loaded: m.py:5: the argument 'x' is the class "
        "fields.Float; write fields.Float()",
        "deepaas.serving Model m cannot be loaded: m.py:6: the argument 'y' is the type int, and "
        "not a field; write fields.Int()",
    ]
