"""Finding the handler for a method and a path."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from aiohttp import web

from deepaas.exceptions import MethodNotAllowedError, NotFoundError
from deepaas.http import routing
from deepaas.http.routing import Access, Handler, Route, Router


async def _root(*_: object) -> web.Response:
    raise NotImplementedError


async def _models(*_: object) -> web.Response:
    raise NotImplementedError


async def _model(*_: object) -> web.Response:
    raise NotImplementedError


async def _predict(*_: object) -> web.Response:
    raise NotImplementedError


def route(method: str, path: str, handler: Handler, arguments: Any = None) -> Route:
    return Route(method, path, handler, Access.READ, lambda _: None, arguments or {})


def found(router: Router, method: str, path: str) -> tuple[Handler, dict[str, Any]]:
    """Return a route's handler and its arguments, or raise the error of a path without one."""
    match = router.find(method, path)
    if match.route.handler not in (_root, _models, _model, _predict):
        asyncio.run(cast(Any, match.route.handler(None)))
    return match.route.handler, match.arguments


ROUTES = [
    route("GET", "/", _root),
    route("GET", "/v2/models", _models),
    route("GET", "/v2/models/{name}", _model, {"kind": "any"}),
    route("POST", "/v2/models/{name}/predict", _predict),
    route("PUT", "/v2/models/{name}/predict", _predict),
]


@pytest.fixture
def router() -> Router:
    return Router("", ROUTES)


@pytest.mark.parametrize(
    ("path", "handler", "arguments"),
    [
        ("/", _root, {}),
        ("", _root, {}),
        ("//", _root, {}),
        ("/v2/models", _models, {}),
        ("/v2/models/", _models, {}),
        ("//v2///models//", _models, {}),
        ("/v2/models/demo", _model, {"name": "demo", "kind": "any"}),
        ("/v2/models/demo/", _model, {"name": "demo", "kind": "any"}),
        ("/v2/models/a%20b", _model, {"name": "a b", "kind": "any"}),
        ("/v2/models/%C3%A4", _model, {"name": "ä", "kind": "any"}),
        ("/v2/models/a+b", _model, {"name": "a+b", "kind": "any"}),
        ("/v2/models/a%2Fb", _model, {"name": "a/b", "kind": "any"}),
        ("/v2/models/..", _model, {"name": "..", "kind": "any"}),
        ("/v2/models/%2e%2e", _model, {"name": "..", "kind": "any"}),
        ("/v2/models/..%2F..", _model, {"name": "../..", "kind": "any"}),
        ("/v2/models/%", _model, {"name": "%", "kind": "any"}),
        ("/v2/%6Dodels", _models, {}),
    ],
)
def test_path_is_found(router: Router, path: str, handler: Any, arguments: dict[str, Any]) -> None:
    assert found(router, "GET", path) == (handler, arguments)


@pytest.mark.parametrize(
    "path",
    [
        "/v2",
        "/V2/models",
        "/v2/models/demo/predict/more",
        "/v2/models/a/b/c/d",
        "/v2%2Fmodels",
        "/%2F",
        "/v2/models/../../v2/models",
        "/v2/models/{name}/train",
        "/v2 /models",
    ],
)
def test_unknown_path_is_not_found(router: Router, path: str) -> None:
    with pytest.raises(NotFoundError) as error:
        found(router, "GET", path)
    assert str(error.value) == f"There is nothing at {path}"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/", "GET, HEAD, OPTIONS"),
        ("DELETE", "/v2/models/", "GET, HEAD, OPTIONS"),
        ("GET", "/v2/models/demo/predict", "OPTIONS, POST, PUT"),
        ("post", "/v2/models/demo/predict", "OPTIONS, POST, PUT"),
    ],
)
def test_wrong_method_is_told_with_those_allowed(
    router: Router, method: str, path: str, allowed: str
) -> None:
    with pytest.raises(MethodNotAllowedError) as error:
        found(router, method, path)
    assert error.value.headers == {"Allow": allowed}
    assert str(error.value) == f"{method} is not allowed here"


@pytest.mark.parametrize("base_path", ["/x", "/x/", "x", "//x//"])
@pytest.mark.parametrize(
    ("path", "handler"), [("/x", _root), ("/x/", _root), ("/x/v2/models/", _models)]
)
def test_base_path_moves_everything(base_path: str, path: str, handler: Any) -> None:
    assert found(Router(base_path, ROUTES), "GET", path) == (handler, {})


@pytest.mark.parametrize("path", ["/", "/v2/models"])
def test_nothing_is_left_outside_of_the_base_path(path: str) -> None:
    with pytest.raises(NotFoundError):
        found(Router("/x", ROUTES), "GET", path)


def test_first_route_that_fits_wins() -> None:
    router = Router("", [route("GET", "/a", _root), route("GET", "/{name}", _model)])
    assert found(router, "GET", "/a") == (_root, {})
    assert found(router, "GET", "/b") == (_model, {"name": "b"})


def test_method_is_looked_for_in_all_routes_of_a_path() -> None:
    router = Router("", [route("GET", "/a", _root), route("POST", "/{name}", _model)])
    assert found(router, "POST", "/a") == (_model, {"name": "a"})


def test_path_is_searched_once(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    first = router.find("GET", "/v2/models/demo")
    monkeypatch.setattr(router, "_search", None)
    assert router.find("GET", "/v2/models/demo") is first


def test_cache_is_bounded(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "MAX_CACHED", 10)
    for number in range(35):
        path = f"/v2/models/{number}"
        assert router.find("GET", path)[1]["name"] == str(number)
        assert len(router._cache) <= 10


def test_what_is_not_found_is_not_cached(router: Router) -> None:
    for method, path in [("GET", "/nothing"), ("DELETE", "/"), ("OPTIONS", "/")]:
        router.find(method, path)
    assert router._cache == {}


# --- paths with a tail -----------------------------------------------------------------------

TAILS = [
    route("GET", "/runs/{uuid}/files", _models),
    route("POST", "/runs/{uuid}/files/new", _predict),
    route("GET", "/runs/{uuid}/files/{path*}", _model, {"kind": "any"}),
]


@pytest.fixture
def tails() -> Router:
    return Router("", [*ROUTES, *TAILS])


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/runs/7/files/a", ("a",)),
        ("/runs/7/files/a/b/c", ("a", "b", "c")),
        ("//runs//7/files//a///b//", ("a", "b")),
        ("/runs/7/files/a%2Fb/c", ("a/b", "c")),
        ("/runs/7/files/../../x", ("..", "..", "x")),
        ("/runs/7/files/%2e%2e/x", ("..", "x")),
        ("/runs/7/files/%C3%A4/a%20b+c%25", ("ä", "a b+c%")),
        ("/runs/7/files/%00", ("\0",)),
        ("/runs/7/files/%FFa/%C3", ("\udcffa", "\udcc3")),
        ("/runs/7/files/new", ("new",)),
    ],
)
def test_tail_takes_all_segments_that_are_left(
    tails: Router, path: str, parts: tuple[str, ...]
) -> None:
    assert found(tails, "GET", path) == (_model, {"uuid": "7", "path": parts, "kind": "any"})


def test_tail_is_of_one_segment_at_least(tails: Router) -> None:
    assert found(tails, "GET", "/runs/7/files/") == (_models, {"uuid": "7"})
    with pytest.raises(MethodNotAllowedError) as error:
        found(tails, "POST", "/runs/7/files/")
    assert error.value.headers == {"Allow": "GET, HEAD, OPTIONS"}


@pytest.mark.parametrize("path", ["/runs/7", "/runs", "/runs/7/fils/a", "/other/7/files/a"])
def test_what_does_not_lead_to_a_tail_is_not_found(tails: Router, path: str) -> None:
    with pytest.raises(NotFoundError):
        found(tails, "GET", path)


def test_fixed_path_comes_before_a_tail_and_its_method_counts(tails: Router) -> None:
    assert found(tails, "POST", "/runs/7/files/new") == (_predict, {"uuid": "7"})
    with pytest.raises(MethodNotAllowedError) as error:
        found(tails, "PUT", "/runs/7/files/new")
    assert error.value.headers == {"Allow": "GET, HEAD, OPTIONS, POST"}


def test_tail_may_follow_the_base_path() -> None:
    router = Router("/x", [route("GET", "/{path*}", _model)])
    assert found(router, "GET", "/x/a/b") == (_model, {"path": ("a", "b")})
    with pytest.raises(NotFoundError):
        found(router, "GET", "/x/")


def test_tails_leave_the_cache_to_others(tails: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "MAX_CACHED", 2)
    kept = tails.find("GET", "/v2/models/demo")
    for number in range(10):
        tails.find("GET", f"/runs/7/files/{number}")
    assert tails.find("GET", "/v2/models/demo") is kept
    assert len(tails._cache) == 1
