"""Models that are reloaded while they serve: no request fails; a failed reload changes nothing."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Serve
from tests.serving.callers import (
    WAIT_SECONDS,
    Caller,
    Journal,
    Load,
    descriptors,
    in_background,
    predicted,
    processes,
    settle,
    wait_for_descriptors,
)
from tests.serving.processes import answers, health, lives, pids, wait_gone, wait_ready
from tests.support import Server, predictions, wait_until

MODEL = """\
import os
import pathlib
import time

from webargs import fields

VERSION = {version!r}
HERE = pathlib.Path(__file__).parent


def get_metadata():
    return {{"name": "changing", "description": "version " + VERSION}}


def get_predict_args():
    return {{"{argument}": fields.Str(missing=""), "gate": fields.Str(missing="")}}


def warm():
    {warm}


def predict(**kwargs):
    if kwargs["gate"]:
        (HERE / "begun").touch()
    while kwargs["gate"] and not (HERE / kwargs["gate"]).exists():
        time.sleep(0.005)
    return [VERSION, os.getpid()]
"""


class Code:
    """The file of a model, which a test changes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "changing.py"
        directory.mkdir(parents=True, exist_ok=True)

    def write(self, version: str, *, argument: str = "text", warm: str = "pass") -> None:
        """Replace the model's file atomically with this version."""
        self.put(MODEL.format(version=version, argument=argument, warm=warm))

    def put(self, text: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(text)
        os.utime(new, ns=(self._stamp(), self._stamp()))
        new.replace(self.path)

    def _stamp(self) -> int:
        """Return a new modification time for each change, as the clock may be too coarse."""
        self._last = getattr(self, "_last", 10**18) + 10**10
        return self._last


@pytest.fixture
def code(tmp_path: Path) -> Code:
    code = Code(tmp_path / "code")
    code.write("one")
    return code


@pytest.fixture
def server(serve: Serve, code: Code) -> Server:
    return serve({}, str(code.path), "--admin-endpoint")


@pytest.fixture
def with_echo(serve: Serve, code: Code) -> Server:
    """A server with a second model, whose code never changes."""
    return serve({}, str(code.path), "zoo.echo", "--admin-endpoint")


def ask(server: Server) -> tuple[str, int]:
    """Return the version that answers, and the pid of its process."""
    version, pid = predictions(server.predict("changing"))
    return version, pid


def reload(server: Server, model: str = "changing", **kwargs: Any) -> httpx.Response:
    return server.post(f"/v2/models/{model}/reload", timeout=30, **kwargs)


def reloaded(server: Server, workers: int = 1) -> float:
    """Reload the model, and return the seconds it took."""
    response = reload(server)
    assert response.status_code == 200, response.text
    content = response.json()
    assert set(content) == {"status", "workers", "seconds"}
    assert content["status"] == "reloaded"
    assert content["workers"] == workers
    assert 0 < content["seconds"] < 30
    return float(content["seconds"])


def wait_settled(server: Server, workers: int = 1) -> None:
    """Wait until only this many workers and the guard are left."""
    wait_until(
        lambda: processes(server) == workers + 1, within=10, what="the end of all old workers"
    )


def hang_up(server: Server) -> None:
    os.kill(server.pid, signal.SIGHUP)


# --- by a request


def test_request_puts_the_new_code_in_place(server: Server, code: Code) -> None:
    _, worker = ask(server)
    code.write("two")
    assert ask(server) == ("one", worker)
    reloaded(server)
    version, new = ask(server)
    assert version == "two"
    assert pids(server, "changing") == [new] != [worker]
    wait_gone([worker])
    assert health(server, "changing") == {
        "ready": True,
        "phase": None,
        "problem": None,
        "reload_problem": None,
        "metadata_problem": None,
        "pids": [new],
    }
    assert "Model changing was reloaded in " in server.log()


def test_request_is_402_unless_that_is_switched_on(serve: Serve, code: Code) -> None:
    server = serve({}, str(code.path))
    before = ask(server)
    response = reload(server)
    assert response.status_code == 402
    assert response.json()["code"] == "endpoint_disabled"
    assert "--admin-endpoint" in response.json()["message"]
    code.write("two")
    assert ask(server) == before


def test_only_that_method_and_only_models_that_are_there(server: Server) -> None:
    response = server.get("/v2/models/changing/reload")
    assert (response.status_code, response.headers["Allow"]) == (405, "OPTIONS, POST")
    assert reload(server, "other").status_code == 404
    assert reload(server, "changing/").status_code == 200


def test_other_models_are_left_alone(with_echo: Server) -> None:
    other = pids(with_echo, "echo")
    reloaded(with_echo)
    assert pids(with_echo, "echo") == other


def test_description_is_that_of_the_new_code(server: Server, code: Code) -> None:
    def described() -> tuple[str, list[str]]:
        paths = server.get("/swagger.json").json()["paths"]
        parameters = paths["/v2/models/changing/predict/"]["post"]["parameters"]
        return (
            server.get("/v2/models/changing/").json()["description"],
            [one["name"] for one in parameters if one["name"] != "gate"],
        )

    assert described() == ("version one", ["text"])
    code.write("two", argument="words")
    reloaded(server)
    assert described() == ("version two", ["words"])
    assert server.predict("changing", params={"words": "a"}).status_code == 200
    listed = server.get("/v2/models/").json()["models"]
    assert "version two" in [one["description"] for one in listed]


def test_prediction_that_runs_is_finished_by_the_old_code(server: Server, code: Code) -> None:
    """Meanwhile, the new code answers new calls. The old process ends after its prediction."""
    _, worker = ask(server)
    with in_background(lambda: server.predict("changing", params={"gate": "open"})) as running:
        wait_until((code.directory / "begun").exists, within=5, what="the prediction")
        code.write("two")
        reloaded(server)
        version, new = ask(server)
        assert version == "two"
        assert lives(worker)
        assert not running.done()
        (code.directory / "open").touch()
        assert predictions(running.result(timeout=WAIT_SECONDS)) == ["one", worker]
    wait_gone([worker])
    assert pids(server, "changing") == [new]


def test_old_code_that_hangs_is_ended_by_its_time_limit(serve: Serve, code: Code) -> None:
    server = serve({}, str(code.path), "--admin-endpoint", "--predict-timeout", "10")
    _, worker = ask(server)
    with in_background(lambda: server.predict("changing", params={"gate": "never"})) as running:
        wait_until((code.directory / "begun").exists, within=5, what="the prediction")
        code.write("two")
        reloaded(server)
        assert lives(worker)
        response = running.result(timeout=WAIT_SECONDS)
    assert (response.status_code, response.json()["code"]) == (504, "timeout")
    wait_gone([worker])
    version, pid = ask(server)
    assert (version, [pid]) == ("two", pids(server, "changing"))


def test_calls_that_wait_go_to_the_new_code(serve: Serve, code: Code) -> None:
    server = serve({}, str(code.path), "--admin-endpoint")
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(Caller(server))
        running.predict("changing", {"gate": "open"})
        wait_until((code.directory / "begun").exists, within=5, what="the prediction")
        waiting = [stack.enter_context(Caller(server)) for _ in range(20)]
        for caller in waiting:
            caller.predict("changing", {})
        settle(server)
        code.write("two")
        reloaded(server)
        assert {predicted(caller.answer())[0] for caller in waiting} == {"two"}
        (code.directory / "open").touch()
        assert predicted(running.answer())[0] == "one"


WAIT_FOR_GATE = """\
(HERE / f"warming-{os.getpid()}").touch()
    while not (HERE / "warm").exists():
        time.sleep(0.005)
"""


def warming(code: Code) -> list[int]:
    """Return the pids of the processes that wait in warm() above."""
    return [int(path.name.split("-")[1]) for path in code.directory.glob("warming-*")]


def test_second_request_is_refused_while_the_first_is_worked_on(server: Server, code: Code) -> None:
    before = ask(server)
    code.write("two", warm=WAIT_FOR_GATE)
    with in_background(lambda: reload(server)) as first:
        wait_until(lambda: warming(code), within=10, what="the new worker")
        second = reload(server)
        assert second.status_code == 409
        assert second.json()["code"] == "reload_in_progress"
        assert "changing" in second.json()["message"]
        assert ask(server) == before
        assert server.get("/v2/health/ready").status_code == 200
        (code.directory / "warm").touch()
        assert first.result(timeout=WAIT_SECONDS).status_code == 200
    assert ask(server)[0] == "two"
    reloaded(server)
    wait_settled(server)


def test_reload_goes_on_when_who_asked_for_it_leaves(server: Server, code: Code) -> None:
    code.write("two", warm=WAIT_FOR_GATE)
    with Caller(server) as caller:
        caller.request("POST", "/v2/models/changing/reload")
        wait_until(lambda: warming(code), within=10, what="the new worker")
    settle(server)
    assert reload(server).status_code == 409
    (code.directory / "warm").touch()
    wait_until(lambda: ask(server)[0] == "two", within=10, what="the new code")


def test_stop_does_not_wait_for_a_reload(server: Server, code: Code) -> None:
    code.write("two", warm=WAIT_FOR_GATE)
    hang_up(server)
    wait_until(lambda: warming(code), within=10, what="the new worker")
    everyone = [process.pid for process in server.processes()]
    os.kill(server.pid, signal.SIGTERM)
    assert server.wait_end(within=3) == 0
    assert [pid for pid in everyone if lives(pid)] == []


# --- that fails

BROKEN = {
    "syntax": ("def predict(:\n", "SyntaxError"),
    "import": (
        "raise RuntimeError('no weights')\n",
        "RuntimeError: no weights",
    ),
    "death": ("import os\nos._exit(3)\n", "exited with code 3 while importing"),
    "arguments": (
        "def get_predict_args(): raise ValueError('none')\n",
        "ValueError: none",
    ),
    "warm": (
        "def warm(): raise RuntimeError('too cold')\n",
        "RuntimeError: too cold",
    ),
    "attribute": (
        "max_batch_size = 0\ndef predict_batch(self, batch): return batch\n",
        "max_batch_size",
    ),
}


def test_failure_keeps_the_old_code_and_says_why(server: Server, code: Code) -> None:
    before = ask(server)
    for text, reason in BROKEN.values():
        code.put(text)
        response = reload(server)
        assert response.status_code == 500
        assert response.json()["code"] == "reload_failed"
        assert reason in response.json()["message"]
        assert ask(server) == before
        described = health(server, "changing")
        assert described["ready"] is True
        assert described["problem"] is None
        assert described["pids"] == [before[1]]
        assert reason in described["reload_problem"]
        assert server.get("/v2/health/ready").status_code == 200
        assert server.get("/v2/models/changing/ready").json()["reload_problem"]
        assert reason in server.log()
        wait_settled(server)
    code.write("two")
    reloaded(server)
    assert health(server, "changing")["reload_problem"] is None
    assert ask(server)[0] == "two"


def test_warm_that_hangs_is_given_up(serve: Serve, code: Code) -> None:
    server = serve({}, str(code.path), "--admin-endpoint", "--start-timeout", "6")
    before = ask(server)
    code.write("two", warm=WAIT_FOR_GATE)
    response = reload(server)
    assert (response.status_code, response.json()["code"]) == (500, "reload_failed")
    assert "was not ready in 6 s" in response.json()["message"]
    assert "warming" in response.json()["message"]
    wait_gone(warming(code))
    assert ask(server) == before


def test_model_that_failed_at_the_start_can_be_reloaded(serve: Serve, code: Code) -> None:
    """The reload does not wait for the delay before the next start."""
    code.put("raise RuntimeError('no weights')\n")
    server = serve({}, str(code.path), "zoo.echo", "--admin-endpoint")
    wait_until(lambda: "again in 2 s" in server.log(), within=10, what="a longer wait")
    response = server.predict("changing")
    assert (response.status_code, response.json()["code"]) == (503, "model_not_ready")
    assert "no weights" in response.json()["message"]
    assert reload(server).json()["code"] == "reload_failed"
    code.write("two")
    reloaded(server)
    version, pid = ask(server)
    assert version == "two"
    assert server.get("/v2/health/ready").status_code == 200
    assert health(server, "changing")["pids"] == [pid]
    assert "/v2/models/changing/predict/" in server.get("/swagger.json").json()["paths"]
    wait_settled(server, 2)


# --- by a signal


def test_signal_reloads_every_model(with_echo: Server, code: Code) -> None:
    workers = pids(with_echo, "changing") + pids(with_echo, "echo")
    code.write("two")
    hang_up(with_echo)
    wait_until(lambda: ask(with_echo)[0] == "two", within=10, what="the new code")
    wait_gone(workers, within=10)
    assert answers(with_echo, "echo", params={"text": "a"}) == {"text": ["str", "a"]}


def test_signal_reloads_the_others_when_one_fails(with_echo: Server, code: Code) -> None:
    before = ask(with_echo)
    other = pids(with_echo, "echo")
    code.put("raise RuntimeError('no weights')\n")
    hang_up(with_echo)
    wait_gone(other, within=10)
    wait_until(
        lambda: health(with_echo, "changing")["reload_problem"], within=10, what="the reason"
    )
    assert "no weights" in health(with_echo, "changing")["reload_problem"]
    assert ask(with_echo) == before
    assert answers(with_echo, "echo", params={"text": "a"})


def test_signals_that_come_too_often_do_no_harm(server: Server, code: Code) -> None:
    code.write("two")
    for _ in range(10):
        hang_up(server)
    wait_until(lambda: ask(server)[0] == "two", within=10, what="the new code")
    wait_settled(server)


def test_signal_while_the_models_start_does_no_harm(tmp_path: Path, code: Code) -> None:
    code.write("one", warm=WAIT_FOR_GATE)
    server = Server(args=[str(code.path)]).start(wait=False)
    try:
        wait_until(lambda: warming(code), within=10, what="the worker")
        hang_up(server)
        (code.directory / "warm").touch()
        server.wait_ready()
        assert ask(server)[0] == "one"
        wait_settled(server)
        server.stop()
    finally:
        server.kill()


# --- under load


def test_no_request_fails_while_workers_are_replaced(serve: Serve, code: Code) -> None:
    """Workers are replaced one by one: there is never one too few, nor more than one too many."""
    server = serve({}, str(code.path), "--workers", "2", "--admin-endpoint")
    wait_ready(server, "changing", 2)
    before = descriptors(server)
    most: list[int] = []
    ready: list[int] = []

    def call(number: int) -> str:
        if number % 4 == 0:
            most.append(processes(server))
            ready.append(len(pids(server, "changing")))
        version, _ = ask(server)
        return version

    with Load(call).running() as load:
        for version in ("two", "three", "four"):
            load.wait_for_more(20)
            code.write(version)
            reloaded(server, 2)
            assert ask(server)[0] == version
        load.wait_for_more(20)
    assert list(dict.fromkeys(load.results)) == ["one", "two", "three", "four"]
    assert len(load.results) >= 80
    assert min(ready) == 2
    assert max(most) <= 5  # two workers, a new one, one that is ending, and the guard
    wait_settled(server, 2)
    wait_for_descriptors(server, before)
    assert "ERROR" not in server.log()


@pytest.mark.parametrize("model", ["gated_async", "gated_batch"])
def test_no_request_of_other_models_fails(serve: Serve, tmp_path: Path, model: str) -> None:
    server = serve({}, f"zoo.{model}", "--admin-endpoint")
    journal = Journal(tmp_path / "journal")

    def call(number: int) -> int:
        answer = predictions(server.predict(model, params=journal.args(number)))
        assert answer["number"] == number
        return int(answer["pid"])

    with Load(call, threads=6).running() as load:
        for _ in range(2):
            load.wait_for_more(20)
            assert reload(server, model).status_code == 200
        load.wait_for_more(20)
    assert len(set(load.results)) == 3
    begun = journal.numbers("begin")
    assert sorted(begun) == sorted(set(begun))


# --- --reload


@pytest.fixture
def watched(serve: Serve, code: Code) -> Server:
    server = serve({}, str(code.path), "--reload")
    assert ask(server)[0] == "one"
    return server


def wait_for_version(server: Server, version: str) -> None:
    wait_until(lambda: ask(server)[0] == version, within=10, what=f"version {version}")


def test_change_of_a_file_reloads_its_model(watched: Server, code: Code) -> None:
    code.write("two")
    wait_for_version(watched, "two")
    code.write("three")
    wait_for_version(watched, "three")
    assert watched.log().count("was reloaded in") == 2


def test_broken_file_changes_nothing_until_it_is_mended(watched: Server, code: Code) -> None:
    before = ask(watched)
    code.put("def predict(:\n")
    wait_until(lambda: health(watched, "changing")["reload_problem"], within=10, what="the reason")
    assert "SyntaxError" in health(watched, "changing")["reload_problem"]
    assert ask(watched) == before
    code.write("two")
    wait_for_version(watched, "two")
    assert health(watched, "changing")["reload_problem"] is None


def test_file_that_is_deleted_changes_nothing_until_it_is_back(watched: Server, code: Code) -> None:
    before = ask(watched)
    code.path.unlink()
    wait_until(lambda: health(watched, "changing")["reload_problem"], within=10, what="the reason")
    assert ask(watched) == before
    code.write("two")
    wait_for_version(watched, "two")


PACKAGE = {
    "__init__.py": "from .parts.words import WORD\n\ndef predict(**kwargs):\n    return WORD\n",
    "parts/__init__.py": "",
    "parts/words.py": "WORD = 'one'\n",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name, text in PACKAGE.items():
        path = tmp_path / "folder" / "pack" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "folder" / "pack"


def test_change_of_any_file_of_a_package_reloads_its_model(serve: Serve, package: Path) -> None:
    server = serve({}, "pack", "--reload", cwd=package.parent)
    assert predictions(server.predict("pack")) == "one"
    change(package / "parts" / "words.py", "WORD = 'two'\n", 1)
    wait_until(lambda: answers(server, "pack") == "two", within=10, what="the change")
    change(package / "parts" / "words.py", "from .more import WORD\n", 2)
    change(package / "parts" / "more.py", "WORD = 'three'\n", 3)
    wait_until(lambda: answers(server, "pack") == "three", within=10, what="the new file")
    change(package / "parts" / "more.py", "WORD = 'four'\n", 4)  # it is watched by now
    wait_until(lambda: answers(server, "pack") == "four", within=10, what="the change of it")


def change(path: Path, text: str, step: int) -> None:
    """Write a file with a different modification time for each `step`."""
    path.write_text(text)
    stamp = 10**18 + step * 10**10
    os.utime(path, ns=(stamp, stamp))


def test_other_files_and_other_models_are_left_alone(serve: Serve, code: Code) -> None:
    server = serve({}, str(code.path), "zoo.echo", "--reload")
    other = pids(server, "echo")
    (code.directory / "other.py").write_text("nothing = 1\n")
    (code.directory / "data.txt").write_text("nothing\n")
    code.write("two")
    wait_for_version(server, "two")
    assert pids(server, "echo") == other
    assert server.log().count("was reloaded in") == 1
