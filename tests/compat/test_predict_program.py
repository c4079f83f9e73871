"""`deepaas-predict`, which old service scripts still call."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from tests.support import Finished, program, run_program

MODELS = {"first": "zoo.first_interface"}


def predict(tmp_path: Path, *args: str, models: Any = None, **kwargs: Any) -> Finished:
    (tmp_path / "in.txt").write_text("content")
    executable = program().with_name("deepaas-predict")
    return run_program(tmp_path, args, models=models or MODELS, executable=executable, **kwargs)


def saved(finished: Finished) -> str:
    """Return the last line of a program that has succeeded."""
    assert finished.code == 0, finished.output
    return finished.stdout.splitlines()[-1]


@pytest.mark.parametrize(("output", "shown"), [("out/", "out/"), ("a/b", "a/b")])
def test_json_is_saved_as_python_writes_it(tmp_path: Path, output: str, shown: str) -> None:
    finished = predict(tmp_path, "-i", "in.txt", "-o", output)
    assert saved(finished) == f"Output saved at {shown}out_in.json"
    text = (tmp_path / output / "out_in.json").read_text()
    expected = {"content": "content", "name": "in.txt", "type": "text/plain", "it's": None}
    assert text == f"{expected!r}\n"


@pytest.mark.parametrize("flag", ["-ct", "--content-type"])
def test_returned_file_is_copied(tmp_path: Path, flag: str) -> None:
    finished = predict(tmp_path, "-i", "in.txt", "-o", "out/", flag, "image/png")
    assert saved(finished) == "Output saved at out/chart.png"
    assert (tmp_path / "out/chart.png").read_bytes() == b"picture"


@pytest.mark.parametrize("flag", ["-u", "--url"])
def test_url_goes_to_predict_url(tmp_path: Path, flag: str) -> None:
    url = "http://host.invalid/folder/a.jpg"
    finished = predict(tmp_path, "--input-file", url, "--output", "out/", flag)
    assert saved(finished) == "Output saved at out/out_a.json"
    result = ast.literal_eval((tmp_path / "out/out_a.json").read_text())
    assert result == {"urls": [url], "accept": "application/json"}


def test_deprecation_is_on_stderr(tmp_path: Path) -> None:
    finished = predict(tmp_path, "-i", "in.txt", "-o", "out/")
    assert "deepaas-cli" in finished.stderr
    assert "deepaas-cli" not in finished.stdout


@pytest.mark.mended("the help does not say so")
def test_help_says_that_it_is_deprecated(tmp_path: Path) -> None:
    finished = predict(tmp_path, "--help")
    assert finished.code == 0
    assert "deepaas-predict is deprecated" in " ".join(finished.stdout.split())


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["-o", "out/"], "input"),
        (["-i", "in.txt"], "output"),
        (["-i", "no-such.txt", "-o", "out/"], "no-such.txt"),
        (["-i", "in.txt", "-o", "out/", "-ct", "text/plain"], "no text here"),
        (["-i", "in.txt", "-o", "out/", "--model-name", "nope"], "nope"),
    ],
)
def test_errors_end_with_1(tmp_path: Path, args: list[str], word: str) -> None:
    finished = predict(tmp_path, *args)
    assert finished.code == 1
    assert word in finished.stderr
    assert "saved" not in finished.stdout


def test_several_models_end_with_1(tmp_path: Path) -> None:
    models = {**MODELS, "two": "zoo.echo"}
    finished = predict(tmp_path, "-i", "in.txt", "-o", "out/", models=models)
    assert finished.code == 1
    assert "two" in finished.stderr
    finished = predict(
        tmp_path, "-i", "in.txt", "-o", "out/", "--model-name", "first", models=models
    )
    assert saved(finished) == "Output saved at out/out_in.json"


def test_unknown_option_is_a_usage_error(tmp_path: Path) -> None:
    finished = predict(tmp_path, "--no-such-option")
    assert finished.code == 2
    assert finished.stdout == ""
    assert "usage: deepaas-predict" in finished.stderr


def test_options_of_the_server_are_accepted(tmp_path: Path) -> None:
    options = ["-p", "2", "--nowarm", "--nourl"]
    finished = predict(tmp_path, "-i", "in.txt", "-o", "out/", *options)
    assert saved(finished) == "Output saved at out/out_in.json"


@pytest.mark.mended("it fails")
def test_returned_bytesio_is_saved(tmp_path: Path) -> None:
    finished = predict(tmp_path, "-i", "in.txt", "-o", "out/", "-ct", "application/zip")
    assert saved(finished) == "Output saved at out/out_in.zip"
    assert (tmp_path / "out/out_in.zip").read_bytes() == b"buffer"
