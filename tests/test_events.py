"""Events and their listeners."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from deepaas.events import CLIENT_CLOSED, Event, RequestEnded, RequestRefused
from tests.serving.callers import Journal
from tests.serving.inside import LIVE, Client, House
from tests.serving.segments import Line, get, padded, predict


def test_error_of_a_listener_reaches_neither_the_others_nor_the_reporter(
    caplog: pytest.LogCaptureFixture,
) -> None:
    event: Event[int] = Event()
    heard: list[int] = []

    def fail(value: int) -> None:
        raise RuntimeError("on purpose")

    event.listen(fail)
    event.listen(heard.append)
    with caplog.at_level(logging.ERROR):
        event.report(7)
    assert heard == [7]
    assert "A listener of an event failed" in caplog.text


async def test_each_request_ends_once_on_either_path() -> None:
    async with House("zoo.gated") as house:
        ended: list[RequestEnded] = []
        refused: list[RequestRefused] = []
        house.app.kernel.events.request_ended.listen(ended.append)
        house.app.kernel.events.request_refused.listen(refused.append)
        async with Client(house) as client:
            ask = predict("gated", "", b'{"text": "a"}')
            await client.long(ask)
            await client.short(ask)
            await client.ask(get("/nowhere"))
            await client.ask(predict("gated", "", b'{"number": "x"}'))
        found = [(one.status, one.code, one.model, one.is_fast) for one in ended]
        assert found == [
            (200, "", "", False),  # of `Client` itself
            (200, "", "gated", False),
            (200, "", "gated", True),
            (404, "not_found", "", False),
            (422, "", "gated", False),
        ]
        assert [one.length for one in ended[1:3]] == [ended[1].length] * 2
        assert refused == [RequestRefused("", "not_found")]


@pytest.mark.parametrize("is_fast", [False, True])
async def test_request_whose_client_has_gone_ends_too(is_fast: bool, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    async with House("zoo.gated") as house:
        ended: list[RequestEnded] = []
        if is_fast:
            async with Client(house) as client:
                await client.long(predict("gated", "", padded(400, **journal.args(0))))
        house.app.kernel.events.request_ended.listen(ended.append)
        async with Line(house.port) as line:
            await line.ask(LIVE)
            ended.clear()
            await line.send(predict("gated", "", padded(400, **journal.args(1, gate="gate"))).data)
            await house.until(lambda: journal.numbers("begin")[-1:] == [1], "its begin")
        await house.until(lambda: ended, "its end")
        journal.open("gate")
        await house.until_nothing_is_under_way()
        assert [(one.status, one.code) for one in ended] == [(CLIENT_CLOSED, "client_closed")]
