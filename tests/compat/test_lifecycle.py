"""How `deepaas-run` starts, logs and stops."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.conftest import Serve
from tests.support import Server, predictions, wait_until

WARMED = {"warmed": "zoo.warmed"}


def test_port_opens_when_every_model_is_warm(tmp_path: Path) -> None:
    note = tmp_path / "note"
    env = {"ZOO_SECONDS": "1", "ZOO_NOTE": str(note)}
    server = Server({"slow": "zoo.slow", "echo": "zoo.echo"}, env=env)
    server.start()
    opened = time.monotonic()
    try:
        assert note.exists(), "the port was open before the model was warm"
        assert float(note.read_text()) <= opened
        assert predictions(server.predict("slow")) == "predicted"
    finally:
        server.stop()


def test_nowarm_does_not_wait(tmp_path: Path) -> None:
    env = {"ZOO_SECONDS": "60", "ZOO_NOTE": str(tmp_path / "note")}
    with Server({"slow": "zoo.slow"}, args=["--nowarm"], env=env) as server:
        assert predictions(server.predict("slow")) == "predicted"


def test_log_goes_to_stdout(tmp_path: Path) -> None:
    errors = tmp_path / "stderr"
    with Server({"plain": "zoo.plain"}, stderr=errors) as server:
        server.predict("plain", params={"kind": "int"})
        wait_until(lambda: "/v2/models/plain/predict/" in server.log(), within=5, what="the log")
    assert errors.read_text() == ""


def test_log_holds_no_error_when_there_is_none(serve: Serve) -> None:
    server = serve({"plain": "zoo.plain", "warmed": "zoo.warmed"})
    server.predict("plain", params={"kind": "int"})
    server.get("/v2/models/")
    server.get("/nope")
    server.stop()
    assert "ERROR" not in server.log()
    assert "CRITICAL" not in server.log()
    assert "Traceback" not in server.log()


def test_log_holds_an_error_when_there_is_one(serve: Serve) -> None:
    server = serve({"raises": "zoo.raises"})
    server.predict("raises", params={"kind": "value"})
    wait_until(lambda: "ERROR" in server.log(), within=5, what="an error in the log")


@pytest.fixture(scope="module")
def echo(serve_all: Serve) -> Server:
    return serve_all({"echo": "zoo.echo"})


def test_log_tells_every_request_with_its_status(echo: Server) -> None:
    echo.get("/nope")

    def told() -> bool:
        lines = echo.log().splitlines()
        return any('"GET /nope HTTP/1.1" 404' in line for line in lines)

    wait_until(told, within=5, what="the line of the request")


def test_log_names_the_port(echo: Server) -> None:
    wait_until(lambda: f":{echo.port}" in echo.log(), within=5, what="the address in the log")


def test_process_can_be_found_by_its_name(echo: Server) -> None:
    process = psutil.Process(echo.pid)
    assert "deepaas-run" in " ".join(process.cmdline())
    assert "deepaas-run" in process.name()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_and_all_its_children(serve: Serve, number: signal.Signals) -> None:
    server = serve(WARMED)
    predictions(server.predict("warmed"))
    children = server.processes()
    os.kill(server.pid, number)
    assert server.wait_end(within=5) == 0
    _, alive = psutil.wait_procs(children, timeout=25)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


def test_prediction_that_runs_is_answered_before_the_end(serve: Serve, tmp_path: Path) -> None:
    server = serve(WARMED)
    note, gate = tmp_path / "begun", tmp_path / "gate"
    with ThreadPoolExecutor(1) as executor:
        sent = {"gate": str(gate), "note": str(note)}
        running = executor.submit(server.predict, "warmed", params=sent)
        try:
            wait_until(note.exists, within=10, what="the prediction")
            os.kill(server.pid, signal.SIGTERM)
            wait_until(lambda: not server.is_open(), within=10, what="the closed port")
        finally:
            gate.touch()
        assert running.result().status_code == 200
    assert server.wait_end(within=10) == 0


def test_port_is_free_at_once_after_the_end() -> None:
    with Server({"echo": "zoo.echo"}) as server:
        server.get("/")
        port = server.port
    with Server({"echo": "zoo.echo"}, port=port) as again:
        assert again.get("/").status_code == 200


def test_workers_end_when_the_server_is_killed(serve: Serve) -> None:
    server = serve(WARMED)
    worker = psutil.Process(predictions(server.predict("warmed"))["pid"])
    os.kill(server.pid, signal.SIGKILL)
    server.wait_end()
    _, alive = psutil.wait_procs([worker], timeout=25)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
