"""CORS: which pages may read the responses of this server."""

from __future__ import annotations

import pytest

from deepaas.http.cross_site import SiteRules
from tests.conftest import Serve
from tests.serving.inside import Client, House
from tests.serving.segments import predict
from tests.support import HOST, Server

MINE, OTHER = "https://mine.example", "https://other.example"
ALLOW = "Access-Control-Allow-Origin"
TIMING = "Timing-Allow-Origin"


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all({}, "zoo.sized", "--allow-origins", MINE)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/", 200),
        ("GET", "/nowhere", 404),
        ("POST", "/v2/models/sized/predict/", 200),
        ("POST", "/v2/models/sized/predict/?number=many", 422),
        ("POST", "/v2/models/sized/train/", 501),
    ],
)
def test_page_of_an_allowed_site_may_read_responses(
    server: Server, method: str, path: str, status: int
) -> None:
    answer = server.raw_request(method, path, headers={"Origin": MINE})
    assert answer.status == status
    assert answer.header(ALLOW) == MINE
    exposed = answer.header("Access-Control-Expose-Headers") or ""
    assert {"X-Request-ID", "Server-Timing"} <= set(exposed.split(", "))
    assert answer.header(TIMING) == MINE
    assert answer.header("Vary") == "Origin"


@pytest.mark.parametrize("headers", [{}, {"Origin": OTHER}, {"Origin": "null"}])
def test_page_of_another_site_may_not(server: Server, headers: dict[str, str]) -> None:
    answer = server.raw_request("GET", "/v2/models/", headers=headers)
    assert answer.status == 200
    assert answer.header(ALLOW) is None
    assert answer.header(TIMING) is None
    assert answer.header("Vary") == "Origin"


def preflight(server: Server, origin: str, wanted: str = "content-type") -> dict[str, str]:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": wanted,
    }
    answer = server.raw_request("OPTIONS", "/v2/models/sized/predict/", headers=headers)
    assert answer.status == 204
    return {name: value for name, value in answer.headers if name.startswith("Access-Control")}


def test_preflight_of_an_allowed_site(server: Server) -> None:
    allowed = preflight(server, MINE, "authorization, content-type, x-request-timeout")
    assert allowed[ALLOW] == MINE
    assert "POST" in allowed["Access-Control-Allow-Methods"].split(", ")
    wanted = "authorization, content-type, x-request-timeout"
    assert allowed["Access-Control-Allow-Headers"] == wanted
    assert allowed["Access-Control-Max-Age"] == "600"


def test_preflight_of_another_site_allows_nothing(server: Server) -> None:
    assert preflight(server, OTHER) == {}


def test_odd_header_names_are_not_repeated(server: Server) -> None:
    assert "Access-Control-Allow-Headers" not in preflight(server, MINE, "a;b")


def test_without_allowed_sites_no_response_speaks_of_them(serve: Serve) -> None:
    server = serve({}, "zoo.sized")
    answer = server.raw_request("GET", "/v2/models/", headers={"Origin": MINE})
    assert answer.header(ALLOW) is None
    assert answer.header("Vary") is None


async def test_fast_path_sends_the_same_headers() -> None:
    async with (
        House("zoo.gated", api={"sites": SiteRules.of([MINE], [], HOST, HOST)}) as house,
        Client(house) as client,
    ):
        ask = predict("gated", "", b'{"text": "a"}', f"Origin: {MINE}")
        long, short = await client.long(ask), await client.short(ask)
        assert short.header(ALLOW) == MINE
        assert sorted(long.headers) == sorted(short.headers)
