"""Trace headers: a model gets those of its request, on both paths."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.conftest import Serve
from tests.serving.inside import Client, House
from tests.serving.segments import Ask, predict
from tests.support import Server

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE = {"traceparent": PARENT, "tracestate": "a=1,b=2", "baggage": "user=alice;x, y=2"}
SOME = {"tracestate": "only=1"}


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all({kind: f"zoo.knows_request:Tracing{kind}" for kind in ("Batch", "Async")})


@pytest.fixture(scope="module")
async def house() -> AsyncIterator[House]:
    async with House("zoo.knows_request:Tracing") as opened:
        yield opened


def ask(house: House, headers: dict[str, str]) -> Ask:
    lines = [f"{name}: {value}" for name, value in headers.items()]
    return predict(house.pool.name, "", b"{}", *lines)


@pytest.mark.parametrize("kind", ["Batch", "Async"])
@pytest.mark.parametrize("headers", [TRACE, SOME, {}], ids=["all", "one", "none"])
def test_model_gets_the_trace_headers(server: Server, kind: str, headers: dict[str, str]) -> None:
    for _ in range(3):  # the first on the normal path, the others on the fast path
        answer = server.post(f"/v2/models/{kind}/predict/", headers=headers)
        assert answer.json()["predictions"] == headers


async def test_fast_path_gives_the_values_of_each_request(house: House) -> None:
    async with Client(house) as client:
        assert (await client.long(ask(house, TRACE))).predicted["trace"] == TRACE
        other: dict[str, Any] = {**TRACE, "traceparent": "another"}
        for headers in (other, TRACE, other):
            assert (await client.short(ask(house, headers))).predicted["trace"] == headers
        assert (await client.long(ask(house, SOME))).predicted["trace"] == SOME
        assert (await client.short(ask(house, SOME))).predicted["trace"] == SOME


async def test_header_that_is_an_argument_of_the_model_has_its_own_value(house: House) -> None:
    """Its value is a part of what is asked, so a new value takes the normal path."""
    async with Client(house) as client:
        for address in ("1.1.1.1", "2.2.2.2", "1.1.1.1"):
            one = ask(house, {"X-Forwarded-For": address})
            assert (await client.long(one)).predicted["forwarded"] == address
            assert (await client.short(one)).predicted["forwarded"] == address


async def test_two_values_are_joined(house: House) -> None:
    twice = predict(house.pool.name, "", b"{}", "tracestate: a=1", "tracestate: b=2")
    async with Client(house) as client:
        assert (await client.long(twice)).predicted["trace"] == {"tracestate": "a=1,b=2"}


async def test_unusual_value_is_not_passed_on(house: House) -> None:
    odd = predict(house.pool.name, "", b"{}", "traceparent: \xe4", "baggage: x=1")
    async with Client(house) as client:
        assert (await client.long(odd)).predicted["trace"] == {"baggage": "x=1"}
