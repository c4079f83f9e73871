"""The responses of `/v2/health/` in each state of a model: starting, dead, waiting, draining."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.serving.callers import Caller, Journal, in_background, predicted
from tests.serving.processes import answers, health, pids, wait_gone, wait_ready
from tests.support import Server, predictions, wait_until

# The model's warm() waits while a file named cold exists beside it. A call can make it die.
MODEL = """\
import os
import pathlib
import time

from webargs import fields

HERE = pathlib.Path(__file__).parent


def warm():
    (HERE / "warming").touch()
    while (HERE / "cold").exists():
        time.sleep(0.005)


def get_predict_args():
    return {"die": fields.Bool(missing=False)}


def predict(**kwargs):
    if kwargs["die"]:
        os._exit(3)
    return os.getpid()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "mortal.py").write_text(MODEL)
    return folder


def state(server: Server) -> dict[str, Any]:
    """Return the state of the model `mortal`, and check that all endpoints agree."""
    assert server.get("/v2/health/live").status_code == 200
    assert server.get("/v2/health/live").json() == {"status": "live"}
    everyone = server.get("/v2/health/ready")
    one = server.get("/v2/models/mortal/ready")
    described: dict[str, Any] = one.json()
    assert described == {"name": "mortal", **everyone.json()["models"]["mortal"]}
    problems = {"problem", "reload_problem", "metadata_problem"}
    assert set(described) == {"name", "ready", "phase", "pids"} | problems
    assert one.status_code == (200 if described["ready"] else 503)
    assert everyone.status_code == one.status_code
    assert everyone.json()["status"] == ("ready" if described["ready"] else "not ready")
    for response in (one, everyone):
        assert (int(response.headers.get("Retry-After", 0)) >= 1) is not described["ready"]
    return described


def die(server: Server) -> None:
    response = server.predict("mortal", params={"die": True})
    assert response.json()["code"] == "worker_died"


def test_ready_model_has_a_page_of_its_own(serve: Serve, folder: Path) -> None:
    server = serve({}, str(folder / "mortal.py"), "zoo.echo", "--workers", "2")
    described = state(server)
    assert described["ready"] is True
    assert described["problem"] is None
    assert described["reload_problem"] is None
    assert len(set(described["pids"])) == 2
    assert server.get("/v2/models/echo/ready").json()["pids"] == pids(server, "echo")


def test_path_is_one_of_those_of_the_model(serve: Serve, folder: Path) -> None:
    server = serve({}, str(folder / "mortal.py"))
    for path in ("/v2/models/mortal/ready/", "//v2//models/mortal/ready"):
        assert server.raw_request("GET", path).status == 200
    response = server.post("/v2/models/mortal/ready")
    assert (response.status_code, response.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
    assert server.get("/v2/models/other/ready").status_code == 404


def test_port_is_closed_until_the_models_are_ready(folder: Path) -> None:
    (folder / "cold").touch()
    server = Server(args=[str(folder / "mortal.py"), "zoo.echo"]).start(wait=False)
    try:
        wait_until((folder / "warming").exists, within=10, what="the start")
        assert not server.is_open()
        assert server.exit_code() is None
        (folder / "cold").unlink()
        server.wait_ready()
        assert state(server)["ready"] is True
        server.stop()
    finally:
        server.kill()


def test_dead_worker_makes_a_model_unready_until_the_next_is_warm(
    serve: Serve, folder: Path
) -> None:
    """Calls that arrive in the meantime wait for the next worker."""
    server = serve({}, str(folder / "mortal.py"))
    worker = pids(server, "mortal")[0]
    (folder / "cold").touch()
    die(server)
    described = state(server)
    assert (described["ready"], described["pids"]) == (False, [])
    assert "exited with code 3" in described["problem"]
    with in_background(lambda: server.predict("mortal")) as waiting:
        assert state(server)["ready"] is False
        assert "exited with code 3" in server.get("/v2/models/mortal/").json()["problem"]
        (folder / "cold").unlink()
        new = predictions(waiting.result(timeout=25))
    assert new != worker
    described = state(server)
    assert described == {
        "name": "mortal",
        "ready": True,
        "phase": None,
        "problem": None,
        "reload_problem": None,
        "metadata_problem": None,
        "pids": [new],
    }


def test_model_is_ready_while_one_of_its_workers_is(serve: Serve, folder: Path) -> None:
    server = serve({}, str(folder / "mortal.py"), "--workers", "2")
    first, second = wait_ready(server, "mortal", 2)
    (folder / "cold").touch()
    os.kill(first, signal.SIGKILL)
    wait_gone([first])
    wait_until(lambda: pids(server, "mortal") == [second], within=5, what="news of the death")
    assert state(server)["ready"] is True
    assert answers(server, "mortal") == second
    (folder / "cold").unlink()
    assert second in wait_ready(server, "mortal", 2)


def test_model_that_keeps_dying_is_not_ready_and_refuses_with_the_reason(
    serve: Serve, folder: Path
) -> None:
    server = serve({}, str(folder / "mortal.py"), "zoo.echo")
    for _ in range(3):
        wait_ready(server, "mortal")
        die(server)
    described = state(server)  # it is started again in a second
    assert (described["ready"], described["pids"]) == (False, [])
    assert "exited with code 3" in described["problem"]
    response = server.predict("mortal")
    assert response.status_code == 503
    assert response.json()["code"] == "model_not_ready"
    assert "exited with code 3" in response.json()["message"]
    assert 1 <= int(response.headers["Retry-After"]) <= 2
    assert server.get("/v2/models/echo/ready").status_code == 200
    wait_ready(server, "mortal")
    assert answers(server, "mortal")
    assert state(server)["ready"] is True


def test_answer_in_between_ends_the_row_of_deaths(serve: Serve, folder: Path) -> None:
    server = serve({}, str(folder / "mortal.py"))
    for _ in range(4):
        die(server)
        assert answers(server, "mortal")  # waits for the next worker, which is started at once
    assert "is started again in" not in server.log()


def test_calls_that_wait_are_refused_when_the_model_cannot_be_started_again(
    serve: Serve, folder: Path
) -> None:
    server = serve({}, str(folder / "mortal.py"))
    (folder / "cold").touch()
    (folder / "warming").unlink()
    die(server)
    with in_background(lambda: server.predict("mortal")) as waiting:
        wait_until((folder / "warming").exists, within=10, what="the next worker")
        (folder / "mortal.py").write_text("raise RuntimeError('the weights have gone')\n")
        assert not waiting.done()
        os.kill(first_child(server), signal.SIGKILL)
        response = waiting.result(timeout=25)
    assert (response.status_code, response.json()["code"]) == (503, "model_not_ready")
    assert int(response.headers["Retry-After"]) >= 1
    described = state(server)
    assert described["ready"] is False
    assert described["problem"]


def first_child(server: Server) -> int:
    """Return the pid of the only worker, which need not be ready."""
    workers = [one.pid for one in server.processes() if "mortal[0]" in " ".join(one.cmdline())]
    assert len(workers) == 1
    return workers[0]


def test_model_that_failed_at_the_start_is_not_ready(serve: Serve) -> None:
    server = serve({}, "zoo.echo", "zoo.warm_fails")
    response = server.get("/v2/models/warm_fails/ready")
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1
    assert "too cold to warm" in response.json()["problem"]
    assert response.json() == {"name": "warm_fails", **health(server, "warm_fails")}
    assert server.get("/v2/models/echo/ready").status_code == 200


def test_busy_model_is_ready(serve: Serve, tmp_path: Path) -> None:
    server = serve({}, "zoo.gated", "--queue-size", "0")
    journal = Journal(tmp_path / "journal")
    with Caller(server) as caller:
        caller.predict("gated", journal.args(1, gate="gate"))
        journal.wait_for("begin", 1)
        assert server.predict("gated").status_code == 503
        assert server.get("/v2/models/gated/ready").status_code == 200
        assert server.get("/v2/health/ready").status_code == 200
        journal.open("gate")
        assert predicted(caller.answer())["number"] == 1
