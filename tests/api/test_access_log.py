"""The access log: the number of bytes of a response, and when lines are written."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import httpx
import pytest

from deepaas.http.access_log import AccessLog
from deepaas.log import JSONFormatter, LineFormatter
from tests.conftest import Serve
from tests.support import Server, wait_until

PREDICT = "/v2/models/sized/predict/"
OCTETS = "accept=application/octet-stream"


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all({}, "zoo.sized", "zoo.streaming:Plain", "zoo.trains")


def client_of(server: Server) -> httpx.Client:
    return httpx.Client(base_url=server.url, trust_env=False, timeout=60)


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/v2/models/", 200),
        ("GET", "/v2/health/ready", 200),
        ("GET", "/v2/debug/", 204),
        ("GET", "/nowhere", 404),
        ("GET", PREDICT, 405),
        ("GET", "/api", 200),
        ("GET", "/static/swagger/swagger-ui.css", 200),
        ("GET", "/v2/models/trains/train/", 200),
        ("POST", "/v2/models/trains/train/", 200),
        ("POST", f"{PREDICT}?do=json&size=100", 200),
        ("POST", f"{PREDICT}?do=json&size=2000000", 200),
        ("POST", f"{PREDICT}?do=bytes&size=5120&{OCTETS}", 200),
        ("POST", f"{PREDICT}?do=file&size=5120&{OCTETS}", 200),
        ("POST", f"{PREDICT}?number=-1", 422),
        ("POST", f"{PREDICT}?do=fail", 500),
        ("POST", "/v2/models/streaming/predict/?count=3", 200),
    ],
)
def test_bytes_of_the_body_are_counted(
    server: Server, method: str, target: str, status: int
) -> None:
    before = len(server.log())
    with client_of(server) as client, client.stream(method, target) as answer:
        length = sum(map(len, answer.iter_raw()))
    assert answer.status_code == status
    wanted = f'"{method} {target} HTTP/1.1" {status} {length} '
    wait_until(lambda: wanted in server.log()[before:], within=15, what=wanted)


def test_head_that_is_known_has_the_same_count(server: Server) -> None:
    """The fast path serves the second and third request."""
    before = len(server.log())
    with client_of(server) as client:
        for number in range(3):
            body = client.post(PREDICT, json={"text": f"text {number}"}).content
    wait_until(
        lambda: server.log()[before:].count(f'{PREDICT} HTTP/1.1" 200 {len(body)} ') == 3,
        within=15,
        what="a line for each request",
    )


def test_not_modified_and_head_have_no_body(server: Server) -> None:
    path = "/static/swagger/swagger-ui.css"
    with client_of(server) as client:
        tag = client.get(path).headers["ETag"]
        assert client.get(path, headers={"If-None-Match": tag}).status_code == 304
    wanted = f'"GET {path} HTTP/1.1" 304 0 '
    wait_until(lambda: wanted in server.log(), within=15, what=wanted)


# --- one record per iteration of the event loop


@pytest.fixture
def log() -> tuple[AccessLog, list[logging.LogRecord]]:
    records: list[logging.LogRecord] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    logger = logging.Logger("deepaas.access", logging.INFO)
    logger.addHandler(Kept())
    return AccessLog(logger), records


async def test_lines_of_a_turn_are_one_record(
    log: tuple[AccessLog, list[logging.LogRecord]],
) -> None:
    access, records = log
    for line in ("first", "second"):
        access.add(line)
    assert records == []
    await asyncio.sleep(0)
    access.add("third")
    access.flush()  # as when the server stops
    await asyncio.sleep(0)
    assert [record.getMessage() for record in records] == ["first\nsecond", "third"]
    records[1].created, records[1].msecs = records[0].created, records[0].msecs
    start = LineFormatter().format(records[1]).removesuffix("third")
    assert start.endswith(" INFO deepaas.access ")
    assert LineFormatter().format(records[0]) == f"{start}first\n{start}second"
    entries = [json.loads(line) for line in JSONFormatter().format(records[0]).splitlines()]
    assert [entry.pop("message") for entry in entries] == ["first", "second"]
    assert entries[0] == entries[1]
    assert entries[0]["name"] == "deepaas.access"


def test_last_requests_are_logged_before_the_server_ends(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "log"
    server = serve({}, "zoo.sized", "--log-file", str(path))
    for _ in range(5):
        server.get("/v2/models/")
    assert server.stop() == 0
    assert path.read_text().count('"GET /v2/models/ HTTP/1.1" 200 ') == 5
