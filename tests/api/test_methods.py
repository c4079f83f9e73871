"""HEAD and OPTIONS, on every route of a server."""

from __future__ import annotations

import pytest

from tests.conftest import Serve
from tests.support import Server

PATHS = [
    "/",
    "/v2/",
    "/v2/models/",
    "/v2/models/sized/",
    "/v2/models/sized/ready",
    "/v2/models/trains/train/",
    "/v2/models/trains/jobs/",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/debug/",
    "/swagger.json",
    "/api",
    "/ui",
    "/static/swagger/swagger-ui.css",
    "/static/swagger/nothing",
    "/nowhere",
]


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all({}, "zoo.sized", "zoo.trains")


@pytest.mark.parametrize("path", PATHS)
def test_head_is_get_without_the_body(server: Server, path: str) -> None:
    get = server.raw_request("GET", path)
    head = server.raw_request("HEAD", path)
    assert head.status == get.status
    assert head.body == b""
    for name in ("Content-Type", "Content-Length", "Location"):
        assert head.header(name) == get.header(name), name


def test_head_of_a_log_and_of_a_file_reads_neither(server: Server) -> None:
    uuid = server.post("/v2/models/trains/train/").json()["uuid"]
    one = f"/v2/models/trains/train/{uuid}"
    answer = server.raw_request("HEAD", f"{one}/logs?follow=true")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.header("Content-Type") == "text/plain; charset=utf-8"
    assert server.raw_request("HEAD", one).status == 200
    assert server.raw_request("HEAD", f"{one}/artifacts/").status == 200


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v2/models/", "GET, HEAD, OPTIONS"),
        ("/v2/models/sized/predict/", "OPTIONS, POST"),
        ("/v2/models/trains/train/", "GET, HEAD, OPTIONS, POST"),
        ("/v2/models/trains/train/x", "DELETE, GET, HEAD, OPTIONS"),
    ],
)
def test_options_says_what_is_allowed(server: Server, path: str, allowed: str) -> None:
    answer = server.raw_request("OPTIONS", path)
    assert (answer.status, answer.header("Allow"), answer.body) == (204, allowed, b"")
    wrong = server.raw_request("PATCH", path)
    assert (wrong.status, wrong.header("Allow")) == (405, allowed)


def test_options_of_the_whole_server_is_answered(server: Server) -> None:
    assert server.raw_request("OPTIONS", "*").status == 204


def test_options_of_an_unknown_path_is_404(server: Server) -> None:
    assert server.raw_request("OPTIONS", "/nowhere").status == 404
