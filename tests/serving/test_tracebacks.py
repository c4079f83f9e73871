"""A traceback reaches the log, even if the model has changed logging or the standard streams."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Serve, short_and_long
from tests.support import Finished, Server, run_program, wait_until
from tests.training.trainings import Trainings
from tests.zoo.reconfigures import HOWS

MODELS = {
    name.lower(): f"zoo.reconfigures:{name}"
    for name in ("Plain", "Batched", "Async", "Streamed", "AsyncStreamed")
}
OTHERS = [name for name in MODELS if name != "plain"]
hows = pytest.mark.parametrize("how", HOWS)
SOME = ["dictConfig", "shutdown", "silence all", "stdout None", "close 1 and 2", "dup2 1 and 2"]
some = pytest.mark.parametrize("how", SOME)
"""Each of these changes something different; the others are variants of them."""

mostly_long = pytest.mark.parametrize(
    "how", [how if how in SOME else pytest.param(how, marks=pytest.mark.long) for how in HOWS]
)
"""All of them, for tests in which each one needs its own processes."""

LINE = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \d+ "
_tokens = itertools.count(1)


def new_token() -> str:
    return f"token {next(_tokens)}"


def has_traceback(log: str, said: str, token: str) -> bool:
    """Return whether the log has exactly one record of the failure, with exactly one traceback."""
    ends = re.findall(rf"^zoo\.reconfigures\.FailedOnPurposeError: <{token}>$", log, re.MULTILINE)
    record = rf"^{LINE}{said}( \(request [^)]+\))?\n"
    record += rf"Traceback \(most recent call last\):\n(  .*\n)+\S*Error: <{token}>$"
    return len(ends) == 1 and re.search(record, log, re.MULTILINE) is not None


def wait_for_traceback(read: Callable[[], str], said: str, token: str) -> None:
    wait_until(lambda: has_traceback(read(), said, token), within=5, what="the traceback")


def failed(model: str) -> str:
    return f"ERROR deepaas.worker predict of model {model} failed"


def reload(server: Server, model: str) -> None:
    """Replace the model's worker, so that nothing is changed in the new one."""
    answer = server.post(f"/v2/models/{model}/reload")
    assert answer.status_code == 200, answer.text


def fail(server: Server, model: str, how: str) -> str:
    """Let the model change something and fail, and return the token in its exception."""
    token = new_token()
    answer = server.predict(model, params={"how": how, "token": token})
    assert token in answer.text
    return token


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    flags = ("--admin-endpoint", "--max-trainings", "2", "--max-jobs", "2")
    return serve_all(MODELS, *flags, "--noreload-after-train")


# --- predictions


@pytest.mark.parametrize(
    ("model", "how"),
    short_and_long(
        [*(("plain", how) for how in SOME), *((model, SOME[-1]) for model in OTHERS)],
        [
            *(("plain", how) for how in HOWS if how not in SOME),
            *itertools.product(OTHERS, SOME[:-1]),
        ],
    ),
)
def test_prediction_that_fails_is_logged(server: Server, model: str, how: str) -> None:
    reload(server, model)
    for _ in range(2):  # the second time after the first one's changes
        token = fail(server, model, how)
        wait_for_traceback(server.log, failed(model), token)


@some
def test_asynchronous_prediction_that_fails_is_logged(server: Server, how: str) -> None:
    token = new_token()
    query = {"how": how, "token": token}
    answer = server.predict("plain", params=query, headers={"Prefer": "respond-async"})
    jobs = Trainings(server, "plain", "jobs")
    uuid = answer.json()["uuid"]
    record = jobs.wait(uuid)
    assert record["status"] == "error"
    said = "ERROR deepaas.training predict of model plain failed"
    assert has_traceback(jobs.log(uuid), said, token)


# --- trainings


@mostly_long
def test_training_that_fails_is_logged(server: Server, how: str) -> None:
    token = new_token()
    trainings = Trainings(server, "plain")
    uuid = trainings.begin(how=how, token=token)
    record = trainings.wait(uuid)
    assert (record["status"], token in record["message"]) == ("error", True)
    said = "ERROR deepaas.training train of model plain failed"
    assert has_traceback(trainings.log(uuid), said, token)


# --- loading


def target(verb: str, how: str) -> str:
    return f"zoo.reconfigures:{verb}_{how.replace(' ', '_')}"


@pytest.fixture(scope="module")
def unloadable(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The output of a server whose models change something while they are loaded, and then fail."""
    models = {f"m{number}": target("failing", how) for number, how in enumerate(HOWS)}
    directory = tmp_path_factory.mktemp("unloadable")
    return run_program(directory, ["--listen-port", "0"], models=models, timeout=120)


@hows
def test_model_that_cannot_be_loaded_is_logged(unloadable: Finished, how: str) -> None:
    assert unloadable.code == 1
    name = f"m{list(HOWS).index(how)}"
    said = rf"{LINE}ERROR deepaas\.serving Model {name} cannot be imported: "
    cause = rf"\S+reconfigures\.py:\d+: FailedOnPurposeError: <failing {how}>"
    record = rf"^{said}{cause}\nTraceback \(most recent call last\):\n(  .*\n)+"
    assert len(re.findall(record, unloadable.stdout, re.MULTILINE)) == 1
    assert unloadable.stdout.count(f"<failing {how}>") == 1


@pytest.fixture(scope="module")
def loaded(serve_all: Serve) -> Server:
    """A server whose models change something while they are loaded."""
    models = {f"m{number}": target("loaded", how) for number, how in enumerate(HOWS)}
    return serve_all(models, ready_seconds=120)


@hows
def test_failure_is_logged_after_the_import_has_changed_logging(loaded: Server, how: str) -> None:
    name = f"m{list(HOWS).index(how)}"
    token = fail(loaded, name, "nothing")
    wait_for_traceback(loaded.log, failed(name), token)


# --- the log's destination


@pytest.fixture(scope="module")
def debugged(serve_all: Serve) -> Server:
    return serve_all(MODELS, "--debug-endpoint", "--admin-endpoint")


@some
def test_traceback_is_on_the_debug_page(debugged: Server, how: str) -> None:
    reload(debugged, "plain")
    token = fail(debugged, "plain", how)
    wait_for_traceback(lambda: debugged.get("/v2/debug/").text, failed("plain"), token)


@pytest.fixture(scope="module")
def log_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "log"


@pytest.fixture(scope="module")
def filed(serve_all: Serve, log_file: Path) -> Server:
    return serve_all(MODELS, "--log-file", str(log_file), "--admin-endpoint")


@some
def test_traceback_is_in_the_log_file(filed: Server, log_file: Path, how: str) -> None:
    reload(filed, "plain")
    token = fail(filed, "plain", how)
    wait_for_traceback(log_file.read_text, failed("plain"), token)


@pytest.fixture(scope="module")
def in_json(serve_all: Serve) -> Server:
    return serve_all(MODELS, "--use-json", "--admin-endpoint")


@some
def test_traceback_is_in_the_log_as_json(in_json: Server, how: str) -> None:
    reload(in_json, "plain")
    token = fail(in_json, "plain", how)

    def found() -> bool:
        lines = [json.loads(line) for line in in_json.log().splitlines() if line[:1] == "{"]
        tracebacks = [line["traceback"] for line in lines if "traceback" in line]
        return any(one.endswith(f"FailedOnPurposeError: <{token}>\n") for one in tracebacks)

    wait_until(found, within=5, what="the traceback")


# --- the order of printed and logged lines


def test_what_is_printed_before_a_failure_is_before_it_in_the_log(serve: Serve) -> None:
    server = serve(MODELS, env={"PYTHONUNBUFFERED": None})
    token = fail(server, "plain", "print")
    wait_for_traceback(server.log, failed("plain"), token)
    log = server.log()
    assert log.index("printed before it fails") < log.index(failed("plain"))
