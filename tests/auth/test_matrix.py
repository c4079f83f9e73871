"""Every route, asked by every kind of client: allowed or refused, exactly as its `access` says."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from deepaas.api.app import ApiSettings, App
from deepaas.api.routes import routes_of
from deepaas.http.routing import Access, Route
from deepaas.serving.pool import Pool
from tests.auth.token_files import UNKNOWN, TokenFile
from tests.conftest import Serve
from tests.support import ANSWER_SECONDS, Server

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
    "usual": ApiSettings(admin=True),
    "closed": ApiSettings(public_health=False, predict=False, base_path="/x"),
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


@pytest.fixture(scope="module")
def sites(serve_all: Serve, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Site]:
    started: dict[str, Site] = {}

    class Sites(dict[str, Site]):
        def __missing__(self, kind: str) -> Site:
            tokens = TokenFile(tmp_path_factory.mktemp(kind) / "tokens")
            clients = {
                "none": {},
                "wrong": {"Authorization": f"Bearer {UNKNOWN}"},
                "expired": tokens.add("expired", "admin", seconds=-10),
                "limited": tokens.add("limited", "admin", models=["echo"]),
                "other": tokens.add("other", "admin", models=["not served"]),
            }
            clients |= {scope: tokens.add(scope, scope) for scope in SCOPED_NAMES}
            targets = [f"zoo.{name}" for name in MODELS]
            started[kind] = self[kind] = Site(
                serve_all({}, *FLAGS[kind], *tokens.flags, *targets), clients
            )
            return self[kind]

    return Sites()


SCOPED_NAMES = ("read", "predict", "train", "admin")
CLIENTS = ("none", "wrong", "expired", "limited", "other", *SCOPED_NAMES)


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


def ending(response: httpx.Response) -> tuple[int, str]:
    """Return how the sign-in has decided: ALLOWED, or the status and the code of the refusal."""
    code = ""
    if response.headers.get("Content-Type", "").startswith("application/json") and response.content:
        body = response.json()
        code = body.get("code", "") if isinstance(body, dict) else ""
    if (response.status_code, code) in (NOT_SIGNED_IN, BAD, EXPIRED, NOT_ALLOWED):
        assert response.headers["WWW-Authenticate"].startswith('Bearer realm="deepaas"')
        return response.status_code, code
    assert response.status_code not in (401, 403), response.text
    assert "WWW-Authenticate" not in response.headers
    return ALLOWED


def path_of(kind: str, route: Route) -> str:
    path = route.path.replace("{uuid}", UUID).replace("{path*}", "a/b").replace("{asset}", "a.js")
    return SETTINGS[kind].base_path + path


def body_of(route: Route) -> dict[str, Any]:
    """Return a body with a length. A training gets an argument that is invalid."""
    if route.path.endswith("/train/"):
        return {"json": {"size": "not a number"}}
    return {"json": {"number": 5}} if route.method == "POST" else {}


@pytest.mark.parametrize(("kind", "route"), CASES)
def test_route_is_used_only_by_those_who_may(
    kind: str, route: Route, sites: dict[str, Site]
) -> None:
    """The second and the third request have the head of the first: a prediction of these takes the
    fast path."""
    site = sites[kind]
    for client in CLIENTS:
        with httpx.Client(
            base_url=site.server.url,
            timeout=ANSWER_SECONDS,
            trust_env=False,
            headers=site.clients[client],
        ) as session:
            for _ in range(3):
                answer = session.request(route.method, path_of(kind, route), **body_of(route))
                assert ending(answer) == decision(route, client), (client, answer.text)
                if route.path.endswith("echo/predict/") and route.method == "POST":
                    is_allowed = decision(route, client) == ALLOWED and kind == "usual"
                    assert (answer.status_code == 200) == is_allowed


@pytest.mark.parametrize("kind", FLAGS)
def test_other_methods_and_unknown_paths_are_refused_alike(
    kind: str, sites: dict[str, Site]
) -> None:
    """A client that has not signed in cannot find out which models exist."""
    site, base = sites[kind], SETTINGS[kind].base_path
    paths = {path_of(kind, one) for one in routes(kind) if one.access is not Access.PUBLIC}
    paths |= {f"{base}/nothing", f"{base}/v2/models/nobody", f"{base}/v2/models/nobody/ready"}
    for path in sorted(paths):
        answers = [
            site.server.request(method, path)
            for method in ("GET", "PUT", "POST", "DELETE", "OPTIONS")
        ]
        assert {ending(answer) for answer in answers} == {NOT_SIGNED_IN}
        assert len({answer.text for answer in answers}) == 1
        assert site.server.request("HEAD", path).status_code == 401
    reader = site.clients["read"]
    assert site.server.get(f"{base}/nothing", headers=reader).status_code == 404
    assert site.server.request("OPTIONS", f"{base}/v2/models", headers=reader).status_code == 204
    assert site.server.request("PUT", f"{base}/v2/models", headers=reader).status_code == 405


def test_every_access_has_a_scope() -> None:
    assert set(SCOPED) == set(Access) - {Access.PUBLIC}
    assert {route.access for kind in FLAGS for route in routes(kind)} == set(Access)
