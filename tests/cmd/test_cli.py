"""`deepaas-cli`: other kinds of models, messages about mistakes, and its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.documents import Terminal, blocks, pattern
from tests.support import (
    STOP_SECONDS,
    Finished,
    environment,
    install_models,
    program,
    run_program,
    wait_until,
)

ROOT = Path(__file__).resolve().parents[2]
MODULE = "zoo.command_line_kinds"


def cli(tmp_path: Path, model: str, *args: str, **kwargs: Any) -> Finished:
    target = model if model.startswith("zoo.") else f"{MODULE}:{model}"
    executable = program().with_name("deepaas-cli")
    return run_program(tmp_path, args, models={"one": target}, executable=executable, **kwargs)


def returned(finished: Finished) -> str:
    assert finished.code == 0, finished.output
    assert finished.stderr == ""
    return finished.stdout.splitlines()[-1].partition(" return: ")[2]


def error_of(finished: Finished) -> str:
    """Return the last line on stderr of a program that has failed."""
    assert finished.code == 1, finished.output
    return finished.stderr.splitlines()[-1]


# --- kinds of models


@pytest.mark.parametrize(
    ("model", "text"),
    [("Yields", "['a', 'b']"), ("Awaits", "{'warmed': 1}"), ("AwaitsAndYields", "[0, 1, 2]")],
)
def test_results_of_generators_and_coroutines(tmp_path: Path, model: str, text: str) -> None:
    assert returned(cli(tmp_path, model, "predict")) == text


@pytest.mark.parametrize(("model", "output"), [("Yields", [1, 2]), ("Awaits", "trained")])
def test_trainings_that_yield_or_await(tmp_path: Path, model: str, output: Any) -> None:
    record = json.loads(returned(cli(tmp_path, model, "train")))
    assert record["result"]["output"] == output


@pytest.mark.parametrize(
    ("args", "name", "content"),
    [([], "out.json", '["a", "b"]'), (["--accept", "text/plain"], "out.txt", "ab")],
)
def test_items_of_a_generator_are_saved(
    tmp_path: Path, args: list[str], name: str, content: str
) -> None:
    assert name in returned(
        cli(tmp_path, "Yields", "--deepaas_method_output", "out", "predict", *args)
    )
    assert (tmp_path / name).read_text() == content


def test_batch_of_one(tmp_path: Path) -> None:
    assert returned(cli(tmp_path, "Batches", "predict", "--number", "8")) == "4"
    failed = cli(tmp_path, "Batches", "predict", "--number", "7")
    assert error_of(failed) == "deepaas-cli: error: predict failed: ValueError: 7 is odd"


@pytest.mark.parametrize(
    ("args", "name", "content"),
    [([], "out.png", b"image/png"), (["--accept", "image/*"], "out", b"image/*")],
)
def test_image_is_saved(tmp_path: Path, args: list[str], name: str, content: bytes) -> None:
    options = ["--deepaas_method_output", "out", "predict", *args]
    assert returned(cli(tmp_path, "Wild", *options)) == f"Output is saved in {name}"
    assert (tmp_path / name).read_bytes() == content


def test_result_that_violates_its_schema_is_not_saved(tmp_path: Path) -> None:
    options = ["--deepaas_method_output", "out.json", "predict", "--kind"]
    assert returned(cli(tmp_path, "zoo.schema_dict", *options, "good"))
    assert json.loads((tmp_path / "out.json").read_text()) == {"labels": ["a"], "score": "0.5"}
    assert "does not match its schema" in error_of(
        cli(tmp_path, "zoo.schema_dict", *options, "wrong")
    )


# --- what is logged


def test_result_is_printed_at_every_log_level(tmp_path: Path) -> None:
    finished = cli(tmp_path, "Yields", "--log-level", "ERROR", "predict")
    assert returned(finished) == "['a', 'b']"


def test_log_file_takes_the_result(tmp_path: Path) -> None:
    finished = cli(tmp_path, "Yields", "--log-file", "run.log", "predict")
    assert (finished.code, finished.output) == (0, "")
    assert (tmp_path / "run.log").read_text().endswith(" return: ['a', 'b']\n")


def test_json_lines(tmp_path: Path) -> None:
    finished = cli(tmp_path, "Yields", "--use-json", "predict")
    messages = [json.loads(line)["message"] for line in finished.stdout.splitlines()]
    assert messages == ["predict was called.", "return: ['a', 'b']"]


def test_closed_output_is_no_error(tmp_path: Path) -> None:
    site = install_models(tmp_path / "site", {"one": f"{MODULE}:Yields"})
    line = f'"{program().with_name("deepaas-cli")}" --deepaas_method_output o.json predict >&- 2>&-'
    ran = subprocess.run(
        ["sh", "-c", line], cwd=tmp_path, env=environment(tmp_path, site, extra={}), check=False
    )
    assert ran.returncode == 0
    assert (tmp_path / "o.json").read_text() == '["a", "b"]'


# --- mistakes


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--modl-name", "one", "predict"], "did you mean --model-name?"),
        (["--log-level", "loud", "predict"], "--log-level must be one of"),
        (["predict", "--number", "8", "--log-level", "INFO"], "come before the method"),
        (["predict", "--number", "8", "--numbr=9"], "did you mean --number?"),
        (["predict", "--number", "1.5"], "argument --number: Not a valid integer."),
        (["warm", "--number", "8"], "unrecognized arguments: --number 8"),
    ],
)
def test_usage_errors_say_what_to_change(tmp_path: Path, args: list[str], message: str) -> None:
    finished = cli(tmp_path, "Batches", *args)
    assert (finished.code, finished.stdout) == (2, "")
    assert message in finished.stderr.splitlines()[-1]


def test_json_instead_of_a_literal(tmp_path: Path) -> None:
    finished = cli(tmp_path, "zoo.command_line", "predict", "--mapping", '{"a": true}')
    assert finished.code == 2
    assert "with True, False and None instead of true" in finished.stderr


def test_unknown_model_has_a_hint(tmp_path: Path) -> None:
    finished = cli(tmp_path, "Batches", "--model-name", "onne", "predict")
    assert error_of(finished) == (
        "deepaas-cli: error: no model is called 'onne'; did you mean one?; installed: one"
    )


def test_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    finished = cli(tmp_path, "zoo.unloadable", "predict")
    assert "model one cannot be loaded: RuntimeError: the weights are not" in error_of(finished)
    assert "unloadable.py:3" in finished.stdout


def test_function_that_the_model_lacks(tmp_path: Path) -> None:
    assert "one has no function train" in error_of(cli(tmp_path, "Batches", "train"))


def test_model_that_calls_exit(tmp_path: Path) -> None:
    assert "sys.exit(7)" in error_of(cli(tmp_path, "Leaves", "predict"))


def test_wrong_configuration_file(tmp_path: Path) -> None:
    (tmp_path / "own.conf").write_text("[DEFAULT]\nlog_level = loud\n")
    finished = cli(tmp_path, "Batches", "--config-file", "own.conf", "warm")
    assert "own.conf:2" in error_of(finished)


def test_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    finished = cli(tmp_path, "Yields", "--deepaas_method_output", "file/out.json", "predict")
    assert "give another file with --deepaas_method_output" in error_of(finished)


# --- weights


@pytest.mark.parametrize("how", ["default", "flag", "environment"])
def test_trained_weights_are_where_the_server_looks_for_them(tmp_path: Path, how: str) -> None:
    options = ["--weights-dir", str(tmp_path / "own")] if how == "flag" else []
    env = {"DEEPAAS_STATE_DIR": str(tmp_path / "own")} if how == "environment" else {}
    returned(cli(tmp_path, "zoo.keeps_weights", *options, "train", "--word", "new", env=env))
    place = {"default": ".local/state/deepaas/weights", "flag": "own", "environment": "own/weights"}
    (directory,) = (tmp_path / place[how]).iterdir()
    assert directory.name.startswith("one@zoo.keeps_weights")
    finished = cli(tmp_path, "zoo.keeps_weights", *options, "predict", env=env)
    assert "'word': 'new'" in returned(finished)


# --- its end


def heed_interrupts() -> None:
    """Undo that a shell lets the processes that it starts in the background ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_copy_of_the_file_is_removed_after_a_signal(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    site = install_models(tmp_path / "site", {"one": f"{MODULE}:Waits"})
    (tmp_path / "in.txt").write_text("content")
    note = tmp_path / "note"
    command = [str(program().with_name("deepaas-cli")), "predict", "--data", "in.txt"]
    env = environment(tmp_path, site, extra={})
    with subprocess.Popen(
        [*command, "--note", str(note)],
        cwd=tmp_path,
        env=env,
        stdout=subprocess.DEVNULL,
        preexec_fn=heed_interrupts,
    ) as process:
        try:
            wait_until(note.exists, within=STOP_SECONDS)
            copied = Path(note.read_text())
            assert copied.read_text() == "content"
            process.send_signal(number)
            assert process.wait(timeout=STOP_SECONDS) == code
        finally:
            process.kill()
    assert not copied.parent.exists()


def test_process_that_the_model_forks_ends_by_the_signal(tmp_path: Path) -> None:
    assert returned(cli(tmp_path, "Forks", "predict")) == str(-signal.SIGTERM)


def test_help_imports_no_code_of_models() -> None:
    code = (
        "import sys; from deepaas.cmd import cli; cli._parser().format_help(); print(*sys.modules)"
    )
    python = program().with_name("python")
    ran = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    assert "deepaas.cmd.cli" in ran.stdout.split()
    assert not {"marshmallow", "webargs", "aiohttp", "numpy"} & set(ran.stdout.split())


# --- the page


def test_commands_of_the_page_print_what_it_says(tmp_path: Path) -> None:
    page = blocks(ROOT / "docs" / "command-line.md")
    site = install_models(tmp_path / "site", {})
    info = site / "area_model-1.0.dist-info"
    info.mkdir()
    metadata = "Metadata-Version: 2.1\nName: area-model\nVersion: 1.0\nSummary: Computes areas\n"
    (info / "METADATA").write_text(metadata)
    (info / "entry_points.txt").write_text("[deepaas.v2.model]\narea = area\n")
    (code,) = [block.text for block in page if block.language == "python"]
    (site / "area.py").write_text(code)
    env = environment(tmp_path, site, extra={"COLUMNS": "70"})
    env["PATH"] = f"{program().parent}{os.pathsep}{env['PATH']}"
    (tmp_path / "work").mkdir()
    terminal = Terminal(tmp_path / "notes", tmp_path / "work", env)
    steps = [step for block in page if block.language == "console" for step in block.steps]
    assert len(steps) > 4
    try:
        for step in steps:
            finished = terminal.run(step.command)
            assert pattern(step.printed).fullmatch(finished.output), (step, finished)
    finally:
        terminal.close()
