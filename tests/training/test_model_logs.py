"""Records that a model logs in a training appear once in its output, and once in the server log."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.support import Server, wait_until
from tests.training.trainings import (
    END_SECONDS,
    Place,
    Site,
    Trainings,
    kill_server,
)
from tests.zoo.logs import HOWS

MODELS = {"plain": "zoo.logs:Plain"} | {how: f"zoo.logs:{how}" for how in HOWS}
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \d+ "
LEVELS = ("INFO", "WARNING", "ERROR")


@pytest.fixture(scope="module")
def server(serve_all: Serve, tmp_path_factory: pytest.TempPathFactory) -> Server:
    cwd = tmp_path_factory.mktemp("cwd")
    return serve_all(MODELS, "--noreload-after-train", cwd=cwd, ready_seconds=120)


def lines_with(log: str, token: str) -> list[str]:
    """Return the lines about a token, without time and process, and without access log lines."""
    lines = [line for line in log.splitlines() if token in line and "/v2/models/" not in line]
    return [re.sub(f"^{TIME}", "", line) for line in lines]


def expected(token: str, names: str, *levels: str) -> list[str]:
    return [f"{level} zoo.logs {names}: {token} at {level.lower()}" for level in levels]


def wait_for_lines(server: Server, token: str, lines: list[str]) -> None:
    """Wait until the server log has these lines about a token, and check that it has no others."""
    wait_until(
        lambda: len(lines_with(server.log(), token)) >= len(lines),
        within=END_SECONDS,
        what="what was logged",
    )
    assert lines_with(server.log(), token) == lines


@pytest.mark.parametrize("how", ["nothing", "basicConfig_file", "captureWarnings", "no_processes"])
def test_output_and_log_have_what_is_logged(server: Server, how: str) -> None:
    trainings = Trainings(server, how)
    token = f"<{how}>"
    uuid = trainings.begin(token=token)
    assert trainings.wait(uuid)["status"] == "done"
    lines = expected(token, f"{how} training {uuid}", *LEVELS)
    assert lines_with(trainings.log(uuid), token) == [*lines, f"{token} printed"]
    wait_for_lines(server, token, lines)


@pytest.mark.parametrize("how", ["basicConfig", "dictConfig", "own_handler", "rich"])
def test_output_has_what_the_handlers_of_the_model_write(server: Server, how: str) -> None:
    """The lines have the format that the model has configured, and appear once."""
    trainings = Trainings(server, how)
    token = f"<{how}>"
    uuid = trainings.begin(token=token)
    assert trainings.wait(uuid)["status"] == "done"
    plain = [f"{token} at {level.lower()}" for level in LEVELS]
    names = f"{how} training {uuid}"
    output = {
        "basicConfig": [
            f"{level}:zoo.logs:{text}" for level, text in zip(LEVELS, plain, strict=True)
        ],
        "dictConfig": [plain[-1]],
        "own_handler": plain,
        "rich": [f"rich {text}" for text in plain],
    }
    assert lines_with(trainings.log(uuid), token) == [*output[how], f"{token} printed"]
    levels = LEVELS[-1:] if how == "dictConfig" else LEVELS
    wait_for_lines(server, token, expected(token, names, *levels))


def test_asynchronous_prediction_is_named_as_a_job(server: Server) -> None:
    query = {"token": "<job>", "what": "levels"}
    begun = server.predict("plain", params=query, headers={"Prefer": "respond-async"}).json()
    jobs = Trainings(server, "plain", "jobs")
    assert jobs.wait(begun["uuid"])["status"] == "done"
    lines = expected("<job>", f"plain job {begun['uuid']}", *LEVELS)
    assert lines_with(jobs.log(begun["uuid"]), "<job>") == [*lines, "<job> printed"]
    wait_for_lines(server, "<job>", lines)


def test_lines_are_in_the_log_while_the_training_runs(server: Server, place: Place) -> None:
    trainings = Trainings(server, "plain")
    uuid = trainings.begin(token="<runs>", gate=str(place.path / "gate"))
    wait_for_lines(server, "<runs>", expected("<runs>", f"plain training {uuid}", *LEVELS))
    assert trainings.get(uuid)["status"] == "running"
    place.open_gate()
    trainings.wait(uuid)


def test_of_very_many_lines_the_log_says_how_many_are_in_the_output_alone(server: Server) -> None:
    trainings = Trainings(server, "plain")
    uuid = trainings.begin(token="<many>", what="many")
    assert trainings.wait(uuid)["status"] == "done"
    lost = re.compile(rf"(\d+) bytes that {uuid} logged are only in its output")
    wait_until(
        lambda: "<many> 19999" in server.log() or lost.search(server.log()),
        within=END_SECONDS,
        what="the last line, or how many are not in the log",
    )
    passed_on = len(lines_with(server.log(), "<many>"))
    told = lost.findall(server.log())
    written = sum(len(line) + 1 for line in trainings.log(uuid).splitlines() if "<many>" in line)
    assert passed_on == 20_000 or 0 < sum(map(int, told)) < written
    assert len(lines_with(trainings.log(uuid), "<many>")) == 20_000


def test_log_file_has_what_trainings_log(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "log"
    server = serve({"plain": "zoo.logs:Plain"}, "--log-file", str(path))
    trainings = Trainings(server, "plain")
    uuid = trainings.begin(token="<file>")
    trainings.wait(uuid)
    lines = expected("<file>", f"plain training {uuid}", *LEVELS)
    wait_until(
        lambda: lines_with(path.read_text(), "<file>") == lines,
        within=END_SECONDS,
        what="the records",
    )
    assert lines_with(server.log(), "<file>") == []


def test_json_has_the_names_as_fields(serve: Serve) -> None:
    server = serve({"plain": "zoo.logs:Plain"}, "--use-json")
    trainings = Trainings(server, "plain")
    uuid = trainings.begin(token="<json>")
    trainings.wait(uuid)

    def logged(log: str) -> list[dict[str, Any]]:
        lines = [line for line in lines_with(log, "<json>") if line[:1] == "{"]
        return [line for line in map(json.loads, lines) if line["name"] == "zoo.logs"]

    wait_until(lambda: len(logged(server.log())) == 3, within=END_SECONDS, what="the records")
    for log in (server.log(), trainings.log(uuid)):
        lines = logged(log)
        assert [line["levelname"] for line in lines] == list(LEVELS)
        assert [line["message"] for line in lines] == [f"<json> at {x.lower()}" for x in LEVELS]
        assert {(line["model"], line["training"]) for line in lines} == {("plain", uuid)}


def test_server_that_adopts_a_training_has_what_it_logs_from_then_on(
    tmp_path: Path, place: Place
) -> None:
    site = Site(tmp_path / "state", {"plain": "zoo.logs:Plain"})
    try:
        first = Trainings(site.serve().server, "plain")
        uuid = first.begin(token="<before>", gate=str(place.path / "gate"), what="after the gate")
        wait_until(lambda: "<before>" in first.log(uuid), within=END_SECONDS, what="its begin")
        kill_server(first.server)
        second = Trainings(site.serve().server, "plain")
        place.open_gate()
        assert second.wait(uuid)["status"] == "done"
        wait_until(
            lambda: lines_with(second.server.log(), "<before> is over"),
            within=END_SECONDS,
            what="the line in the log of the server",
        )
        (line,) = lines_with(second.server.log(), "<before> is over")
        assert line == f"INFO zoo.logs plain training {uuid}: <before> is over"
        assert lines_with(second.server.log(), "<before> begins") == []
    finally:
        place.open_gate()
        site.close()
