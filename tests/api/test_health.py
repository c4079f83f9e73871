"""`/v2/health/` reports the true state at once, whatever the models do."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.serving.processes import answers, both_work, health, pids, wait_ready
from tests.support import Server, wait_until


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all({}, "zoo.dies", "zoo.hangs", "--workers", "2")


def test_live_is_200(server: Server) -> None:
    response = server.get("/v2/health/live")
    assert response.status_code == 200
    assert response.json() == {"status": "live"}


def test_ready_is_200_when_every_model_is(server: Server) -> None:
    wait_ready(server, "dies", 2)
    response = server.get("/v2/health/ready")
    assert response.status_code == 200
    content = response.json()
    assert content["status"] == "ready"
    assert set(content["models"]) == {"dies", "hangs"}
    for described in content["models"].values():
        assert described["ready"] is True
        assert described["problem"] is None
        assert len(set(described["pids"])) == 2


def test_processes_are_those_that_predict(server: Server, tmp_path: Path) -> None:
    wait_ready(server, "dies", 2)
    seen = {one["pid"] for one in both_work(server, "dies", tmp_path)}
    assert seen == set(pids(server, "dies"))


@pytest.mark.parametrize("path", ["live", "ready"])
def test_slashes_make_no_difference(server: Server, path: str) -> None:
    assert server.get(f"/v2/health/{path}").json() == server.get(f"/v2/health/{path}/").json()
    assert server.raw_request("GET", f"//v2//health//{path}").status == 200


@pytest.mark.parametrize("path", ["live", "ready"])
def test_other_methods_are_405(server: Server, path: str) -> None:
    response = server.post(f"/v2/health/{path}")
    assert response.status_code == 405
    assert response.headers["Allow"] == "GET, HEAD, OPTIONS"


def test_health_answers_at_once_while_every_worker_is_busy(server: Server, tmp_path: Path) -> None:
    wait_ready(server, "dies", 2)
    gate = tmp_path / "gate"
    notes = tmp_path / "notes"
    notes.mkdir()
    with ThreadPoolExecutor(20) as executor:
        calls = [
            executor.submit(
                server.predict,
                "dies",
                params={"gate": str(gate), "note": str(notes / str(number))},
            )
            for number in range(20)
        ]
        try:
            wait_until(lambda: len(list(notes.iterdir())) > 1, within=5, what="two calls")
            for path in ("live", "ready"):
                assert server.get(f"/v2/health/{path}").status_code == 200
            assert not any(call.done() for call in calls)
        finally:
            gate.touch()
        assert {call.result().status_code for call in calls} == {200}


def test_model_is_ready_while_one_of_its_workers_is(server: Server) -> None:
    first, second = wait_ready(server, "dies", 2)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: first not in pids(server, "dies"), within=3, what="news of the death")
    described = health(server, "dies")
    assert described["ready"] is True
    assert second in described["pids"]
    assert answers(server, "dies")["pid"]
    assert first not in wait_ready(server, "dies", 2)


def test_one_model_that_is_not_ready_makes_it_503(serve: Serve) -> None:
    server = serve({}, "zoo.echo", "zoo.warm_fails")
    response = server.get("/v2/health/ready")
    assert response.status_code == 503
    assert response.json()["status"] == "not ready"
    assert server.get("/v2/health/live").status_code == 200
    assert health(server, "echo")["ready"] is True
    assert health(server, "warm_fails")["ready"] is False


def test_base_path_moves_health(serve: Serve) -> None:
    server = serve({}, "zoo.echo", "--base-path", "/x")
    assert server.get("/x/v2/health/live").status_code == 200
    assert server.get("/x/v2/health/ready").status_code == 200
    assert server.get("/v2/health/live").status_code == 404
