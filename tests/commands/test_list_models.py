"""`deepaas list`: the installed models, where they come from, and what they can do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from deepaas.commands.list_models import Model, table
from tests.serving.processes import wait_gone
from tests.support import Finished, program, run_program

KINDS = {
    "asynchronous": "zoo.asynchronous:Async",
    "batched": "zoo.batched:Batched",
    "files": "zoo.files",
    "media": "zoo.media",
    "printing": "zoo.printing",
    "streaming": "zoo.streaming:Plain",
    "trains": "zoo.trains",
    "typo": "zoo.echo:nothing",
    "unloadable": "zoo.unloadable",
}

LEAVER = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"],
                         start_new_session=True)
open("pid", "w").write(str(child.pid))
"""
"""A model whose import leaves a process behind."""


def list_models(directory: Path, *args: str, models: Mapping[str, str], **kwargs: Any) -> Finished:
    executable = program().with_name("deepaas")
    return run_program(directory, ["list", *args], models=models, executable=executable, **kwargs)


def test_without_load_nothing_is_imported(tmp_path: Path) -> None:
    models = {"second": "zoo.unloadable", "first": "zoo.echo:predict [extra]"}
    done = list_models(tmp_path, models=models)
    assert done.code == 0
    assert done.stdout.splitlines() == [
        "MODEL   PACKAGE         SUMMARY",
        "first   zoo-models 1.0",
        "second  zoo-models 1.0",
    ]
    first, _ = json.loads(list_models(tmp_path, "--json", models=models).stdout)
    assert first == {
        "name": "first",
        "target": "zoo.echo:predict",
        "package": "zoo-models",
        "version": "1.0",
        "summary": "",
        "loaded": None,
        "problem": None,
    }


def test_summary_of_the_package_is_shown(tmp_path: Path) -> None:
    info = tmp_path / "site/mine-2.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: mine\nVersion: 2.1\nSummary: Counts birds\n"
    )
    (info / "entry_points.txt").write_text("[deepaas.v2.model]\nbirds = mine.api\n")
    done = list_models(tmp_path, models={})
    assert done.stdout.splitlines()[1] == "birds  mine 2.1  Counts birds"


@pytest.mark.parametrize("flags", [[], ["--json"], ["--load"]])
def test_without_any_model_it_says_what_to_do(tmp_path: Path, flags: list[str]) -> None:
    done = list_models(tmp_path, *flags, models={})
    assert done.code == 1
    assert done.stdout == ("[]\n" if "--json" in flags else "")
    assert "no model is installed" in done.stderr
    assert "deepaas.v2.model" in done.stderr


def test_name_of_two_packages_is_told(tmp_path: Path) -> None:
    info = tmp_path / "site/mine-2.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 2.1\n")
    (info / "entry_points.txt").write_text("[deepaas.v2.model]\necho = mine.api\n")
    done = list_models(tmp_path, models={"echo": "zoo.echo", "other": "zoo.echo"})
    assert done.code == 1
    assert done.stdout.count("another package has a model of this name; uninstall one") == 2
    assert "mine 2.1" in done.stdout
    assert "zoo-models 1.0" in done.stdout


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The models of KINDS, by name."""
    done = list_models(tmp_path_factory.mktemp("list"), "--load", "--json", models=KINDS)
    assert done.code == 1  # two cannot be loaded
    assert done.stderr == ""
    return {model["name"]: model for model in json.loads(done.stdout)}


def test_load_shows_how_a_model_predicts(loaded: dict[str, dict[str, Any]]) -> None:
    def able(ability: str) -> set[str]:
        return {name for name, one in loaded.items() if one["loaded"] and one["loaded"][ability]}

    served = KINDS.keys() - {"typo", "unloadable"}
    assert able("predict") == served
    assert able("train") == {"trains"}
    assert able("batches") == {"batched"}
    assert able("streams") == {"streaming"}
    assert able("async") == {"asynchronous"}
    assert able("media_types") == served
    assert loaded["media"]["loaded"]["media_types"][0] == "application/json"
    assert len(loaded["media"]["loaded"]["media_types"]) > 1
    assert loaded["files"]["loaded"]["files"]
    assert loaded["printing"]["loaded"]["metadata"]["name"] == "printing"


def test_model_that_cannot_be_loaded_harms_no_other(loaded: dict[str, dict[str, Any]]) -> None:
    assert loaded["unloadable"]["loaded"] is None
    assert "RuntimeError: the weights are not there" in loaded["unloadable"]["problem"]
    assert "has no attribute 'nothing'" in loaded["typo"]["problem"]
    assert [name for name, one in loaded.items() if one["problem"]] == ["typo", "unloadable"]


def test_load_prints_a_table(tmp_path: Path) -> None:
    done = list_models(tmp_path, "--load", models={"files": "zoo.files"})
    assert done.code == 0
    heading, row = done.stdout.splitlines()
    assert heading.split() == ["MODEL", "PACKAGE", "CAN"]
    assert row.startswith("files  zoo-models 1.0  predict; files: ")


def test_time_to_load_is_limited(tmp_path: Path) -> None:
    note = tmp_path / "note"
    env = {"ZOO_HANG": "import", "ZOO_NOTE": str(note)}
    done = list_models(tmp_path, "--load", "--timeout", "1", models={"hangs": "zoo.hangs"}, env=env)
    assert done.code == 1
    assert "error: was not ready in 1 s (--timeout); it was still " in done.stdout
    if note.exists():
        wait_gone([int(note.read_text())])


def test_process_that_a_model_has_started_is_ended(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/leaver.py").write_text(LEAVER)
    done = list_models(tmp_path, "--load", models={"leaver": "leaver"})
    assert done.code == 0
    wait_gone([int((tmp_path / "pid").read_text())])


def test_last_column_is_wrapped_at_the_width_of_a_terminal() -> None:
    model = Model("birds", "mine.api", "mine", "2.1", " ".join(["counts birds"] * 6))
    lines = table([model], 50).splitlines()
    assert len(lines) > 2
    assert max(map(len, lines)) <= 50
    assert len(table([model], None).splitlines()) == 2
