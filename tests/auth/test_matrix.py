"""Every route, asked by every kind of client: allowed or refused, exactly as its `access` says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import httpx
import pytest

from deepaas.api.app import ApiSettings, App
from deepaas.api.routes import routes_of
from deepaas.http.routing import Access, Route
from deepaas.serving.pool import Pool
from tests.auth.token_files import UNKNOWN, TokenFile
from tests.conftest import Serve
from tests.serving.callers import Caller
from tests.support import Server

MODELS = ("echo", "trains")
UUID = "0" * 32
NOT_SIGNED_IN, BAD, EXPIRED, NOT_ALLOWED = (
    (401, "not_signed_in"),
    (401, "bad_token"),
    (401, "token_expired"),
    (403, "not_allowed"),
)
ALLOWED = (0, "")

SCOPED = {
    Access.READ: {"read", "predict", "train", "admin"},
    Access.PREDICT: {"predict", "admin"},
    Access.TRAIN: {"train", "admin"},
    Access.ADMIN: {"admin"},
}
"""The scopes with which a client may use a route."""

LIMITED = {Access.READ}
"""What a client that is limited to some models may do on routes that belong to no model."""

FLAGS: dict[str, list[str]] = {
    "usual": ["--admin-endpoint"],
    "closed": ["--nopublic-health", "--nopredict-endpoint", "--base-path", "/x"],
}
SETTINGS = {
    "usual": ApiSettings(admin=True, metrics=True),
    "closed": ApiSettings(public_health=False, predict=False, base_path="/x", metrics=True),
}


def routes(kind: str) -> list[Route]:
    """Return the routes of a server with these settings. They need only the names of models."""
    pools = [cast(Pool, SimpleNamespace(name=name)) for name in MODELS]
    return routes_of(App(pools, SETTINGS[kind], None))


CASES = [
    pytest.param(kind, route, id=f"{kind} {route.method} {route.path}")
    for kind in FLAGS
    for route in routes(kind)
]


@dataclass
class Site:
    """A server, and a header for each kind of client."""

    server: Server
    clients: dict[str, dict[str, str]]


class Sites:
    """Starts a server for each kind on first use, with and without the fast path."""

    def __init__(self, serve: Serve, directory: Path) -> None:
        self._serve = serve
        self._directory = directory
        self._started: dict[tuple[str, bool], Site] = {}

    def of(self, kind: str, *, fast_path: bool = True) -> Site:
        key = kind, fast_path
        if key not in self._started:
            tokens = TokenFile(self._directory / f"{kind} {fast_path}")
            flags = [*FLAGS[kind], "--fast-path" if fast_path else "--nofast-path"]
            self._started[key] = _start(self._serve, flags, tokens)
        return self._started[key]


@pytest.fixture(scope="module")
def sites(serve_all: Serve, tmp_path_factory: pytest.TempPathFactory) -> Sites:
    return Sites(serve_all, tmp_path_factory.mktemp("tokens"))


def _start(serve: Serve, flags: list[str], tokens: TokenFile) -> Site:
    clients = {
        "none": {},
        "wrong": {"Authorization": f"Bearer {UNKNOWN}"},
        "expired": tokens.add("expired", "admin", seconds=-10),
        "limited": tokens.add("limited", "admin", models=["echo"]),
        "other": tokens.add("other", "admin", models=["not served"]),
        **{scope: tokens.add(scope, scope) for scope in SCOPES},
    }
    targets = [f"zoo.{name}" for name in MODELS]
    return Site(serve({}, *flags, *tokens.flags, *targets), clients)


SCOPES = ("read", "predict", "train", "admin")
CLIENTS = ("none", "wrong", "expired", "limited", "other", *SCOPES)


def decision(route: Route, client: str) -> tuple[int, str]:
    """Return how a request must end: ALLOWED, or the status and the code of the refusal."""
    if route.access is Access.PUBLIC:
        return ALLOWED
    if client in ("none", "wrong", "expired"):
        return {"none": NOT_SIGNED_IN, "wrong": BAD, "expired": EXPIRED}[client]
    scopes = SCOPED[route.access]  # a route without a decision fails here
    if client in ("limited", "other"):
        mine = {"limited": {"echo"}, "other": {"not served"}}[client]
        is_mine = route.model in mine if route.model else route.access in LIMITED
        return ALLOWED if is_mine else NOT_ALLOWED
    return ALLOWED if client in scopes else NOT_ALLOWED


def ending(status: int, code: str, challenge: str | None) -> tuple[int, str]:
    """Return how the sign-in has decided: ALLOWED, or the status and the code of the refusal."""
    if (status, code) in (NOT_SIGNED_IN, BAD, EXPIRED, NOT_ALLOWED):
        assert (challenge or "").startswith('Bearer realm="deepaas"')
        return status, code
    assert status not in (401, 403)
    assert challenge is None
    return ALLOWED


def code_in(content_type: str | None, body: bytes) -> str:
    """Return the code of an error, or an empty text."""
    if not body or not (content_type or "").startswith("application/json"):
        return ""
    content = json.loads(body)
    return content.get("code", "") if isinstance(content, dict) else ""


def path_of(kind: str, route: Route) -> str:
    path = route.path.replace("{uuid}", UUID).replace("{path*}", "a/b").replace("{asset}", "a.js")
    return SETTINGS[kind].base_path + path


def body_of(route: Route) -> bytes:
    """Return a body. A training gets an argument that is invalid."""
    if route.path.endswith("/train/"):
        return b'{"size": "not a number"}'
    return b'{"number": 5}' if route.method == "POST" else b""


@pytest.mark.parametrize("path", ["fast", "normal", "off"])
@pytest.mark.parametrize(("kind", "route"), CASES)
def test_route_is_used_only_by_those_who_may(
    kind: str, route: Route, path: str, sites: Sites
) -> None:
    """On the fast path, all requests have the same head, and each is sent in one piece. On the
    normal path, each head is new. With "off", the server has no fast path."""
    site = sites.of(kind, fast_path=path != "off")
    for client in CLIENTS:
        expected = decision(route, client)
        with Caller(site.server) as caller:
            caller.request("GET", "/")  # then the connection is ready for the fast path
            caller.answer()
            for number in range(1 if path == "off" else 3):
                headers = {"Content-Type": "application/json", **site.clients[client]}
                if path == "normal":
                    headers["X-Number"] = str(number)
                caller.request(
                    route.method, path_of(kind, route), headers=headers, body=body_of(route)
                )
                answer = caller.answer()
                code = code_in(answer.header("Content-Type"), answer.body)
                challenge = answer.header("WWW-Authenticate")
                assert ending(answer.status, code, challenge) == expected, (client, answer)
                if route.path.endswith("echo/predict/") and kind == "usual":
                    assert (answer.status == 200) == (expected == ALLOWED)


def ending_of(answer: httpx.Response) -> tuple[int, str]:
    code = code_in(answer.headers.get("Content-Type"), answer.content)
    return ending(answer.status_code, code, answer.headers.get("WWW-Authenticate"))


def text_without_id(answer: httpx.Response) -> str:
    """Return the body of an error without the id of the request, which always differs."""
    return answer.text.replace(answer.headers["X-Request-ID"], "")


@pytest.mark.parametrize("fast_path", [True, False], ids=["on", "off"])
@pytest.mark.parametrize("kind", FLAGS)
def test_other_methods_and_unknown_paths_are_refused_alike(
    kind: str, fast_path: bool, sites: Sites
) -> None:
    """A client that has not signed in cannot find out which models exist."""
    site, base = sites.of(kind, fast_path=fast_path), SETTINGS[kind].base_path
    paths = {path_of(kind, one) for one in routes(kind) if one.access is not Access.PUBLIC}
    paths |= {f"{base}/nothing", f"{base}/v2/models/nobody", f"{base}/v2/models/nobody/ready"}
    for path in sorted(paths):
        answers = [
            site.server.request(method, path, headers={"X-Request-ID": "the-same"})
            for method in ("GET", "PUT", "POST", "DELETE", "OPTIONS")
        ]
        assert {ending_of(answer) for answer in answers} == {NOT_SIGNED_IN}
        assert len({text_without_id(answer) for answer in answers}) == 1
        assert site.server.request("HEAD", path).status_code == 401
    reader = site.clients["read"]
    assert site.server.get(f"{base}/nothing", headers=reader).status_code == 404
    assert site.server.request("OPTIONS", f"{base}/v2/models", headers=reader).status_code == 204
    assert site.server.request("PUT", f"{base}/v2/models", headers=reader).status_code == 405


def test_every_access_has_a_scope() -> None:
    assert set(SCOPED) == set(Access) - {Access.PUBLIC}
    assert {route.access for kind in FLAGS for route in routes(kind)} == set(Access)
