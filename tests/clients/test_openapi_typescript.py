"""A TypeScript client, with the types of openapi-typescript, calls every function of a server."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import Described
from tests.clients.generating import TOOLS, generate, needs

NODE = TOOLS / "node" / "node_modules"
PROGRAM = Path(__file__).with_name("program.ts")

pytestmark = [
    pytest.mark.long,
    needs(NODE),
    pytest.mark.skipif(shutil.which("node") is None, reason="needs node: apt-get install nodejs"),
]


@pytest.fixture(scope="module")
def shown(described: Described, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Generate the types, compile the program with all checks of types, and run it."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "node_modules").symlink_to(NODE)
    (folder / "package.json").write_text('{"type": "module"}')
    shutil.copy(PROGRAM, folder)
    output = generate(
        [NODE / ".bin/openapi-typescript", described.file, "--output", "description.d.ts"]
        + ["--default-non-nullable", "false"],
        folder,
    )
    assert "warn" not in output.lower()
    generate(
        [NODE / ".bin/tsc", "--strict", "--noUncheckedIndexedAccess", "--target", "es2022"]
        + ["--module", "nodenext", "--lib", "es2022,dom", PROGRAM.name],
        folder,
    )
    command = ["node", "program.js", described.server.url, described.token, folder / "never"]
    lines = generate(command, folder).splitlines()
    return {key: value for line in lines for key, value in json.loads(line).items()}


def test_predict_with_nested_json(shown: dict[str, Any]) -> None:
    assert shown["json"] == {
        "name": "a",
        "corners": [[2.0, 4.0], [6.0, 0.0]],
        "tags": ["t"],
        "notes": {"any": [1]},
    }


def test_predict_with_files(shown: dict[str, Any]) -> None:
    assert shown["files"] == {
        "files": [["größe.txt", "first"], ["b.txt", "second"], ["c.txt", "third"]],
        "comment": "c",
    }


def test_choose_the_media_type(shown: dict[str, Any]) -> None:
    assert shown["csv"] == "a.txt,first\n"


def test_errors_have_types(shown: dict[str, Any]) -> None:
    assert shown["refused"] == [422, {"scale": ["Must be greater than or equal to 0."]}]
    assert shown["stranger"] == [401, "bad_token"]


def test_train_until_the_artefact(shown: dict[str, Any]) -> None:
    losses = [1.0, 0.5, 1 / 3]
    assert shown["record"] == ["done", {"epochs": 3}, {"epochs": 3, "gate": ""}, losses]
    assert "epoch 3 of 3\n" in shown["logs"]
    assert shown["artifacts"] == ["weights/final.txt"]
    assert shown["artifact"] == "after 3 epochs"
    assert shown["listed"] is True


def test_cancel_a_training(shown: dict[str, Any]) -> None:
    assert shown["cancelled"] == "cancelled"


def test_show_the_models(shown: dict[str, Any]) -> None:
    assert set(shown["models"]) == {"regions", "pictures"}
