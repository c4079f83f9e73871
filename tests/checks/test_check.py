"""`deepaas check` finds planted mistakes and says what to write; in good models it finds nothing.

The mistakes of `tests/cmd/planted.py` are those that the server itself reports; most of them are
checked only by the long form.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.checks.tried import PREDICTIONS, TRAININGS, Tried
from tests.cmd.planted import MISTAKES, Planted
from tests.support import (
    READY_SECONDS,
    Finished,
    program,
    run_program,
)

DEEPAAS = program().with_name("deepaas")
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


def test_batch_that_fails_for_several_calls_is_found(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(
        "import time\nmax_batch_size = 4\n"
        "def predict_batch(batch):\n    time.sleep(2)\n    return [1]\n"
    )
    done = check(tmp_path, "--json", "m.py")
    assert done.code == 1
    found = reports_of(done)["m"]["findings"]
    assert [(one["code"], one["place"]) for one in found] == [("batch_fails", "m.py:3")]


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
