"""The sign-in on the fast path, where a request with a known head is not parsed again."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop
from aiohttp import web

from deepaas.auth import sign_in
from deepaas.auth.plugins import Headers
from deepaas.exceptions import CrossSiteError
from deepaas.http.middleware import FastHooks, Next
from deepaas.http.principal import Principal
from deepaas.http.request import Request
from deepaas.http.routing import Access, Route
from tests.serving.callers import Journal
from tests.serving.inside import Client, House
from tests.serving.segments import Ask, padded, predict

new_loop = uvloop.new_event_loop

LENGTH = 400
ALICE = Principal("alice", frozenset({Access.PREDICT}))


@dataclass
class Clients:
    """An Authenticator whose clients tests can change. It counts how often it is asked."""

    known: dict[str, Principal] = field(default_factory=lambda: {"Bearer alice": ALICE})
    changes: int = 0
    asked: int = 0

    async def authenticate(self, headers: Headers) -> Principal | None:
        self.asked += "Authorization" in headers
        return self.known.get(headers.get("Authorization", ""))

    def change(self, value: str, principal: Principal | None) -> None:
        self.changes += 1
        if principal is None:
            del self.known[value]
        else:
            self.known[value] = principal


class Revocable(Clients):
    def version(self) -> int:
        return self.changes


@pytest.fixture
def clients() -> Revocable:
    return Revocable()


@pytest.fixture
async def house(clients: Revocable) -> AsyncIterator[House]:
    async with House(api={"authenticator": clients}) as opened:
        yield opened
        await opened.until_nothing_is_under_way()


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the sign-in sees; a test sets its only item."""
    time_now = [time.time()]
    monkeypatch.setattr(sign_in, "time", SimpleNamespace(time=lambda: time_now[0]))
    return time_now


def call(client: str = "alice", **arguments: Any) -> Ask:
    """Return a prediction; all predictions of one client have the same head."""
    return predict("gated", "", padded(LENGTH, **arguments), f"Authorization: Bearer {client}")


async def test_client_that_may_predict_is_not_asked_for_again(
    house: House, clients: Revocable
) -> None:
    async with Client(house) as client:
        assert (await client.long(call(number=1))).predicted["number"] == 1
        for number in (2, 3):
            assert (await client.short(call(number=number))).predicted["number"] == number
    assert clients.asked == 1
    (head,) = house.http.heads.values()
    assert head.principal == ALICE


@pytest.mark.parametrize("reads", [None, ("authorization",)], ids=["all headers", "one header"])
async def test_headers_that_the_sign_in_may_read_must_be_equal(
    house: House, clients: Revocable, monkeypatch: pytest.MonkeyPatch, reads: tuple[str] | None
) -> None:
    if reads is not None:
        monkeypatch.setattr(clients, "headers", reads, raising=False)

    def forwarded(user: str) -> Ask:
        fields = ("Authorization: Bearer alice", f"X-Forwarded-User: {user}")
        return predict("gated", "", padded(LENGTH), *fields)

    async with Client(house) as client:
        await client.long(forwarded("a"))
        await client.short(forwarded("a"))
        ask = client.long if reads is None else client.short
        assert (await ask(forwarded("b"))).status == 200
    assert clients.asked == (2 if reads is None else 1)


async def test_revoked_client_is_refused(house: House, clients: Revocable) -> None:
    async with Client(house) as client:
        await client.long(call())
        await client.short(call())
        clients.change("Bearer alice", None)
        refused = await client.long(call())
        assert (refused.status, refused.code) == (401, "not_signed_in")
        clients.change("Bearer alice", ALICE)
        assert (await client.long(call())).status == 200
        assert (await client.short(call())).status == 200


async def test_client_that_loses_its_scope_is_refused(house: House, clients: Revocable) -> None:
    async with Client(house) as client:
        await client.long(call())
        await client.short(call())
        clients.change("Bearer alice", replace(ALICE, scopes=frozenset({Access.READ})))
        refused = await client.long(call())
    assert (refused.status, refused.code) == (403, "not_allowed")


async def test_client_that_is_revoked_while_it_is_asked_for_is_not_cached(
    house: House, clients: Revocable, journal: Journal
) -> None:
    """The head is cached only when the request has arrived; the client may be revoked before."""
    ask = call(number=1)
    head, body = ask.data.split(b"\r\n\r\n")
    async with Client(house) as client:
        await client.send(head + b"\r\n\r\n" + body[:10])
        await house.until(lambda: clients.asked == 1, "the sign-in")
        clients.change("Bearer alice", None)
        await client.send(body[10:])
        assert (await client.answer(ask)).status == 200
        assert (await client.long(ask)).status == 401


async def test_expired_client_is_refused(
    house: House, clients: Revocable, now: list[float]
) -> None:
    clients.known["Bearer alice"] = replace(ALICE, expires=now[0] + 100)
    async with Client(house) as client:
        await client.long(call())
        now[0] += 99
        await client.short(call())
        now[0] += 1
        refused = await client.long(call())
    assert (refused.status, refused.code) == (401, "token_expired")
    assert 'error="invalid_token"' in (refused.header("WWW-Authenticate") or "")


async def test_other_client_on_the_same_connection_has_a_head_of_its_own(
    house: House, clients: Revocable
) -> None:
    async with Client(house) as client:
        await client.long(call())
        assert (await client.long(call("mallory"))).status == 401
        assert (await client.short(call())).status == 200
        assert (await client.long(call("mallory"))).status == 401


async def test_prediction_that_has_begun_is_answered_although_its_client_expires_meanwhile(
    house: House, clients: Revocable, journal: Journal, now: list[float]
) -> None:
    """The model raises an error, which the normal path reports."""
    clients.known["Bearer alice"] = replace(ALICE, expires=now[0] + 100)
    async with Client(house) as client:
        await client.long(call())
        await client.short(call())
        await client.send(call(**journal.args(1, gate="gate", seconds=-1.0)).data)
        await house.until(lambda: journal.numbers("begin") == [1], "its begin")
        now[0] += 100
        journal.open("gate")
        failed = await client.answer()
        assert (failed.status, failed.code) == (500, "predict_failed")
        assert (await client.long(call())).status == 401


async def test_plugin_that_cannot_tell_of_changes_is_asked_for_each_request() -> None:
    clients = Clients()
    async with House(api={"authenticator": clients}) as house, Client(house) as client:
        for _ in range(3):
            assert (await client.long(call())).status == 200
        clients.change("Bearer alice", None)
        assert (await client.long(call())).status == 401
    assert clients.asked == 4


class Moody:
    """A middleware that refuses requests while `refuses`, but does not say so to the fast path."""

    refuses = False

    async def __call__(self, request: Request, route: Route, next: Next) -> web.StreamResponse:
        if self.refuses:
            raise CrossSiteError("refused")
        return await next(request)

    def fast(self, request: Request) -> FastHooks:
        return FastHooks()


async def test_reply_to_a_request_that_a_middleware_refuses_goes_to_no_other_request(
    journal: Journal,
) -> None:
    async with House() as house:
        moody = Moody()
        assert isinstance(house.app.kernel.middleware, list)
        house.app.kernel.middleware.append(moody)
        async with Client(house) as client:
            await client.long(call())
            await client.short(call())
            moody.refuses = True
            refused = await client.ask(call(seconds=-1.0))
            assert (refused.status, refused.code) == (403, "cross_site")
            moody.refuses = False
            other = predict("gated", "?number=7", b"{}")
            assert (await client.ask(other)).predicted["number"] == 7
        await house.until_nothing_is_under_way()
