"""The server never loads a model, survives any model, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from tests.conftest import Serve
from tests.serving.processes import (
    MEGABYTE,
    answers,
    health,
    killed_at_the_end,
    lives,
    pids,
    wait_gone,
)
from tests.support import Part, Server, multipart, predictions, run_program, wait_until

# --- the server's libraries


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all({}, "zoo.numpies", "zoo.echo", "zoo.raises", "zoo.dies")


def libraries(pid: int) -> set[str]:
    """Return the shared libraries that a process has loaded."""
    return {Path(region.path).name for region in psutil.Process(pid).memory_maps()}


def test_libraries_of_a_model_are_loaded_by_its_worker_alone(server: Server) -> None:
    for kind in ("array", "nan", "float16"):
        predictions(server.predict("numpies", params={"kind": kind}))
    name = next(name for name in libraries(pids(server, "numpies")[0]) if "_multiarray" in name)
    assert name not in libraries(server.pid)
    assert not [name for name in libraries(server.pid) if "blas" in name.lower()]
    assert name not in libraries(pids(server, "dies")[0])


LAUNCHER = """\
#!{python}
import json, os, sys
from deepaas.cmd.run import run
code = run(sys.argv[1:])
with open(os.environ["MODULES"], "w") as file:
    json.dump(sorted(sys.modules), file)
sys.exit(code)
"""


def test_server_imports_no_model_and_nothing_that_models_need(tmp_path: Path) -> None:
    launcher = tmp_path / "launcher"
    launcher.write_text(LAUNCHER.format(python=sys.executable))
    launcher.chmod(0o755)
    (tmp_path / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / "python").chmod(0o755)
    modules = tmp_path / "modules.json"
    targets = ["zoo.numpies", "zoo.rich", "zoo.raises", str(tmp_path / "mine.py")]
    (tmp_path / "mine.py").write_text("def predict(**kwargs):\n    return 1\n")
    env = {"MODULES": str(modules)}
    with Server(args=targets, executable=launcher, env=env) as server:
        predictions(server.predict("numpies", params={"kind": "array"}))
        assert server.predict("rich").status_code == 422
        assert server.predict("raises", params={"kind": "werkzeug"}).status_code == 400
        assert predictions(server.predict("mine")) == 1
        form = multipart(Part("required", b"a"), Part("file", b"b", "b.txt"))
        assert predictions(server.predict("rich", **form))["required"] == "a"
        for path in ("/swagger.json", "/api", "/v2/models/", "/v2/health/ready"):
            assert server.get(path).status_code == 200
    loaded = set(json.loads(modules.read_text()))
    assert "deepaas.serving.pool" in loaded
    packages = {name.partition(".")[0] for name in loaded}
    assert not packages & {"zoo", "mine", "numpy", "marshmallow", "webargs", "werkzeug"}
    assert not [name for name in loaded if name.startswith("deepaas.worker.host")]


NAMES_PACKAGES = """
import sys

def get_metadata():
    return {"name": "names packages"}

def predict():
    names = {name.partition(".")[0] for name in sys.modules}
    if "asked" not in globals():
        globals()["asked"] = True
        raise ValueError("the first time")
    return sorted(names)
"""


def test_worker_loads_werkzeug_only_if_its_model_does(tmp_path: Path) -> None:
    (tmp_path / "names.py").write_text(NAMES_PACKAGES)
    (tmp_path / "uses.py").write_text("import werkzeug.exceptions\n" + NAMES_PACKAGES)
    with Server(args=[str(tmp_path / "names.py"), str(tmp_path / "uses.py")]) as server:
        for model, loads_it in (("names", False), ("uses", True)):
            assert server.predict(model).status_code == 500
            packages = predictions(server.predict(model))
            assert "marshmallow" in packages
            assert ("werkzeug" in packages) is loads_it


def test_server_is_small(server: Server) -> None:
    for _ in range(200):
        predictions(server.predict("numpies", params={"kind": "array"}))
    assert psutil.Process(server.pid).memory_info().rss < 80 * MEGABYTE


# --- models that cannot be loaded

BAD = {
    "unloadable": ("cannot be imported", "RuntimeError: the weights are not there"),
    "exits_on_import": ("cannot be imported", "SystemExit: leaving at once"),
    "killed_on_import": ("importing", "signal 9 (SIGKILL)"),
    "args_fail": ("cannot be loaded", "ValueError: no arguments today"),
    "warm_fails": ("cannot be warmed", "RuntimeError: too cold to warm"),
    "crashes_in_warm": ("warming", "signal 11 (SIGSEGV)"),
}


@pytest.fixture(scope="module")
def crippled(serve_all: Serve) -> Server:
    return serve_all({}, "zoo.dies", *(f"zoo.{name}" for name in BAD))


@pytest.mark.parametrize("model", BAD)
def test_cause_why_a_model_fails_is_in_the_log(crippled: Server, model: str) -> None:
    phase, cause = BAD[model]
    lines = [line for line in crippled.log().splitlines() if f"Model {model} " in line]
    assert [line for line in lines if "ERROR" in line and phase in line and cause in line]


@pytest.mark.parametrize("model", BAD)
def test_cause_why_a_model_fails_is_on_the_health_page(crippled: Server, model: str) -> None:
    assert crippled.get("/v2/health/ready").status_code == 503
    phase, cause = BAD[model]
    described = health(crippled, model)
    assert described["ready"] is False
    assert phase in described["problem"]
    assert cause in described["problem"]
    assert described["pids"] == []


@pytest.mark.parametrize("model", BAD)
def test_cause_why_a_model_fails_is_in_the_list_of_models(crippled: Server, model: str) -> None:
    _, cause = BAD[model]
    listed = crippled.get("/v2/models/").json()["models"]
    problems = {one["name"]: one.get("problem") for one in listed}
    assert cause in problems[model]
    assert problems["dies"] is None
    assert cause in crippled.get(f"/v2/models/{model}/").json()["problem"]


@pytest.mark.parametrize("model", BAD)
def test_prediction_of_a_model_that_fails_is_503_with_its_cause(
    crippled: Server, model: str
) -> None:
    response = crippled.predict(model, timeout=25)
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1
    assert response.json()["code"] == "model_not_ready"
    assert BAD[model][1] in response.json()["message"]


def test_models_that_fail_harm_no_other(crippled: Server) -> None:
    assert crippled.get("/v2/health/live").status_code == 200
    first = answers(crippled, "dies")
    for model in BAD:
        crippled.predict(model)
        assert answers(crippled, "dies")["pid"] == first["pid"]
    assert health(crippled, "dies") == {
        "ready": True,
        "phase": None,
        "problem": None,
        "reload_problem": None,
        "metadata_problem": None,
        "pids": [first["pid"]],
    }


def test_model_that_fails_at_first_is_served_once_it_can_be(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text("raise RuntimeError('not yet')\n")
    server = serve({}, "zoo.echo", str(tmp_path / "late.py"))
    assert server.predict("late").status_code == 503
    (tmp_path / "late.py").write_text("def predict(**kwargs):\n    return 'in time'\n")
    wait_until(lambda: server.predict("late").status_code == 200, within=10, what="the model")
    assert predictions(server.predict("late")) == "in time"
    assert server.get("/v2/health/ready").status_code == 200
    assert "problem" not in server.get("/v2/models/late/").json()
    assert "/v2/models/late/predict/" in server.get("/swagger.json").json()["paths"]


@pytest.mark.parametrize("models", [["crashes_in_warm"], ["unloadable", "killed_on_import"]])
def test_without_any_model_the_server_ends_with_1_and_says_why(
    tmp_path: Path, models: list[str]
) -> None:
    targets = [f"zoo.{model}" for model in models]
    finished = run_program(tmp_path, ["--listen-port", "0", *targets])
    assert finished.code == 1
    for model in models:
        assert BAD[model][1] in finished.output
    assert "none of the models can be served" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert list((tmp_path / "tmp").iterdir()) == []


# --- a server that is killed


class Family:
    """The processes of a server and the directory of its uploads, to check that they disappear."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.processes = server.processes()
        self.directory = server.home / "tmp"

    def left(self) -> list[object]:
        alive: list[object] = [one for one in self.processes if lives(one.pid)]
        return alive + [path for path in self.directory.iterdir() if path.is_dir()]

    def wait_gone(self, within: float) -> None:
        wait_until(lambda: not self.left(), within=within, what="the end of all")


def in_background(call: Callable[[], object]) -> threading.Thread:
    """Make a call in a thread. Its response is not used, and its connection may break."""

    def run() -> None:
        with contextlib.suppress(httpx.HTTPError, OSError):
            call()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def hang(server: Server, note: Path, how: str) -> threading.Thread:
    """Start a prediction of zoo.hangs that hangs, and return when it has begun."""
    sent = {"how": how, "note": str(note)}
    thread = in_background(lambda: server.predict("hangs", params=sent))
    wait_until(note.exists, within=5, what="the prediction")
    return thread


def test_killed_server_leaves_nothing(serve: Serve) -> None:
    server = serve({}, "zoo.dies", "zoo.echo", "--workers", "2")
    answers(server, "dies", params={"how": "child"})
    family = Family(server)
    assert len(family.processes) >= 6  # the server, four workers, a child
    os.kill(server.pid, signal.SIGKILL)
    family.wait_gone(3)


def test_server_killed_while_a_prediction_hangs_leaves_nothing(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve({}, "zoo.hangs", "zoo.dies")
    answers(server, "dies", params={"how": "child"})
    thread = hang(server, tmp_path / "note", "sleep")
    family = Family(server)
    os.kill(server.pid, signal.SIGKILL)
    family.wait_gone(3)
    thread.join()


def test_server_killed_while_a_prediction_holds_the_gil_leaves_nothing(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve({}, "zoo.hangs")
    thread = hang(server, tmp_path / "note", "gil")
    worker = pids(server, "hangs")[0]
    family = Family(server)
    with killed_at_the_end(worker):
        os.kill(server.pid, signal.SIGKILL)
        family.wait_gone(3)
    thread.join()


@pytest.mark.parametrize("where", ["import", "warm"])
def test_server_killed_while_a_model_starts_leaves_nothing(tmp_path: Path, where: str) -> None:
    note = tmp_path / "note"
    env = {"ZOO_HANG": where, "ZOO_NOTE": str(note)}
    server = Server(args=["zoo.hangs"], env=env).start(wait=False)
    try:
        wait_until(note.exists, within=10, what="the hang")
        family = Family(server)
        os.kill(server.pid, signal.SIGKILL)
        family.wait_gone(3)
    finally:
        server.kill()


def test_server_killed_in_the_middle_of_an_upload_leaves_nothing(serve: Serve) -> None:
    server = serve({}, "zoo.sized")

    def body() -> Iterator[bytes]:
        form: bytes = multipart(Part("data", b"", "large.bin"))["content"]
        yield form[: form.index(b"\r\n\r\n") + 4]
        for _ in range(200):
            yield b"x" * MEGABYTE
            time.sleep(0.05)

    headers = multipart()["headers"]
    call = in_background(lambda: server.predict("sized", content=body(), headers=headers))
    wait_until(lambda: uploads(server), within=5, what="the upload")
    family = Family(server)
    os.kill(server.pid, signal.SIGKILL)
    family.wait_gone(3)
    call.join()


def uploads(server: Server) -> list[Path]:
    return server.uploads()


def test_every_process_but_the_workers_may_be_killed(serve: Serve) -> None:
    """The server survives the death of any helper process."""
    server = serve({}, "zoo.dies")
    workers = pids(server, "dies")
    for process in psutil.Process(server.pid).children():
        if process.pid not in workers:
            process.kill()
    for how in ("live", "_exit", "live"):
        server.predict("dies", params={"how": how})
    family = Family(server)
    os.kill(server.pid, signal.SIGTERM)
    assert server.wait_end() == 0
    assert not family.left()
    assert "Traceback" not in server.log()


# --- a server that receives a signal to stop


def connections(server: Server) -> int:
    """Count the clients' open connections to the server."""
    found = psutil.Process(server.pid).net_connections("tcp")
    return len([one for one in found if one.status == psutil.CONN_ESTABLISHED])


@pytest.mark.parametrize("how", ["sleep", "gil"])
def test_stop_ends_in_seconds_while_a_prediction_hangs(tmp_path: Path, how: str) -> None:
    """The server does not wait for a hanging prediction, and every caller gets a response."""
    server = Server(args=["zoo.hangs", "--drain-timeout", "1"]).start()
    try:
        with ThreadPoolExecutor(3) as executor:
            note = tmp_path / "note"
            sent = {"how": how, "note": str(note)}
            calls = [executor.submit(server.predict, "hangs", params=sent)]
            wait_until(note.exists, within=5, what="the prediction")
            calls += [executor.submit(server.predict, "hangs") for _ in range(2)]
            wait_until(lambda: connections(server) == 3, within=5, what="all connections")
            assert server.get("/").status_code == 200
            family = Family(server)
            os.kill(server.pid, signal.SIGTERM)
            assert server.wait_end() == 0
            responses = [call.result(timeout=25) for call in calls]
        assert not family.left()
        assert [one.status_code for one in responses] == [503, 503, 503]
        assert {one.json()["code"] for one in responses} == {"server_stopping"}
    finally:
        server.kill()


@pytest.mark.parametrize("where", ["import", "warm"])
def test_stop_does_not_wait_for_a_model_that_starts(tmp_path: Path, where: str) -> None:
    note = tmp_path / "note"
    env = {"ZOO_HANG": where, "ZOO_NOTE": str(note)}
    server = Server(args=["zoo.hangs", "--stop-timeout", "3600"], env=env).start(wait=False)
    try:
        wait_until(note.exists, within=10, what="the hang")
        family = Family(server)
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait_end() == 0
        assert not family.left()
    finally:
        server.kill()


def test_stop_ends_while_workers_keep_dying(serve: Serve) -> None:
    server = serve(
        {}, "zoo.echo", "zoo.unloadable", "zoo.killed_on_import", "--stop-timeout", "3600"
    )
    family = Family(server)
    os.kill(server.pid, signal.SIGTERM)
    assert server.wait_end() == 0
    assert not family.left()


def test_stop_ends_while_a_client_holds_a_connection(serve: Serve) -> None:
    server = serve({}, "zoo.echo", "--drain-timeout", "3600")
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        assert client.get("/").status_code == 200
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait_end() == 0


def test_signals_that_follow_the_first_do_no_harm(serve: Serve, tmp_path: Path) -> None:
    """The second signal ends the server at once; even then it leaves nothing."""
    server = serve({}, "zoo.hangs")
    thread = hang(server, tmp_path / "note", "sleep")
    family = Family(server)
    for _ in range(3):
        with contextlib.suppress(ProcessLookupError):
            os.kill(server.pid, signal.SIGTERM)
        time.sleep(0.05)
    assert server.wait_end() == 128 + signal.SIGTERM
    assert not family.left()
    thread.join()


def test_worker_that_is_stopped_by_a_signal_does_not_hold_up_the_end(serve: Serve) -> None:
    server = serve({}, "zoo.dies", "--stop-timeout", "1")
    worker = pids(server, "dies")[0]
    os.kill(worker, signal.SIGSTOP)
    os.kill(server.pid, signal.SIGTERM)
    assert server.wait_end() == 0
    wait_gone([worker])
