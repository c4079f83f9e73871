"""Headers that every response has, and versions, which no response has."""

from __future__ import annotations

import re

import pytest

from tests.conftest import Serve
from tests.serving.segments import Line, get, padded, predict
from tests.support import Server, wait_until

BYTES = "application/octet-stream"
VERSION = re.compile(r"Python|aiohttp|\d+\.\d+")


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    models = ["zoo.sized", "zoo.trains", "zoo.streaming:Plain", "zoo.sends_headers"]
    return serve_all({}, *models, "--client-max-size", "1000")


def check(headers: list[tuple[str, str]]) -> None:
    """Check that each header is there once, and that no other header has a version."""
    values = [value for name, value in headers if name.lower() == "x-content-type-options"]
    assert values == ["nosniff"]
    assert [value for name, value in headers if name.lower() == "server"] == ["deepaas"]
    with_digits = ("date", "etag", "server-timing")
    others = [value for name, value in headers if name.lower() not in with_digits]
    assert not [value for value in others if VERSION.search(value)]


def checked(server: Server, method: str, target: str, **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = server.raw_request(method, target, headers=named)
    check(answer.headers)
    return answer.status


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/v2", 200),
        ("GET", "/v2/models/", 200),
        ("GET", "/v2/models/sized/", 200),
        ("GET", "/v2/models/sized/ready", 200),
        ("GET", "/v2/health/live", 200),
        ("GET", "/v2/health/ready", 200),
        ("GET", "/v2/debug/", 204),
        ("GET", "/swagger.json", 200),
        ("GET", "/ui", 302),
        ("GET", "/api", 200),
        ("GET", "/static/swagger/swagger-ui.css", 200),
        ("GET", "/static/swagger/nothing", 404),
        ("POST", "/v2/models/sized/predict/", 200),
        ("POST", "/v2/models/sized/predict/?do=truncate", 500),
        ("POST", "/v2/models/sized/predict/?number=many", 422),
        (
            "POST",
            "/v2/models/sized/predict/?do=file&size=5000&accept=application/octet-stream",
            200,
        ),
        ("POST", "/v2/models/sized/predict/?do=json&size=2000000", 200),
        ("POST", "/v2/models/streaming/predict/?count=2", 200),
        ("POST", "/v2/models/sends_headers/predict/", 400),
        ("POST", "/v2/models/sends_headers/predict/?status=302", 302),
        ("POST", "/v2/models/sends_headers/predict/?name=Server&value=mine", 400),
        ("POST", "/v2/models/sends_headers/predict/?name=X-Content-Type-Options&value=x", 400),
        ("POST", "/v2/models/sized/reload/", 402),
        ("POST", "/v2/models/sized/train/", 501),
        ("GET", "/v2/models/trains/train/", 200),
        ("GET", "/v2/models/trains/train/0123456789abcdef0123456789abcdef", 404),
        ("GET", "/v2/models/sized/predict/", 405),
        ("HEAD", "/v2/models/", 200),
        ("OPTIONS", "/", 204),
        ("GET", "/nowhere", 404),
    ],
)
def test_every_answer_has_the_headers(server: Server, method: str, path: str, status: int) -> None:
    assert checked(server, method, path) == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.test"}, 403),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, 400),
        ({"X-Request-Timeout": "soon"}, 400),
        ({"Expect": "else"}, 200),
    ],
)
def test_refusal_has_the_headers(server: Server, headers: dict[str, str], status: int) -> None:
    answer = server.raw_request("POST", "/v2/models/sized/predict/", headers=headers, body=b"{}")
    check(answer.headers)
    assert answer.status == status


def test_refusals_of_a_whole_request_have_the_headers(server: Server) -> None:
    answer = server.raw_request("POST", "/v2/models/sized/predict/", body=b" " * 1001)
    assert answer.status == 413
    check(answer.headers)
    answer = server.raw(b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n")
    assert answer.status == 421
    check(answer.headers)


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Range": "bytes=0-9"}, 206), ({"Range": "bytes=99999999-"}, 416), ({}, 304)],
)
def test_asset_has_the_headers(server: Server, headers: dict[str, str], status: int) -> None:
    path = "/static/swagger/swagger-ui.css"
    if status == 304:
        headers = {"If-None-Match": server.get(path).headers["ETag"]}
    assert checked(server, "GET", path, **headers) == status


def test_training_and_what_it_leaves_have_the_headers(server: Server) -> None:
    path = "/v2/models/trains/train/"
    record = f"{path}{server.post(path, params={'do': 'write', 'text': 'a.html'}).json()['uuid']}"
    wait_until(
        lambda: server.get(record).json()["status"] in ("done", "error"), within=30, what="its end"
    )
    links = [artifact["href"] for artifact in server.get(record).json()["artifacts"]]
    assert links
    for target in (record, f"{record}/logs", f"{record}/logs?follow=true", f"{record}/artifacts"):
        assert checked(server, "GET", target) == 200
    assert checked(server, "GET", links[0]) == 200
    assert checked(server, "DELETE", record) == 200


def test_asynchronous_prediction_has_the_headers(server: Server) -> None:
    answer = server.raw_request(
        "POST", "/v2/models/trains/predict/", headers={"Prefer": "respond-async"}
    )
    check(answer.headers)
    url = answer.header("Location") or ""
    wait_until(lambda: server.get(url).json()["status"] == "done", within=30, what="its end")
    assert checked(server, "GET", f"{url}/result") == 200


@pytest.mark.parametrize(
    "data",
    [
        b"no request\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=["line", "length", "chunk", "long"],
)
def test_answer_to_what_is_no_request_has_the_headers(server: Server, data: bytes) -> None:
    answer = server.raw(data)
    assert answer.status in (400, 404, 405, 431)
    check(answer.headers)


async def test_answers_on_the_short_way_have_the_headers(server: Server) -> None:
    async with Line(server.port) as line:
        for _ in range(3):
            seen = await line.ask(predict("sized", "", padded(40, text="a")))
            assert seen.status == 200
            check(list(seen.headers))
        check(list((await line.ask(get("/v2/health/live"))).headers))


@pytest.mark.parametrize("base", ["", "/x"])
def test_page_has_a_policy_and_refuses_frames(serve: Serve, base: str) -> None:
    """test_browser.py tests their effect in a browser."""
    headers = serve({}, "zoo.echo", "--base-path", base).get(f"{base}/api").headers
    assert headers["X-Frame-Options"] == "DENY"
    policy = dict(
        part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert not [value for value in policy.values() if "unsafe" in value or "*" in value]
