"""Requests that a browser sends for another site, and requests with a foreign host name."""

from __future__ import annotations

import pytest

from tests.conftest import Serve
from tests.support import HOST, Server

PATH = "/v2/models/echo/predict/"
OTHER_SITE = "a browser's request for another site is answered like any other"
FOREIGN_NAME = "a request under any name is answered"


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all({"echo": "zoo.echo"})


@pytest.mark.mended(OTHER_SITE)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.test", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.test"},
        {"Origin": "null"},
    ],
)
def test_request_for_another_site_is_403(server: Server, headers: dict[str, str]) -> None:
    assert server.post(PATH, params={"text": "a"}, headers=headers).status_code == 403


@pytest.mark.mended(FOREIGN_NAME)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_foreign_host_on_a_loopback_address_is_421(server: Server, method: str) -> None:
    assert server.request(method, PATH, headers={"Host": "evil.test"}).status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://{own}"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://{own}"},
        {"Host": "localhost"},
        {"Host": "localhost:8080", "Origin": "http://localhost:8080"},
    ],
)
def test_other_requests_are_answered(server: Server, headers: dict[str, str]) -> None:
    own = f"{HOST}:{server.port}"
    given = {name: value.format(own=own) for name, value in headers.items()}
    assert server.post(PATH, params={"text": "a"}, headers=given).status_code == 200


def test_request_for_another_site_that_changes_nothing_is_answered(server: Server) -> None:
    headers = {"Origin": "https://evil.test", "Sec-Fetch-Site": "cross-site"}
    assert server.get("/v2/models/", headers=headers).status_code == 200
