"""The server logs each record of a model once, with the names of the model and the worker."""

from __future__ import annotations

import itertools
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support import Server, wait_until
from tests.training.trainings import Place, Trainings
from tests.zoo.logs import HOWS, LOG_FILE

KINDS = {"plain": "zoo.logs:Plain", "batched": "zoo.logs:Batched", "async": "zoo.logs:Async"}
MODELS = KINDS | {how: f"zoo.logs:{how}" for how in HOWS}
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \d+ "
LOG_SECONDS = 20.0
_tokens = itertools.count(1)


def new_token() -> str:
    return f"<{next(_tokens)}>"


@pytest.fixture(scope="module")
def server(serve_all: Serve, tmp_path_factory: pytest.TempPathFactory) -> Server:
    return serve_all(MODELS, cwd=tmp_path_factory.mktemp("cwd"), ready_seconds=120)


def ask(server: Server, model: str, what: str = "levels", token: str = "") -> str:
    """Let a model log something, and return the token in it."""
    token = token or new_token()
    answer = server.predict(model, params={"what": what, "token": token})
    assert answer.status_code == 200, answer.text
    return token


def lines_with(log: str, token: str) -> list[str]:
    """Return the lines with this token, without time and process, and without the access log."""
    lines = [line for line in log.splitlines() if token in line and "/v2/models/" not in line]
    return [re.sub(f"^{TIME}", "", line) for line in lines]


def after(server: Server, model: str, token: str) -> list[str]:
    """Return the lines with this token, after waiting for output that the model prints later."""
    end = ask(server, model, "print")
    wait_until(lambda: end in server.log(), within=LOG_SECONDS, what="what was printed")
    return lines_with(server.log(), token)


def expected(
    model: str, token: str, *levels: str, name: str = "zoo.logs", process: str = "[0]"
) -> list[str]:
    logged = [f"{level} {name} {model}{process}: {token} at {level.lower()}" for level in levels]
    return [*logged, f"{token} printed"]


# --- how the model is called, and its logging configuration ------------------------------------


@pytest.mark.parametrize("model", KINDS)
def test_records_have_their_level_and_the_names_of_model_and_worker(
    server: Server, model: str
) -> None:
    token = ask(server, model)
    assert after(server, model, token) == expected(model, token, "INFO", "WARNING", "ERROR")


@pytest.mark.parametrize(
    "how",
    [
        "nothing",
        "basicConfig",
        "basicConfig_twice",
        "basicConfig_force",
        "basicConfig_file",
        "absl",
        "own_handler",
        "rich",
        "captureWarnings",
        "no_processes",
    ],
)
def test_each_record_is_there_once_whatever_the_model_has_configured(
    server: Server, how: str
) -> None:
    token = ask(server, how)
    assert after(server, how, token) == expected(how, token, "INFO", "WARNING", "ERROR")


def test_levels_that_the_model_has_set_count(server: Server) -> None:
    token = ask(server, "level")
    assert after(server, "level", token) == expected("level", token, "WARNING", "ERROR")
    token = ask(server, "dictConfig")
    assert after(server, "dictConfig", token) == expected("dictConfig", token, "ERROR")
    token = ask(server, "basicConfig_debug")
    levels = ("DEBUG", "INFO", "WARNING", "ERROR")
    assert after(server, "basicConfig_debug", token) == expected(
        "basicConfig_debug", token, *levels
    )


def test_what_the_model_filters_for_the_console_is_filtered(server: Server) -> None:
    token = ask(server, "filtered")
    info, error, printed = after(server, "filtered", token)
    assert info == f"INFO zoo.logs filtered[0]: {token} ** info"
    assert error == f"ERROR zoo.logs filtered[0]: {token} ** error"
    assert printed == f"{token} printed"


def test_handler_that_writes_to_a_file_goes_on_to(server: Server) -> None:
    token = ask(server, "basicConfig_file")
    assert server.cwd is not None
    written = (server.cwd / LOG_FILE).read_text().splitlines()
    lines = [line for line in written if token in line]
    levels = ("INFO", "WARNING", "ERROR")
    assert lines == [f"{level}:zoo.logs:{token} at {level.lower()}" for level in levels]


def test_what_is_logged_while_the_model_is_loaded_is_there_too(server: Server) -> None:
    assert re.search(f"^{TIME}INFO zoo.logs plain\\[0\\]: warmed Plain$", server.log(), re.M)


# --- the logged records -------------------------------------------------------------------------


def test_traceback_follows_its_record(server: Server) -> None:
    token = ask(server, "nothing", "traceback")
    after(server, "nothing", token)
    start = rf"^{TIME}ERROR zoo\.logs nothing\[0\]: it failed\nTraceback .*\n(  .*\n)+"
    assert re.search(rf"{start}ValueError: {token}$", server.log(), re.M)


def test_captured_warning_is_logged(server: Server) -> None:
    token = ask(server, "captureWarnings", "warning")
    (line,) = after(server, "captureWarnings", token)
    assert line.startswith("WARNING py.warnings captureWarnings[0]: ")
    assert line.endswith(f"UserWarning: {token}")


def test_warning_that_is_not_captured_is_printed(server: Server) -> None:
    token = ask(server, "nothing", "warning")
    (line,) = after(server, "nothing", token)
    assert line.endswith(f"UserWarning: {token}")
    assert "nothing[0]" not in line


def test_message_that_is_no_text_is_shown_as_the_handler_of_the_model_shows_it(
    server: Server,
) -> None:
    token = ask(server, "dictionaries", "dictionary")
    (line,) = after(server, "dictionaries", token)
    assert line == f"INFO zoo.logs dictionaries[0]: event={token} number=1"
    token = ask(server, "nothing", "dictionary")
    (line,) = after(server, "nothing", token)
    assert line == f"INFO zoo.logs nothing[0]: {{'event': '{token}', 'number': 1}}"


def test_stream_that_logs_what_is_printed_does_no_harm(server: Server) -> None:
    token = ask(server, "stdout_logged", "print")
    ask(server, "stdout_logged")  # this flushes it
    end = ask(server, "nothing", "print")
    wait_until(lambda: end in server.log(), within=LOG_SECONDS, what="what was printed")
    (line,) = lines_with(server.log(), token)
    assert line == f"INFO printed stdout_logged[0]: {token}"


def test_record_that_cannot_be_formatted_harms_nothing(server: Server) -> None:
    token = ask(server, "nothing", "bad arguments")
    lines = after(server, "nothing", token)
    assert f"Arguments: ('{token}',)" in lines  # `logging` writes this to stderr


def test_forked_child_logs_as_its_parent(server: Server) -> None:
    token = ask(server, "nothing", "fork")
    assert after(server, "nothing", token) == [f"INFO zoo.logs nothing[0]: {token}"]


def test_our_own_records_keep_their_form(server: Server) -> None:
    """They have no names before the message, however the model configures logging."""
    answer = server.predict("own_handler", params={"what": "fail"})
    assert answer.status_code == 500
    message = "predict of model own_handler failed"
    said = rf"^{TIME}ERROR deepaas.worker {message} \(request [0-9a-f-]+\)$"
    wait_until(
        lambda: re.search(said, server.log(), re.M), within=LOG_SECONDS, what="the traceback"
    )


# --- validation ---------------------------------------------------------------------------------


def test_validation_is_logged_by_the_process_that_does_it(server: Server, tmp_path: Path) -> None:
    place = Place(tmp_path)
    trainings = Trainings(server, "plain")
    uuid = trainings.begin(token="check 1", what="print")
    assert "INFO zoo.logs plain[0]: checked check 1" in after(server, "plain", "check 1")
    reloaded = f"Model plain answers with the weights of {uuid}"  # in a worker that is not busy yet
    wait_until(lambda: reloaded in server.log(), within=LOG_SECONDS, what="a reload")
    busy = {"what": "print", "token": new_token(), "gate": str(place.path / "gate")}
    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(server.predict, "plain", params=busy)
        try:
            wait_until(
                lambda: busy["token"] in server.log(), within=LOG_SECONDS, what="a busy worker"
            )
            trainings.begin(token="check 2", what="print")
            said = "INFO zoo.logs plain[validation]: checked check 2"
            assert said in lines_with(server.log(), "check 2")
        finally:
            place.open_gate()
        assert asking.result().status_code == 200


# --- the log's destination ----------------------------------------------------------------------


def test_level_is_that_of_the_server(serve: Serve) -> None:
    server = serve(KINDS, "--log-level", "WARNING")
    token = ask(server, "plain")
    assert after(server, "plain", token) == expected("plain", token, "WARNING", "ERROR")
    server = serve(KINDS, "--debug")
    token = ask(server, "plain")
    levels = ("DEBUG", "INFO", "WARNING", "ERROR")
    assert after(server, "plain", token) == expected("plain", token, *levels)


@pytest.mark.parametrize("how", ["nothing", "basicConfig"])
def test_log_file_has_what_models_log(serve: Serve, tmp_path: Path, how: str) -> None:
    path = tmp_path / "log"
    server = serve({"m": MODELS[how]}, "--log-file", str(path))
    token = ask(server, "m")
    lines = [line for line in lines_with(path.read_text(), token) if "printed" not in line]
    assert lines == expected("m", token, "INFO", "WARNING", "ERROR")[:-1]
    assert after(server, "m", token) == [f"{token} printed"]  # nothing else is on stdout


@pytest.mark.parametrize("how", ["nothing", "basicConfig"])
def test_json_has_the_names_as_fields(serve: Serve, how: str) -> None:
    server = serve({"m": MODELS[how]}, "--use-json")
    token = ask(server, "m")
    lines = [json.loads(line) for line in after(server, "m", token) if line[:1] == "{"]
    expected_names = {"name": "zoo.logs", "model": "m", "worker": "m[0]"}
    for line, level in zip(lines, ("INFO", "WARNING", "ERROR"), strict=True):
        assert expected_names.items() <= line.items()
        assert (line["levelname"], line["message"]) == (level, f"{token} at {level.lower()}")


def test_debug_page_has_what_models_log(serve: Serve) -> None:
    server = serve(KINDS, "--debug-endpoint")
    token = ask(server, "async")
    wait_until(
        lambda: (
            lines_with(server.get("/v2/debug/").text, token)
            == expected("async", token, "INFO", "WARNING", "ERROR")
        ),
        within=LOG_SECONDS,
        what="the records",
    )


def test_each_of_several_workers_has_its_name(serve: Serve) -> None:
    server = serve({"m": "zoo.logs:Plain"}, "--workers", "2")
    for number in (0, 1):
        said = f"^{TIME}INFO zoo.logs m\\[{number}\\]: warmed Plain$"
        assert len(re.findall(said, server.log(), re.M)) == 1
