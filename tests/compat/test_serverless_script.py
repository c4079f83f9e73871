"""A script of a serverless platform: JSON in, options as text, and the result is found by the line
"New output is" of `deepaas-cli`."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support import environment, install_models, program

SCRIPT = Path(__file__).with_name("serverless.sh")


def run(tmp_path: Path, event: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run the script for an event, with the `deepaas-cli` beside the program under test."""
    (tmp_path / "event-1.json").write_text(json.dumps(event))
    models = install_models(tmp_path / "site", {"one": "zoo.command_line"})
    env = environment(tmp_path, models, extra={})
    env["PATH"] = f"{program().parent}{os.pathsep}{env['PATH']}"
    return subprocess.run(
        [str(SCRIPT), "event-1.json", "results"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def result(tmp_path: Path, event: dict[str, Any], name: str) -> bytes:
    """Return the only file in the results, after a success."""
    ran = run(tmp_path, event)
    assert ran.returncode == 0, ran.stderr
    assert (ran.stdout, ran.stderr) == ("", "")
    (file,) = (tmp_path / "results").iterdir()
    assert file.name == name
    return file.read_bytes()


def test_options_arrive_as_text_and_files_as_paths(tmp_path: Path) -> None:
    options = {
        "number": 7,
        "real": 2.5,
        "switch": False,
        "strings": ["it's", "b c"],
        "reals": [1.5, 2],
        "mapping": {"deep": [1, None, True]},
        "wire": "$HOME and *",
    }
    note = {"key": "data", "extension": "txt", "data": base64.b64encode(b"content").decode()}
    answer = json.loads(
        result(tmp_path, {"options": options, "files": [note]}, name="event-1.json")
    )
    assert {name: answer[name] for name in options} == options
    name, media_type, path, content = answer["data"]
    assert (name, media_type, content) == ("data", "text/plain", "content")
    assert path.endswith("0.txt")


def test_event_without_options_has_a_result(tmp_path: Path) -> None:
    assert json.loads(result(tmp_path, {}, name="event-1.json"))["number"] == 3


def test_training_is_in_the_file_as_it_is_named(tmp_path: Path) -> None:
    event = {"method": "train", "options": {"rate": 0.1, "epochs": 4}}
    record = json.loads(result(tmp_path, event, name="event-1"))
    assert record["status"] == "done"
    assert record["result"]["output"]["epochs"] == 4


@pytest.mark.mended("it says so, but saves nothing")
def test_picture_has_its_extension(tmp_path: Path) -> None:
    event = {"options": {"kind": "bytes", "accept": "image/png"}}
    assert result(tmp_path, event, name="event-1.png") == b"bytes"


@pytest.mark.parametrize("options", [{"kind": "raise"}, {"number": "many"}, {"nothing": 1}])
def test_failure_ends_the_script(tmp_path: Path, options: dict[str, Any]) -> None:
    ran = run(tmp_path, {"options": options})
    assert ran.returncode == 1
    assert ran.stderr.strip()
    assert not (tmp_path / "results").exists()
