"""A real Prometheus reads the metrics of real servers, as docs/metrics.md says."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
import yaml

import deepaas
from deepaas.metrics.counts import PARTS
from tests.auth.token_files import TokenFile
from tests.conftest import Serve
from tests.metrics.reading import Metrics
from tests.support import HOST, Server, leased_port, wait_until

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "metrics.md").read_text()
DASHBOARD = json.loads((DOCS / "grafana.json").read_text())

NAME = re.compile(r"\bdeepaas_[a-z0-9_]+")
SUFFIX = re.compile(r"_(bucket|sum|count)$")


def block(heading: str) -> Any:
    """Return the content of the first block of YAML below a heading of the page."""
    _, found, rest = PAGE.partition(f"\n{heading}\n")
    assert found, heading
    return yaml.safe_load(rest.partition("```yaml\n")[2].partition("```")[0])


def expressions(part: Any) -> Iterator[str]:
    """Yield all expressions in a part of the dashboard or of the alerts."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "expr":
                yield value
            else:
                yield from expressions(value)
    elif isinstance(part, list):
        for value in part:
            yield from expressions(value)


EXPRESSIONS = [*expressions(DASHBOARD), *expressions(block("## Alerts"))]


# --- names


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all({}, "zoo.echo")


@pytest.fixture(scope="module")
def types(server: Server) -> dict[str, str]:
    return Metrics.of(server.get("/metrics").text).types


def test_page_has_each_metric_with_its_type(types: dict[str, str]) -> None:
    rows = re.findall(r"^\| `(deepaas_\w+)` \| (\w+) \|", PAGE, re.MULTILINE)
    assert len(rows) == len(dict(rows))
    assert dict(rows) == types


def test_page_has_the_labels_of_each_metric(server: Server) -> None:
    server.predict("echo", json={"text": "a"})
    rows = re.findall(r"^\| `(deepaas_\w+)` \| \w+ \| (.*?) ?\|", PAGE, re.MULTILINE)
    named = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    found = {
        SUFFIX.sub("", name): {label for label, _ in labels} - {"le"}
        for name, labels in Metrics.of(server.get("/metrics").text)
    }
    assert len(found) > 12
    assert {name: named[name] for name in found} == found


def test_names_in_expressions_are_those_of_metrics(types: dict[str, str]) -> None:
    variables = [
        one["definition"] for one in DASHBOARD["templating"]["list"] if "definition" in one
    ]
    used = {name for text in [*EXPRESSIONS, *variables] for name in NAME.findall(text)}
    known = {
        name if types[name] in ("counter", "gauge") else f"{name}{suffix}"
        for name in types
        for suffix in ("_bucket", "_sum", "_count")
    }
    assert used <= known
    on_dashboard = {
        SUFFIX.sub("", name) for text in expressions(DASHBOARD) for name in NAME.findall(text)
    }
    assert on_dashboard == set(types)


def test_labels_in_expressions_are_those_of_the_metric() -> None:
    rows = re.findall(r"^\| `(deepaas_\w+)` \| \w+ \| (.*?) ?\|", PAGE, re.MULTILINE)
    labels = {name: {*re.findall(r"`(\w+)`", text), "instance", "job"} for name, text in rows}
    for expression in EXPRESSIONS:
        for name, selector in re.findall(r"(deepaas_\w+)\{(.*?)\}", expression):
            used = set(re.findall(r"(\w+)(?:=~|!=|=)", selector))
            assert used <= labels[SUFFIX.sub("", name)], expression


def test_promtool_accepts_the_alerts(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump(block("## Alerts")))
    checked = subprocess.run(
        ["promtool", "check", "rules", str(path)], capture_output=True, text=True, timeout=60
    )
    assert checked.returncode == 0, checked.stderr
    assert "6 rules found" in checked.stdout


# --- Prometheus


@contextlib.contextmanager
def running_prometheus(directory: Path, config: Any) -> Iterator[httpx.Client]:
    """Run Prometheus with this configuration, and yield a client of its HTTP interface."""
    if shutil.which("prometheus") is None:
        pytest.skip("Prometheus is not installed (Debian package prometheus)")
    directory.mkdir()
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    with leased_port() as port, (directory / "log").open("wb") as log:
        command = [
            "prometheus",
            f"--config.file={directory}/prometheus.yml",
            f"--storage.tsdb.path={directory}/data",
            "--storage.tsdb.retention.time=1h",
            "--storage.tsdb.retention.size=64MB",
            f"--web.listen-address={HOST}:{port}",
        ]
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=directory)
        try:
            with httpx.Client(base_url=f"http://{HOST}:{port}", trust_env=False) as client:
                wait_until(lambda: _is_ready(client, process), within=30, what="Prometheus")
                yield client
        finally:
            process.terminate()
            process.wait(timeout=30)


def _is_ready(client: httpx.Client, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "Prometheus has ended"
    with contextlib.suppress(httpx.TransportError):
        return client.get("/-/ready").status_code == 200
    return False


def query(client: httpx.Client, expression: str, *labels: str) -> dict[tuple[str, ...], float]:
    """Return the values of a query by these labels. Prometheus drops labels that are empty."""
    answer = client.get("/api/v1/query", params={"query": expression}).json()
    assert answer["status"] == "success", (expression, answer)
    return {
        tuple(one["metric"].get(label, "") for label in labels): float(one["value"][1])
        for one in answer["data"]["result"]
    }


def configuration(signed_in: str, alone: str, token: Path) -> Any:
    """Return the two configurations of the page as one, with these addresses and this token."""
    (with_token,) = block("### With sign-in")["scrape_configs"]
    with_token["scheme"] = "http"
    with_token["authorization"]["credentials_file"] = str(token)
    with_token["static_configs"][0]["targets"] = [signed_in]
    (of_port,) = block("### At a port of its own")["scrape_configs"]
    of_port["job_name"] = "alone"
    of_port["static_configs"][0]["targets"] = [alone]
    return {"global": {"scrape_interval": "200ms"}, "scrape_configs": [with_token, of_port]}


def test_prometheus_has_the_values_of_the_server(serve: Serve, tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "tokens")
    authorization = tokens.add("prometheus", "read")["Authorization"]
    (tmp_path / "token").write_text(authorization.removeprefix("Bearer "))
    with leased_port() as port:
        signed_in = serve({}, "zoo.echo", *tokens.flags)
        alone = serve({}, "zoo.echo", "--metrics-port", str(port))
        for _ in range(7):
            assert alone.predict("echo", json={"text": "a"}).status_code == 200
        assert alone.get("/nowhere").status_code == 404
        config = configuration(f"{HOST}:{signed_in.port}", f"{HOST}:{port}", tmp_path / "token")
        with running_prometheus(tmp_path / "prometheus", config) as client:
            wait_until(
                lambda: query(client, "sum(up)") == {(): 2.0}, within=30, what="reads of both"
            )
            kind = ("model", "method", "status", "code")
            wait_until(
                lambda: len(query(client, 'deepaas_requests_total{job="alone"}', *kind)) == 2,
                within=30,
                what="the requests",
            )
            assert query(client, 'deepaas_requests_total{job="alone"}', *kind) == {
                ("echo", "POST", "200", ""): 7.0,
                ("", "GET", "404", "not_found"): 1.0,
            }
            one = '{model="echo", job="alone"}'
            durations = f"deepaas_request_duration_seconds_count{one}"
            assert query(client, durations, "method") == {("POST",): 7.0}
            parts = f"deepaas_prediction_part_seconds_count{one}"
            assert query(client, parts, "part") == {(name,): 7.0 for name in PARTS}
            build = query(client, 'deepaas_build_info{job="deepaas"}', "version", "aiohttp_version")
            assert build == {(deepaas.__version__, aiohttp.__version__): 1.0}
            for expression in EXPRESSIONS:
                query(client, _with_values(expression))


def _with_values(expression: str) -> str:
    """Replace the variables of Grafana."""
    for variable, value in (
        ("$__rate_interval", "1m"),
        ("$model", ".*"),
        ("$instance", ".*"),
    ):
        expression = expression.replace(variable, value)
    assert "$" not in expression
    return expression
