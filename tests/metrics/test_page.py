"""`/metrics` of real servers: its formats, who may read it, and its options."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.auth.token_files import TokenFile
from tests.conftest import Serve
from tests.metrics.reading import Metrics, is_open, read, requests_of
from tests.support import HOST, ZOO, Server, leased_port, run_program, wait_until

OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
BUCKETS = "deepaas_request_duration_seconds_bucket"


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all({}, "zoo.echo", "zoo.trains", "--metrics-buckets", "5,0.5")


def test_promtool_finds_nothing_to_criticise(server: Server) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    server.predict("echo", json={"text": "a"})
    server.get("/nowhere")
    text = server.get("/metrics").text
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_accept_chooses_the_format(server: Server) -> None:
    plain = server.get("/metrics")
    assert plain.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert plain.headers["X-Content-Type-Options"] == "nosniff"
    other = server.get("/metrics", headers=OPENMETRICS)
    assert other.headers["Content-Type"].startswith("application/openmetrics-text; version=")
    families = [one.name for one in text_string_to_metric_families(other.text)]  # type: ignore[no-untyped-call]
    assert len(families) == len(set(families))
    assert families == [name.removesuffix("_total") for name in Metrics.of(plain.text).types]


def test_head_and_options_work_as_everywhere(server: Server) -> None:
    head = server.request("HEAD", "/metrics")
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["Content-Length"]) > 1000
    options = server.request("OPTIONS", "/metrics")
    assert (options.status_code, options.headers["Allow"]) == (204, "GET, HEAD, OPTIONS")
    assert server.post("/metrics").status_code == 405


def test_buckets_are_those_of_the_option(server: Server) -> None:
    server.get("/nowhere")
    bounds = [
        dict(labels)["le"]
        for (name, labels) in read(server.port)
        if name == BUCKETS and dict(labels)["model"] == ""
    ]
    assert bounds[:3] == ["0.5", "5.0", "+Inf"]


def test_page_is_described(server: Server) -> None:
    described = server.get("/swagger.json").json()["paths"]["/metrics"]
    assert described["get"]["produces"] == ["text/plain", "application/openmetrics-text"]


def test_state_of_the_workers_is_shown(server: Server) -> None:
    metrics = read(server.port)
    assert metrics.by("deepaas_workers", "model", "state") == {
        ("echo", "ready"): 1,
        ("trains", "ready"): 1,
    }
    memory = metrics.by("deepaas_worker_resident_memory_bytes", "model", "worker")
    assert set(memory) == {("echo", "echo[0]"), ("trains", "trains[0]")}
    assert all(1_000_000 < size < 10_000_000_000 for size in memory.values())
    assert metrics.value("deepaas_server_resident_memory_bytes") > 1_000_000
    assert metrics.value("deepaas_requests_in_progress") == 1  # this one


def test_labels_are_not_what_clients_send(server: Server) -> None:
    def series() -> set[object]:
        return set(Metrics.of(server.get("/metrics").text))

    def ask(number: int) -> None:
        server.raw_request("PROPFIND", f"/path{number}")
        server.raw_request("GET", f"/path{number}?query={number}")
        server.raw_request("POST", f"/v2/models/model{number}/predict/")
        server.raw_request("GET", f"/v2/models/echo/train/{number:032}")
        server.raw_request("GET", "/", headers={"X-Request-ID": f"id{number}"})
        server.raw(b"M%d\r\n\r\n" % number)

    ask(0)
    series()
    before = series()
    for number in range(1, 20):
        ask(number)
    assert series() == before


# --- sign-in


def test_sign_in_protects_the_page(serve: Serve, tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "tokens")
    reader = tokens.add("reader", "read")
    limited = tokens.add("limited", "read", models=["echo"])
    server = serve({}, "zoo.echo", "zoo.trains", *tokens.flags)
    refused = server.get("/metrics")
    assert refused.status_code == 401
    assert refused.json()["code"] == "not_signed_in"
    for token, models in ((reader, {"", "echo", "trains"}), (limited, {"", "echo"})):
        response = server.get("/metrics", headers=token)
        assert response.status_code == 200
        seen = {dict(labels).get("model", "") for _, labels in Metrics.of(response.text)}
        assert seen == models


# --- a port of its own


def test_own_port_serves_the_metrics_without_sign_in_and_nothing_else(
    serve: Serve, tmp_path: Path
) -> None:
    tokens = TokenFile(tmp_path / "tokens")
    reader = tokens.add("reader", "read")
    with leased_port() as port:
        server = serve({}, "zoo.echo", *tokens.flags, "--metrics-port", str(port))
        assert f"Metrics are at http://{HOST}:{port}/metrics\n" in server.log()
        assert server.get("/metrics", headers=reader).status_code == 404
        assert "/metrics" not in server.get("/swagger.json").json()["paths"]
        metrics = read(port)
        assert requests_of(metrics)["", "GET", "404", "not_found"] == 1
        with httpx.Client(base_url=f"http://{HOST}:{port}", trust_env=False) as client:
            for path in ("/", "/v2/models/", "/api", "/v2/models/echo/"):
                assert client.get(path).status_code == 404
            assert client.post("/v2/models/echo/predict/").status_code == 404
            assert client.head("/metrics").status_code == 200
            assert client.options("/metrics").headers["Allow"] == "GET, HEAD, OPTIONS"
            foreign = client.get("/metrics", headers={"Host": "evil.test"})
            assert foreign.status_code == 421
        assert requests_of(read(port)) == requests_of(metrics)  # requests to it are not counted
        assert "GET /metrics HTTP" not in server.log().partition("Metrics are at")[2].replace(
            '"GET /metrics HTTP/1.1" 404', ""
        )
        assert server.stop() == 0
        assert not is_open(port)


def test_own_port_is_served_at_another_address(serve: Serve) -> None:
    with leased_port() as port:
        serve({}, "zoo.echo", "--metrics-port", str(port), "--metrics-ip", "127.0.0.2")
        assert not is_open(port)
        response = httpx.get(f"http://127.0.0.2:{port}/metrics", trust_env=False)
        assert response.status_code == 200


def test_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with leased_port() as port, socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((HOST, port))
        taken.listen()
        finished = run_program(
            tmp_path, ["--listen-port", "0", "--metrics-port", str(port), "zoo.echo"]
        )
    assert (finished.code, finished.stderr) == (
        1,
        f"deepaas-run: error: cannot listen on {HOST}, port {port}: Address already in use; "
        "take another with --metrics-port\n",
    )


def test_port_cannot_be_that_of_the_models(tmp_path: Path) -> None:
    with leased_port() as port:
        args = [f"--listen-port={port}", f"--metrics-port={port}", "zoo.echo"]
        finished = run_program(tmp_path, args)
    assert (finished.code, finished.stderr) == (
        1,
        f"deepaas-run: error: --listen-port and --metrics-port are both {port}; "
        "take another for one of them\n",
    )


# --- without metrics


def test_metrics_can_be_switched_off(serve: Serve) -> None:
    server = serve({}, "zoo.echo", "--nometrics", "--metrics-port", "9")
    assert server.get("/metrics").status_code == 404
    assert "/metrics" not in server.get("/swagger.json").json()["paths"]
    assert "--metrics-port has no effect with --nometrics" in server.log()


@pytest.fixture
def hidden(tmp_path: Path) -> dict[str, str]:
    """An environment in which prometheus-client seems not to be installed."""
    (tmp_path / "sitecustomize.py").write_text(
        "from importlib.machinery import PathFinder\n"
        "find = PathFinder.find_spec\n"
        "PathFinder.find_spec = lambda name, *args: (\n"
        "    None if name.startswith('prometheus_client') else find(name, *args))\n"
    )
    return {"PYTHONPATH": f"{tmp_path}:{ZOO.parent}"}


def test_server_runs_without_prometheus_client(serve: Serve, hidden: dict[str, str]) -> None:
    server = serve({}, "zoo.echo", env=hidden)
    assert server.predict("echo", json={"text": "a"}).status_code == 200
    assert server.get("/metrics").status_code == 404
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("option", ["--metrics", "--metrics-port"])
def test_metrics_that_are_asked_for_need_prometheus_client(
    option: str, hidden: dict[str, str], tmp_path: Path
) -> None:
    args = [option, *(["9"] if option == "--metrics-port" else []), "--listen-port=0", "zoo.echo"]
    finished = run_program(tmp_path / "home", args, env=hidden)
    assert finished.code == 1
    assert finished.stderr == (
        f"deepaas-run: error: {option} needs prometheus-client, which is not installed; "
        "install it with: pip install 'deepaas[metrics]'\n"
    )


def test_scrapes_do_not_fail_while_workers_die(serve: Serve) -> None:
    server = serve({}, "zoo.dies")
    for _ in range(3):
        server.predict("dies", params={"how": "sigkill"})
        for _ in range(5):
            assert read(server.port).value("deepaas_calls_running", model="dies") == 0
        wait_until(
            lambda: server.get("/v2/models/dies/ready").status_code == 200,
            within=30,
            what="a new worker",
        )
