"""`deepaas check` finds planted mistakes and says what to write; in good models it finds nothing.

The mistakes of `tests/cmd/planted.py` are those that the server itself reports; most of them are
checked only by the long form.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from deepaas.checks import connection
from deepaas.checks.findings import Report
from deepaas.checks.server_log import ServerLog
from deepaas.checks.trainings import Trainings
from deepaas.checks.values import Request
from deepaas.cmd import orphans
from deepaas.commands.check import command
from tests.checks.tried import PREDICTIONS, TRAININGS, Tried
from tests.cmd.planted import MISTAKES, Planted
from tests.support import (
    NO_CERTIFICATES,
    READY_SECONDS,
    Finished,
    environment,
    install_models,
    program,
    run_program,
    wait_until,
)

DEEPAAS = program().with_name("deepaas")
GOOD = (
    *("echo", "files", "exemplary", "rich", "media_star", "schema_list"),
    *("library:Model", "asynchronous:Async", "steps:Batched"),
    "command_line_kinds:AwaitsAndYields",
)
"""Models of the zoo that have no mistake."""

MORE_GOOD = (
    *("standard", "picture", "trains"),
    *("asks_for_weights", "authorization", "bound", "children", "command_line_new", "decorated"),
    *("documented", "filling", "forges", "guarded", "integers", "keeps_weights", "lambdas"),
    *("leaves", "many_files", "metadata_dates", "metadata_types", "multiprocess", "orphans"),
    *("named_arguments", "printing", "received", "sources", "subclassed", "timed", "trained"),
    *("rich_train", "train_args_none", "train_args_objects", "weights", "clients:Regions"),
    *("kinds:Simple", "knows_request:Tracing", "logs:Batched", "objects:Model", "busy:Items"),
    *("metadata_problems:Predicting", "train_args:Batch", "turmoil:Plain"),
)

EXAMPLES = {
    "digits": "deepaas_digits.api",
    "filetype": "deepaas_filetype:FileType",
    "language": "deepaas_language.api",
    "speech": "deepaas_speech.api",
}

SHORT = (
    "syntax",
    "missing_library",
    "needy_class",
    "field_class",
    "required_default",
    "no_weights",
    "not_declared",
    "misspelt",
    "accept_png",
    "example_value",
)
"""The mistakes that are reported at the start and belong to the short form."""


def check(
    home: Path, *arguments: str, cwd: Path | None = None, models: dict[str, str] | None = None
) -> Finished:
    return run_program(
        home,
        ["check", *arguments],
        models=models,
        executable=DEEPAAS,
        cwd=cwd,
        timeout=4 * READY_SECONDS,
    )


def reports_of(done: Finished) -> dict[str, Any]:
    assert done.stdout.startswith("{"), done.output
    return {one["model"]: one for one in json.loads(done.stdout)["models"]}


def write(directory: Path, mistakes: dict[str, Any]) -> list[str]:
    """Write a file for each mistake; return what names their models."""
    for name, mistake in mistakes.items():
        (directory / f"{name}.py").write_text(mistake.code)
    return [f"{name}.py{_attribute(mistake)}" for name, mistake in mistakes.items()]


def _attribute(mistake: Planted | Tried) -> str:
    name = getattr(mistake, "attribute", "")
    if isinstance(mistake, Tried) and mistake.code.startswith("class Model"):
        name = "Model"
    return f":{name}" if name else ""


def assert_found(report: dict[str, Any], name: str, mistake: Tried) -> None:
    """Assert that the report has the finding about the mistake, and no other."""
    assert [one["code"] for one in report["findings"]] == [mistake.kind], report["findings"]
    found = report["findings"][0]
    assert found["severity"] == mistake.severity
    assert found["place"] == f"{name}.py:{mistake.line}"
    if mistake.what.endswith((": ", "raises ")):
        assert found["what"].startswith(mistake.what)
    else:
        assert found["what"] == mistake.what
    assert found["write"] == mistake.write
    assert found["why"]


# --- mistakes that only trying shows


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("tried")
    done = check(home, "--json", "--timeout", "120", *write(home, PREDICTIONS))
    assert done.code == 1
    return reports_of(done)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_mistake_that_only_trying_shows_is_found(tried: dict[str, Any], name: str) -> None:
    assert_found(tried[name], name, PREDICTIONS[name])


def test_mistakes_of_trainings_are_found(tmp_path: Path) -> None:
    done = check(tmp_path, "--json", "--train", *write(tmp_path, TRAININGS))
    assert done.code == 1
    reports = reports_of(done)
    for name, mistake in TRAININGS.items():
        assert reports[name]["trained"]
        assert_found(reports[name], name, mistake)


def test_failing_batch_and_too_much_memory_are_found(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(
        "import time\nmax_batch_size = 4\n"
        "def predict_batch(batch):\n    time.sleep(2)\n    return [1]\n"
    )
    done = check(tmp_path, "--json", "--max-memory", "1", "m.py")
    assert done.code == 1
    found = reports_of(done)["m"]["findings"]
    assert [one["code"] for one in found] == ["batch_fails", "memory"]
    assert found[0]["place"] == "m.py:3"


# --- mistakes that the server reports at its start


def assert_reported(report: dict[str, Any], planted: Planted) -> None:
    """Assert that the findings contain the line of the server's log, word for word."""
    line = planted.said.partition(": ")[2]
    is_served = " cannot be " not in planted.said
    codes = ("mistake",) if is_served else ("not_served",)
    found = [one for one in report["findings"] if one["code"] in codes]
    assert len(found) == 1, report["findings"]
    assert found[0]["severity"] == ("warning" if is_served else "error")
    place, what = found[0]["place"], found[0]["what"]
    if not is_served:
        what = what.partition(": ")[2]
    said = f"{place}: {what}" if place else what
    assert line.removesuffix("?") in (said, f"{said}; {found[0]['write']}")
    assert found[0]["write"]


def check_planted(home: Path, names: tuple[str, ...]) -> None:
    mistakes = {name: MISTAKES[name] for name in names}
    done = check(home, "--json", "--timeout", "120", *write(home, mistakes))
    assert done.code == 1
    for name, report in reports_of(done).items():
        assert_reported(report, MISTAKES[name])


def test_mistakes_of_the_start_are_found(tmp_path: Path) -> None:
    check_planted(tmp_path, SHORT)


@pytest.mark.long
def test_all_other_mistakes_of_the_start_are_found(tmp_path: Path) -> None:
    check_planted(tmp_path, tuple(name for name in MISTAKES if name not in SHORT))


def test_zoo_has_at_least_forty_mistakes() -> None:
    assert len(PREDICTIONS) + len(TRAININGS) + len(SHORT) >= 40


# --- good models


def check_good(home: Path, targets: tuple[str, ...]) -> None:
    done = check(home, "--strict", "--timeout", "300", *(f"zoo.{one}" for one in targets))
    assert done.stdout.splitlines()[-1] == "Nothing found.", done.stdout
    assert done.code == 0
    assert done.stdout.count("ready in") == len(targets)


def test_nothing_is_found_in_good_models(tmp_path: Path) -> None:
    check_good(tmp_path, GOOD)


@pytest.mark.long
def test_nothing_is_found_in_more_good_models(tmp_path: Path) -> None:
    check_good(tmp_path, MORE_GOOD)


def check_examples(home: Path, *names: str, train: bool = False) -> None:
    models = {name: EXAMPLES[name] for name in names}
    done = check(home, "--strict", "--timeout", "300", *["--train"] * train, models=models)
    assert done.stdout.splitlines()[-1] == "Nothing found.", done.stdout
    assert done.code == 0


def test_nothing_is_found_in_an_example(tmp_path: Path) -> None:
    check_examples(tmp_path, "language")


@pytest.mark.long
def test_nothing_is_found_in_the_examples(tmp_path: Path) -> None:
    check_examples(tmp_path, *EXAMPLES, train=True)


# --- the report


PAGE = (Path(__file__).resolve().parents[2] / "docs" / "check.md").read_text()


def block(language: str) -> str:
    return PAGE.partition(f"```{language}\n")[2].partition("```")[0]


def test_page_shows_a_real_report(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(block("python"))
    typed, _, shown = block("console").partition("\n")
    done = check(tmp_path, *typed.split()[3:])
    numbers = re.compile(r"\d+\.\d+ s, \d+ MB, \d+ threads?")
    assert numbers.sub("", done.stdout) == numbers.sub("", shown)
    assert done.code == 1


def test_page_has_every_code_of_a_finding() -> None:
    planted = {one.kind for one in (*PREDICTIONS.values(), *TRAININGS.values())}
    for code in (*planted, "not_served", "mistake", "batch_fails", "timeout", "memory", "log"):
        assert f"`{code}`" in PAGE


def code_of_a_note(home: Path, *options: str) -> int:
    """Check a model that cannot use the file that the check has made up."""
    (home / "m.py").write_text(
        "from webargs import fields\n"
        "def get_predict_args():\n"
        '    file = {"type": "file", "location": "form"}\n'
        '    return {"a": fields.Raw(required=True, metadata=file)}\n'
        "def predict(a):\n    return open(a.filename).read()\n"
    )
    done = check(home, *options, "m.py")
    assert "  note: m.py:6: predict raises UnicodeDecodeError: " in done.stdout
    assert "write: declare arguments that clients can try: examples = [{...}]" in done.stdout
    assert done.stdout.endswith("Found 1 note.\n")
    return done.code


def test_note_does_not_change_the_exit_code(tmp_path: Path) -> None:
    assert code_of_a_note(tmp_path) == 0


@pytest.mark.long
def test_note_counts_if_the_check_is_strict(tmp_path: Path) -> None:
    assert code_of_a_note(tmp_path, "--strict") == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nothing.py"], "there is no file nothing.py"),
        (["no_such_model"], "no model is called 'no_such_model'"),
        (["a.echo", "b.echo"], "two models have the name echo"),
        (["--timeout", "0", "a.echo"], "Invalid value for '--timeout'"),
    ],
)
def test_wrong_use_is_a_usage_error(arguments: list[str], reason: str) -> None:
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 2
    assert reason in done.output


# --- limits


def limited(home: Path, code: str, *options: str) -> list[tuple[str, str]]:
    (home / "m.py").write_text(code)
    done = check(home, "--json", *options, "m.py")
    assert done.code == 1
    return [(one["code"], one["what"]) for one in reports_of(done)["m"]["findings"]]


FOREVER = "import threading\n{}\n    threading.Event().wait()\n"


def test_prediction_that_takes_too_long_is_found(tmp_path: Path) -> None:
    assert limited(tmp_path, FOREVER.format("def predict():"), "--timeout", "1") == [
        ("timeout", "predict takes longer than 1 s for a request without arguments")
    ]


def test_start_that_takes_too_long_is_found(tmp_path: Path) -> None:
    [(code, what)] = limited(tmp_path, FOREVER.format("def warm():"), "--start-timeout", "1")
    assert code == "not_served"
    assert what.startswith("the model was not ready in 1 s (--start-timeout)")


@pytest.mark.long
def test_check_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    found = limited(tmp_path, FOREVER.format("def warm():"), "--total-timeout", "1")
    assert found == [("total_timeout", "the check was ended after 1 s")]


def test_check_with_too_much_output_is_ended(tmp_path: Path) -> None:
    left = tmp_path / "tmp/deepaas-check-leftover"  # of a check that was killed
    left.mkdir(parents=True)
    (left / orphans.LOCK).write_bytes(orphans.SIGN)
    code = "def warm():\n    while True:\n        print('x' * 4000)\n"
    [(code, what)] = limited(tmp_path, code, "--max-log", "1")
    assert code == "log"
    assert what == "the check was ended because the log had more than 1 MB (--max-log)"
    assert not list((tmp_path / "tmp").glob("deepaas-check-*"))


def test_log_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    entries = [
        {"message": f"failed (request check-{number})", "traceback": f"in {number}"}
        for number in range(3)
    ]
    first, second, third = (f"{json.dumps(entry)}\n" for entry in entries)
    path.write_text(first + second[:20])
    log = ServerLog(path)
    assert log.traceback("check-0") == "in 0"
    assert log.traceback("check-1") == ""
    path.write_text(" " * len(first) + second + third)
    assert [log.traceback(f"check-{number}") for number in range(3)] == ["in 0", "in 1", "in 2"]


async def test_training_of_which_the_server_says_nothing_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "GRACE_SECONDS", 0.0)

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            pass
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    client = connection.Connection([], tmp_path / "log", 0.1)
    try:
        client.url = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        report = Report("m", "m")
        trainings = Trainings(client, connection.Loaded(), report, 0.0)
        record = await trainings._until_ended("some-uuid")
        await trainings._check_record(record, Request({}, "its example", True))
    finally:
        await client.close()
        silent.close()
    assert [one.code for one in report.findings] == ["train_timeout"]


@pytest.mark.parametrize(
    "signum",
    [signal.SIGINT, signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.long)],
)
def test_signal_leaves_no_process(tmp_path: Path, signum: signal.Signals) -> None:
    (tmp_path / "m.py").write_text(
        "import threading\ndef predict():\n    open('begun', 'w').close()\n"
        "    threading.Event().wait()\n"
    )
    site = install_models(tmp_path / "site", {})
    with subprocess.Popen(
        [str(DEEPAAS), "check", "m.py"],
        cwd=tmp_path,
        env=environment(tmp_path, site, extra=NO_CERTIFICATES),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            begun = tmp_path / "begun"
            wait_until(begun.exists, within=READY_SECONDS, what="the prediction")
            family = psutil.Process(process.pid).children(recursive=True)
            assert len(family) >= 3  # the server, its guard and the worker
            process.send_signal(signum)
            code = process.wait(READY_SECONDS)
        finally:
            process.kill()
    assert code == (-signum if signum == signal.SIGKILL else 130)
    wait_until(lambda: not any(map(_runs, family)), within=READY_SECONDS, what="the end of all")
    if signum != signal.SIGKILL:
        assert not list((tmp_path / "tmp").glob("deepaas-check-*"))
        return
    assert list((tmp_path / "tmp").glob("deepaas-check-*"))
    orphans.sweep_checks(str(tmp_path / "tmp"))
    assert not list((tmp_path / "tmp").glob("deepaas-check-*"))


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
