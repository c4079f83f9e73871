"""`deepaas-cli`: other programs start it, and read its output."""

from __future__ import annotations

import ast
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support import Finished, program, run_program

MODELS = {"one": "zoo.command_line"}
NEW = {"new": "zoo.command_line_new"}
TWO = {"one": "zoo.command_line", "two": "zoo.echo"}
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def cli(tmp_path: Path, *args: str, models: Any = None, **kwargs: Any) -> Finished:
    executable = program().with_name("deepaas-cli")
    return run_program(tmp_path, args, models=models or MODELS, executable=executable, **kwargs)


def returned(finished: Finished) -> str:
    """Return the text after `return: `, after a success."""
    assert finished.code == 0, finished.output
    assert finished.stderr == ""
    lines = COLOUR.sub("", finished.stdout).splitlines()
    (line,) = [line for line in lines if " return: " in line]
    return line.partition(" return: ")[2]


def refused(finished: Finished) -> str:
    """Return the usage error of a program that has printed nothing else."""
    assert finished.code == 2, finished.output
    assert finished.stdout == ""
    assert "usage: deepaas-cli" in finished.stderr
    return finished.stderr


# --- the program


def test_version_is_the_last_word_on_stdout(tmp_path: Path) -> None:
    finished = cli(tmp_path, "--version")
    assert finished.code == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+", finished.stdout.splitlines()[-1].split()[-1])


@pytest.mark.mended("it ends with 1")
@pytest.mark.parametrize("flag", ["--version", "--help"])
def test_version_and_help_need_no_model(tmp_path: Path, flag: str) -> None:
    assert cli(tmp_path, flag, models=TWO).code == 0


def test_help_names_options_and_methods(tmp_path: Path) -> None:
    finished = cli(tmp_path, "--help")
    assert finished.code == 0
    for word in ("--deepaas_method_output", "--model-name", "get_metadata", "warm", "train"):
        assert word in finished.stdout


@pytest.mark.parametrize(
    "args", [["nope"], ["--no-such-option"], ["predict", "--no-such-argument", "1"]]
)
def test_unknown_words_are_a_usage_error(tmp_path: Path, args: list[str]) -> None:
    assert args[-1 if len(args) == 1 else 1] in refused(cli(tmp_path, *args))


def test_options_of_the_server_are_accepted(tmp_path: Path) -> None:
    options = ["--workers", "2", "--client-max-size", "5", "--nodeepaas_with_multiprocessing"]
    assert returned(cli(tmp_path, *options, "predict", "--kind", "text")) == "plain text"


@pytest.mark.mended("each line ends with a colour code")
def test_no_colour_codes_in_a_pipe(tmp_path: Path) -> None:
    finished = cli(tmp_path, "predict")
    assert finished.code == 0
    assert "\x1b" not in finished.stdout


# --- which model


@pytest.mark.parametrize("name", ["", "nope"])
def test_without_one_model_the_names_are_on_stderr(tmp_path: Path, name: str) -> None:
    finished = cli(tmp_path, "predict", models=TWO, env={"DEEPAAS_V2_MODEL": name})
    assert finished.code == 1
    assert finished.stdout == ""
    assert re.search(r"\bone\b.*\btwo\b", finished.stderr, re.DOTALL)


def test_model_is_named_in_the_environment(tmp_path: Path) -> None:
    env = {"DEEPAAS_V2_MODEL": "one"}
    finished = cli(tmp_path, "predict", "--kind", "text", models=TWO, env=env)
    assert returned(finished) == "plain text"


@pytest.mark.mended("only the variable counts")
@pytest.mark.parametrize("how", ["flag", "file"])
def test_model_is_named_by_option(tmp_path: Path, how: str) -> None:
    (tmp_path / "own.conf").write_text("[DEFAULT]\nmodel_name = one\nlisten_port = 7\n")
    args = ["--model-name", "one"]
    if how == "file":
        args = ["--config-file", str(tmp_path / "own.conf")]
    finished = cli(tmp_path, *args, "predict", "--kind", "text", models=TWO)
    assert returned(finished) == "plain text"


# --- metadata and warm


@pytest.mark.parametrize("method", ["get_metadata", ""])
def test_metadata_is_json(tmp_path: Path, method: str) -> None:
    text = returned(cli(tmp_path, *([method] if method else [])))
    assert json.loads(text) == {"name": "command line", "author": ["A", "B"], "license": None}


def test_metadata_is_saved_in_the_file_as_it_is_named(tmp_path: Path) -> None:
    text = returned(cli(tmp_path, "--deepaas_method_output", "meta.x", "get_metadata"))
    assert json.loads(text) == json.loads((tmp_path / "meta.x").read_text())


def test_warm_says_that_it_has_finished(tmp_path: Path) -> None:
    assert returned(cli(tmp_path, "warm")) == "Finished warm() method"


@pytest.mark.mended("get_predict_args must exist")
def test_module_without_functions_has_metadata(tmp_path: Path) -> None:
    assert json.loads(returned(cli(tmp_path, models={"bare": "zoo.bare"})))["name"] == "bare"


# --- arguments and the result of predict


def test_values_come_as_text(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("content")
    finished = cli(
        tmp_path,
        *("predict", "--number", "7", "--real", "2", "--switch", "False", "--wire", "x"),
        *("--strings", "['b', 'c']", "--mapping", "{1: [2]}", "--data", "note.txt"),
    )
    result = ast.literal_eval(returned(finished))
    assert {name: result[name] for name in ("number", "real", "switch", "wire")} == {
        "number": 7,
        "real": 2.0,
        "switch": False,
        "wire": "x",
    }
    assert (result["strings"], result["mapping"]) == (["b", "c"], {1: [2]})
    assert result["data"] == ["data", "text/plain", "note.txt", "content"]
    assert re.search("{.*}", finished.stdout)


@pytest.mark.parametrize(
    ("text", "value"), [("yes", True), ("TRUE", True), ("t", True), ("1", True), ("on", False)]
)
def test_booleans(tmp_path: Path, text: str, value: bool) -> None:
    assert ast.literal_eval(returned(cli(tmp_path, "predict", "--switch", text)))["switch"] is value


def test_arguments_that_are_called_like_options_are_separate(tmp_path: Path) -> None:
    args = ["-p", "2", "predict", "--model_name", "m", "--workers", "9"]
    result = ast.literal_eval(returned(cli(tmp_path, *args)))
    assert (result["model_name"], result["workers"]) == ("m", 9)


def test_beginning_of_a_name_is_enough(tmp_path: Path) -> None:
    assert ast.literal_eval(returned(cli(tmp_path, "predict", "--num", "8")))["number"] == 8


@pytest.mark.parametrize(
    ("kind", "text"),
    [("text", "plain text"), ("none", "None"), ("list", repr([1, {"it's": None}]))],
)
def test_result_is_shown_as_python_writes_it(tmp_path: Path, kind: str, text: str) -> None:
    assert returned(cli(tmp_path, "predict", "--kind", kind)) == text


@pytest.mark.parametrize("args", [["--number", "x"], ["--real", "x"], ["--strings", "nope"]])
def test_unreadable_value_is_a_usage_error(tmp_path: Path, args: list[str]) -> None:
    assert args[0] in refused(cli(tmp_path, "predict", *args))


@pytest.mark.mended("it ends with 1")
def test_literal_that_is_not_closed_is_a_usage_error(tmp_path: Path) -> None:
    assert "--mapping" in refused(cli(tmp_path, "predict", "--mapping", "{1"))


@pytest.mark.mended("validators are not called")
def test_validators_apply(tmp_path: Path) -> None:
    assert "--size" in refused(cli(tmp_path, "predict", "--size", "9"))


def test_exception_ends_with_1(tmp_path: Path) -> None:
    finished = cli(tmp_path, "predict", "--kind", "raise")
    assert finished.code == 1
    assert "it does not fit" in finished.output
    assert "return:" not in finished.stdout


def test_missing_file_ends_with_1(tmp_path: Path) -> None:
    finished = cli(tmp_path, "predict", "--data", "no-such.txt")
    assert finished.code == 1
    assert "no-such.txt" in finished.output


def test_help_of_predict(tmp_path: Path) -> None:
    finished = cli(tmp_path, "predict", "--help")
    assert finished.code == 0
    lines = [line.strip() for line in finished.stdout.splitlines()]
    number = lines.index("--number NUMBER")
    assert lines[number + 1 : number + 4] == ["A number: 5 % or more.", "Type: int", "Default: 3"]
    assert "Choices: ['red', 'blue']" in lines
    assert {"Type: float", "Type: bool", "Type: str (filepath)"} <= set(lines)
    assert {
        'Type: list, enclosed as string: "[...]"',
        'Type: dict, enclosed as string: "{...}"',
    } <= (set(lines))


def test_help_of_train_marks_what_is_required(tmp_path: Path) -> None:
    finished = cli(tmp_path, "train", "--help")
    assert finished.code == 0
    lines = [line.strip() for line in finished.stdout.splitlines()]
    assert lines[lines.index("--rate RATE") + 1 :][:3] == ["The rate.", "Type: float", "*Required*"]


# --- the file for the result


@pytest.mark.parametrize(
    ("file", "args", "saved", "content"),
    [
        ("out.json", ["--kind", "array"], "out.json", b'{"\\u00e9": [1.5, 2]}'),
        ("out.txt", ["--kind", "list"], "out.txt.json", b'[1, {"it\'s": null}]'),
        ("new/folder/out", ["--kind", "text"], "new/folder/out.json", b'"plain text"'),
        ("p.png", ["--kind", "bytesio", "--accept", "image/png"], "p.png", b"buffer"),
    ],
)
def test_result_is_saved(
    tmp_path: Path, file: str, args: list[str], saved: str, content: bytes
) -> None:
    finished = cli(tmp_path, "--deepaas_method_output", file, "predict", *args)
    assert returned(finished) == f"Output is saved in {saved}"
    assert (tmp_path / saved).read_bytes() == content
    lines = [line for line in finished.stdout.splitlines() if "New output is" in line]
    named = [COLOUR.sub("", line) for line in lines]
    assert named == ([] if saved == file else [f"===================> New output is {saved}"])


@pytest.mark.mended("it says so, but saves nothing")
@pytest.mark.parametrize(
    ("accept", "kind", "extension", "content"),
    [
        ("text/plain", "text", ".txt", b"plain text"),
        ("image/png", "bytes", ".png", b"bytes"),
        ("application/zip", "bytes", ".zip", b"bytes"),
        ("image/png", "file", ".png", b"content"),
        ("application/json", "file", ".json", b"content"),
        ("application/json", "bytesio", ".json", b"buffer"),
    ],
)
def test_content_is_saved(
    tmp_path: Path, accept: str, kind: str, extension: str, content: bytes
) -> None:
    args = ["predict", "--kind", kind, "--accept", accept]
    finished = cli(tmp_path, "--deepaas_method_output", "out", *args)
    assert returned(finished) == f"Output is saved in out{extension}"
    assert (tmp_path / f"out{extension}").read_bytes() == content


@pytest.mark.mended("it is relative to where the model has gone")
def test_file_is_relative_to_the_directory_of_the_caller(tmp_path: Path) -> None:
    assert returned(cli(tmp_path, "--deepaas_method_output", "o.json", "predict", models=NEW))
    assert json.loads((tmp_path / "o.json").read_text())["count"] == 1


# --- train


def test_train_prints_a_record(tmp_path: Path) -> None:
    record = json.loads(returned(cli(tmp_path, "train", "--rate", "1", "--epochs", "5")))
    assert list(record) == ["date", "args", "status", "uuid", "result"]
    assert (record["args"]["epochs"], record["args"]["rate"]) == (5, 1.0)
    assert record["status"] == "done"
    assert re.fullmatch("[0-9a-f]{32}", record["uuid"])
    result = record["result"]
    assert list(result) == ["finish_date", "duration", "output"]
    assert (result["output"]["epochs"], result["output"]["pair"]) == (5, [1, 2])
    begun, ended = (
        datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f")
        for text in (record["date"], result["finish_date"])
    )
    assert begun <= ended
    assert re.fullmatch(r"\d+:\d\d:\d\d(\.\d+)?", result["duration"])


def test_record_is_saved_in_the_file_as_it_is_named(tmp_path: Path) -> None:
    finished = cli(tmp_path, "--deepaas_method_output", "sub/run.x", "train", "--rate", "1")
    assert returned(finished) == "Output is saved in sub/run.x"
    assert json.loads((tmp_path / "sub/run.x").read_text())["status"] == "done"


def test_missing_argument_is_a_usage_error(tmp_path: Path) -> None:
    assert "--rate" in refused(cli(tmp_path, "train"))


def test_training_that_fails_ends_with_1(tmp_path: Path) -> None:
    finished = cli(tmp_path, "train", "--rate", "-1")
    assert finished.code == 1
    assert "it does not converge" in finished.output


@pytest.mark.mended("it is in the record")
def test_secret_is_not_in_the_record(tmp_path: Path) -> None:
    finished = cli(tmp_path, "-d", "train", "--rate", "1", "--secret", "abc-def")
    assert json.loads(returned(finished))["args"]["secret"] == "********"
    assert "abc-def" not in finished.output


@pytest.mark.mended("warm is not called")
@pytest.mark.parametrize("flag", ["--warm", "--nowarm"])
def test_warm_is_called_before(tmp_path: Path, flag: str) -> None:
    warmed = 1 if flag == "--warm" else 0
    record = json.loads(returned(cli(tmp_path, flag, "train", models=NEW)))
    assert record["result"]["output"] == {"warmed": warmed}
    result = ast.literal_eval(returned(cli(tmp_path, flag, "predict", models=NEW)))
    assert result["warmed"] == warmed


# --- fields that are read since this release


@pytest.mark.mended("a missing value is passed")
def test_absent_argument_is_not_passed(tmp_path: Path) -> None:
    result = ast.literal_eval(returned(cli(tmp_path, "predict", models=NEW)))
    assert set(result) == {
        *("warmed", "size", "two-words", "bbox(N,W,S,E)", "count", "password", "choice"),
    }


@pytest.mark.mended("some are not read")
def test_fields_read_their_texts(tmp_path: Path) -> None:
    for name in ("a.txt", "b.png"):
        (tmp_path / name).write_text(f"in {name}")
    finished = cli(
        tmp_path,
        *("predict", "--two-words", "2", "--bbox(N,W,S,E)", "1,2", "--day", "2024-02-29"),
        *("--place", "{'city': 'Ulm'}", "--count", "7", "--raw", f"{tmp_path}/a.txt"),
        *("--files", f"['{tmp_path}/a.txt', '{tmp_path}/b.png']", "--header", "h"),
        models=NEW,
    )
    result = ast.literal_eval(returned(finished))
    assert {**result, "warmed": 1} == {
        "warmed": 1,
        "size": 1,
        "two-words": 2,
        "bbox(N,W,S,E)": "1,2",
        "day": "2024-02-29",
        "place": {"city": "Ulm"},
        "count": 7,
        "raw": ["text/plain", "a.txt", "in a.txt"],
        "files": [
            ["text/plain", "a.txt", "in a.txt"],
            ["image/png", "b.png", "in b.png"],
        ],
        "header": "h",
        "password": "usual secret",
        "choice": "a",
    }
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.mended("they are not refused")
@pytest.mark.parametrize(
    "args", [["--day", "x"], ["--place", "{}"], ["--count", "x"], ["--choice", "c"]]
)
def test_fields_refuse_wrong_texts(tmp_path: Path, args: list[str]) -> None:
    assert args[0] in refused(cli(tmp_path, "predict", *args, models=NEW))


@pytest.mark.mended("it shows <marshmallow.missing> and wrong types")
def test_help_of_all_fields(tmp_path: Path) -> None:
    text = cli(tmp_path, "predict", "--help", models=NEW).stdout
    lines = [line.strip() for line in text.splitlines()]
    for hidden in ("marshmallow.missing", "--hidden", "usual secret"):
        assert hidden not in text
    for name, kind in {
        "--raw RAW": "Type: str (filepath)",
        "--count COUNT": "Type: int",
        "--files FILES": 'Type: list of filepaths, enclosed as string: "[...]"',
        "--place PLACE": 'Type: dict, enclosed as string: "{...}"',
        "--day DAY": "Type: str (date, YYYY-MM-DD)",
    }.items():
        assert lines[lines.index(name) + 1] == kind
    assert "Choices: ['a', 'b']" in lines
