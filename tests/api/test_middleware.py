"""Middleware around the handlers, on both paths."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest
from aiohttp import web

from deepaas import api
from deepaas.exceptions import DisabledError
from deepaas.http.middleware import FastHooks, Middleware, Next
from deepaas.http.request import Request
from deepaas.http.routing import Route
from tests.serving.inside import Client, House
from tests.serving.segments import get, predict

ASK = predict("gated", "", b'{"text": "a"}')


class Noting:
    """A middleware that notes requests and responses."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    async def __call__(self, request: Request, route: Route, next: Next) -> web.StreamResponse:
        answer = await next(request)
        answer.headers["X-Noted"] = "yes"
        self.seen.append((route.path, answer.status))
        return answer


class NotingFast(Noting):
    """One that supports the fast path."""

    def __init__(self, reads: Collection[str] | None = None) -> None:
        super().__init__()
        self._reads = reads

    def fast(self, request: Request) -> FastHooks:
        def end(_: Any) -> bytes:
            self.seen.append(("fast", 200))
            return b"X-Noted: yes\r\n"

        return FastHooks(end=end, reads=self._reads)


class Refusing:
    def __init__(self, error: Exception) -> None:
        self._error = error

    async def __call__(self, request: Request, route: Route, next: Next) -> web.StreamResponse:
        if route.model:
            raise self._error
        return await next(request)


def use(monkeypatch: pytest.MonkeyPatch, *middleware: Middleware) -> None:
    """Let servers of this test have this middleware, too."""
    usual = api.middleware_of
    monkeypatch.setattr(api, "middleware_of", lambda settings: [*usual(settings), *middleware])


async def test_middleware_without_hooks_turns_the_fast_path_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noting = Noting()
    use(monkeypatch, noting)
    async with House("zoo.gated") as house, Client(house) as client:
        for _ in range(3):
            assert (await client.long(ASK)).header("X-Noted") == "yes"
    assert noting.seen[-3:] == [("/v2/models/gated/predict/", 200)] * 3


async def test_middleware_with_hooks_sees_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    noting = NotingFast()
    use(monkeypatch, noting)
    async with House("zoo.gated") as house, Client(house) as client:
        long, short = await client.long(ASK), await client.short(ASK)
        assert sorted(long.headers) == sorted(short.headers)
    assert noting.seen[-2:] == [("/v2/models/gated/predict/", 200), ("fast", 200)]


@pytest.mark.parametrize(
    ("reads", "may_differ"),
    [(None, ""), (("x-forwarded-user",), "traceparent"), ((), "traceparent X-Forwarded-User")],
    ids=["all", "one", "none"],
)
async def test_header_that_a_middleware_may_read_must_be_equal_on_the_fast_path(
    monkeypatch: pytest.MonkeyPatch, reads: Collection[str] | None, may_differ: str
) -> None:
    use(monkeypatch, NotingFast(reads))
    async with House() as house, Client(house) as client:
        for name in ("traceparent", "X-Forwarded-User"):
            await client.long(predict("gated", "", b"{}", f"{name}: a"))
            await client.short(predict("gated", "", b"{}", f"{name}: a"))
            ask = client.short if name in may_differ else client.long
            assert (await ask(predict("gated", "", b"{}", f"{name}: b"))).status == 200


async def test_middleware_sees_unknown_paths_too(monkeypatch: pytest.MonkeyPatch) -> None:
    noting = Noting()
    use(monkeypatch, noting)
    async with House("zoo.gated") as house, Client(house) as client:
        assert (await client.ask(get("/nowhere"))).status == 404
    assert noting.seen[-1] == ("/nowhere", 404)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (DisabledError("not today"), 402, "endpoint_disabled"),
        (RuntimeError("on purpose"), 500, "internal_error"),
    ],
)
async def test_outer_middleware_sees_an_error_as_a_response(
    monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, code: str
) -> None:
    noting = Noting()
    use(monkeypatch, noting, Refusing(error))
    async with House("zoo.gated") as house, Client(house) as client:
        seen = await client.ask(ASK)
        assert (seen.status, seen.code) == (status, code)
        assert seen.header("X-Noted") == "yes"
        assert seen.request_id
    assert noting.seen[-1] == ("/v2/models/gated/predict/", status)
