"""Which requests take the fast path, and how the fast path ends in each case."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from deepaas.api.fast_predictions import FastPrediction
from deepaas.http import connection, fast_path
from deepaas.http.connection import Connection
from tests.clock import TurnedLoop
from tests.serving.callers import Journal
from tests.serving.inside import LIVE, Client, House
from tests.serving.segments import Ask, Line, Seen, chunked, get, padded, predict

new_loop = uvloop.new_event_loop
"""The loop of the tests and of their `House`: the one that servers use."""

LENGTH = 400
"""Length of the request bodies. All heads are therefore equal."""

MEGABYTE = 1024 * 1024
KINDS: dict[str, dict[str, Any]] = {
    "answer": {"do": "answer"},
    "file": {"do": "file", "size": 4 * MEGABYTE, "accept": "application/octet-stream"},
    "large answer": {"do": "json", "size": 4 * MEGABYTE},
    "stream": {"do": "stream", "size": 2},
    "failure": {"seconds": -1.0},
    "refusal": {"number": "none"},
}
"""Arguments of calls, by the kind of reply that they cause."""


@pytest.fixture(scope="module")
async def shared() -> AsyncIterator[House]:
    async with House() as opened:
        yield opened


@pytest.fixture
async def house(shared: House) -> AsyncIterator[House]:
    """Yield the shared server.

    Each test must leave its worker alive, and leave no call, connection or descriptor open.
    """
    await warm_up(shared)
    shared.http.heads.clear()
    before, pids = open_files(), shared.pool.pids
    yield shared
    await shared.until_nothing_is_under_way()
    await shared.until(lambda: not shared.connections, "an end to all connections")
    await shared.until(lambda: open_files() <= before, "an end to what was opened")
    assert shared.pool.pids == pids


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def warm_up(house: House) -> None:
    async with Client(house) as client:
        await client.ask(call(text="x"))
    await house.until(lambda: not house.connections, "an end to all connections")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


def call(*fields: str, length: int = LENGTH, query: str = "", **arguments: Any) -> Ask:
    """Return a request; all requests with the same fields and length have the same head."""
    return predict("gated", query, padded(length, **arguments), *fields)


def noted(journal: Journal, number: int, *fields: str, **arguments: Any) -> Ask:
    """Return a request that writes to a journal; its head is the same for every number."""
    return call(*fields, **journal.args(number, **arguments))


async def known(client: Client, *fields: str) -> None:
    """Teach the server the head of these requests."""
    ask = call(*fields, text="known")
    for seen in (await client.ask(ask), await client.short(ask)):
        assert seen.predicted["text"] == 5


# --- which requests take the fast path


async def test_request_whose_head_was_seen_goes_the_short_way(house: House) -> None:
    async with Client(house) as client:
        first = await client.long(call(text="abc"))
        others = [await client.short(call(text="abc")) for _ in range(5)]
    assert first.predicted["text"] == 3
    assert others == [first] * 5


async def test_body_may_be_another_of_the_same_length(house: House) -> None:
    async with Client(house) as client:
        await known(client)
        for size in range(20):
            assert (await client.short(call(text="x" * size))).predicted["text"] == size


async def test_what_one_client_taught_holds_for_all(house: House) -> None:
    async with Client(house) as client, Client(house) as other:
        await known(client)
        assert (await other.short(call(text="other"))).predicted["text"] == 5


async def test_body_of_none_is_one_too(house: House) -> None:
    empty = predict("gated", "?text=abcd", b"", media="text/plain")
    async with Client(house) as client:
        assert (await client.long(empty)).predicted["text"] == 4
        assert (await client.short(empty)).predicted["text"] == 4


@pytest.mark.parametrize(
    "other",
    [
        call(text="a", query="?number=1"),
        call("X-Other: 1", text="a"),
        Ask(call(text="a").head.replace(b"Content-Type", b"content-type"), call(text="a").body),
        Ask(call(text="a").head.replace(b"POST", b"PUT"), call(text="a").body),
    ],
    ids=["query", "header", "spelling", "method"],
)
async def test_other_head_goes_the_long_way_at_first(house: House, other: Ask) -> None:
    async with Client(house) as client:
        await known(client)
        await client.long(other)
        await client.short(call(text="a"))


@pytest.mark.parametrize(
    "name",
    ["traceparent", "Tracestate", "BAGGAGE", "X-Request-ID", "X-Forwarded-For", "Date"],
)
async def test_value_of_a_header_that_does_not_change_what_is_asked_may_differ(
    house: House, name: str
) -> None:
    async with Client(house) as client, Client(house) as other:
        await known(client, f"{name}: first")
        assert len(house.http.heads) == 1
        for value in ("second", "2", "a=b; c", ""):
            one = call(f"{name}: {value}", text=value)
            assert (await client.short(one)).predicted["text"] == len(value)
            assert (await other.short(one)).predicted["text"] == len(value)
        await client.long(call(f"{name}: first", "X-Other: 1", text="a"))


async def test_length_of_the_body_may_differ(house: House) -> None:
    async with Client(house) as client:
        await known(client)
        for length in (LENGTH + 1, 30, 10_000, LENGTH):
            assert (await client.short(call(text="ab", length=length))).predicted["text"] == 2


@pytest.mark.parametrize("value", ["\xe4", "a\tb\xff"])
async def test_unusual_value_goes_the_long_way(house: House, value: str) -> None:
    async with Client(house) as client:
        await known(client, "traceparent: 1")
        before = house.handled
        await client.ask(call(f"traceparent: {value}", text="a"))
        assert house.handled == before + 1


async def test_control_character_in_a_value_is_refused(house: House) -> None:
    async with Client(house) as client:
        await known(client, "traceparent: 1")
        assert (await client.ask(call("traceparent: a\x7f", text="a"))).status == 400


@pytest.mark.parametrize("length", ["+400", "4_00", "400, 400", "0x190", "", "400 400"])
async def test_unusual_length_is_left_to_the_parser(house: House, length: str) -> None:
    async with Client(house) as client:
        await known(client)
    ask = predict("gated", "", padded(LENGTH, text="a"), length=f"Content-Length: {length}")
    async with Client(house) as client:
        assert (await client.ask(ask)).status == 400


async def test_header_that_is_sent_twice_goes_the_long_way(house: House) -> None:
    ask = call("traceparent: 1", "traceparent: 2", text="a")
    async with Client(house) as client:
        await client.long(ask)
        await client.long(ask)


BODY = padded(LENGTH, text="abc")
FORM = b'--b\r\nContent-Disposition: form-data; name="text"\r\n\r\nabc\r\n--b--\r\n'
NEVER = {
    "old": predict("gated", "", BODY, "Connection: keep-alive", version="HTTP/1.0"),
    "last": predict("gated", "", BODY, "Connection: close", last=True),
    "chunked": predict("gated", "", chunked(BODY), "Transfer-Encoding: chunked", length=None),
    "expected": predict("gated", "", BODY, "Expect: 100-continue"),
    "upgrade": predict("gated", "?text=abc", b"", "Upgrade: h2c"),
    "compressed": predict("gated", "", gzip.compress(BODY, mtime=0), "Content-Encoding: gzip"),
    "form": predict("gated", "", FORM, media="multipart/form-data; boundary=b"),
    "long head": call("X-Long: " + "x" * fast_path.MAX_HEAD, text="abc"),
    "large body": call(length=fast_path.MAX_BODY + 1, text="abc"),
    "no length": Ask(
        b"POST /v2/models/gated/predict/?text=abc HTTP/1.1\r\nHost: localhost\r\n\r\n"
    ),
    "refused": call(number="many"),
    "another site": call("Origin: https://evil.test", text="abc"),
    "no prediction": get("/v2/models/"),
}


@pytest.mark.parametrize("kind", NEVER)
async def test_never_goes_the_short_way(house: House, kind: str) -> None:
    ask = NEVER[kind]
    for _ in range(3):
        async with Client(house) as client:
            for _ in range(1 if ask.last else 3):
                seen = await client.long(ask)
                assert seen.status == {"refused": 422, "another site": 403}.get(kind, 200)
    if kind != "refused":  # the head may be known, but the response is not plain
        assert house.http.heads == {}


async def test_largest_head_and_body_that_are_remembered(house: House) -> None:
    def longest(extra: int) -> Ask:
        fill = fast_path.MAX_HEAD - len(call("X-Long: ", text="a").head) + extra
        return call("X-Long: " + "x" * fill, text="a")

    async with Client(house) as client:
        for fits in (longest(0), call(length=fast_path.MAX_BODY, text="a")):
            await client.long(fits)
            await client.short(fits)
        await client.long(longest(1))
        await client.long(longest(1))
    assert len(longest(0).head) == fast_path.MAX_HEAD


async def test_number_of_heads_is_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_HEADS", 10)
    async with Client(house) as client:
        for number in range(35):
            one = call(text="a", query=f"?number={number}")
            assert (await client.long(one)).predicted["number"] == number
            assert (await client.short(one)).predicted["number"] == number
            assert 1 <= len(house.http.heads) <= 10


def test_what_is_remembered_is_bounded_in_bytes() -> None:
    assert fast_path.MAX_HEADS * fast_path.MAX_HEAD <= 8 * 1024 * 1024


@pytest.mark.parametrize("place", [1, 20, -LENGTH - 2, -LENGTH, -LENGTH + 1, -1])
async def test_request_in_pieces_goes_the_long_way_and_the_next_ones_do_not(
    house: House, place: int
) -> None:
    async with Client(house) as client:
        await known(client)
        data = call(text="pieces").data
        before = house.handled
        await client.send(data[:place], pause=0.05)
        await client.send(data[place:])
        assert (await client.answer()).predicted["text"] == 6
        assert house.handled == before + 1
        await client.ask(call(text="next"))
    async with Client(house) as client:
        await client.short(call(text="next"))


async def test_connection_whose_bodies_come_by_themselves_stays_on_the_short_way(
    house: House,
) -> None:
    """Clients often send a body in a separate segment. Later requests still take the fast path."""
    async with Client(house) as client:
        await known(client)
        one = call(text="two")
        await client.send(one.head, one.body, pause=0.05)
        assert (await client.answer()).predicted["text"] == 3
        await client.short(one)


# --- what a known head means


async def test_draining_server_takes_nothing_more(house: House) -> None:
    try:
        async with Client(house) as client:
            await known(client)
            house.app.kernel.draining = True
            house.pool.drain()
            seen = await client.long(call(text="late"))
    finally:
        house.app.kernel.draining = False
        vars(house.pool.status).update(is_draining=False, reason="")
    assert (seen.status, seen.code) == (503, "server_stopping")
    assert seen.header("Connection") == "close"
    assert seen.header("Retry-After") is not None


MODEL = """\
from webargs import fields


def get_predict_args():
    return {arguments}


def predict(**kwargs):
    return ["{version}", kwargs]
"""
HEADER = (
    '{"token": fields.Str(missing="none", data_key="X-Token", metadata={"location": "headers"})}'
)


async def test_head_means_something_else_after_a_reload(tmp_path: Path) -> None:
    """A header becomes an argument in one reload, and stops being one in the next."""
    file = tmp_path / "changing.py"

    def write(version: str, arguments: str) -> None:
        file.write_text(MODEL.replace("{arguments}", arguments).replace("{version}", version))

    write("first", "{}")
    ask = predict("changing", "", b"{}", "X-Token: abc")
    expected: list[list[Any]] = [
        ["first", {}],
        ["second", {"token": "abc"}],
        ["third", {}],
    ]

    answers = []
    async with House(str(file), tmp_path) as changing, Client(changing) as client:
        for version, arguments in (("second", HEADER), ("third", "{}"), ("", "")):
            answers.append((await client.long(ask)).predicted)
            assert (await client.short(ask)).predicted == answers[-1]
            if version:
                write(version, arguments)
                os.utime(file, (len(answers) * 100, len(answers) * 100))
                await changing.pool.reload()
    assert answers == expected


@pytest.fixture(scope="module")
async def strict() -> AsyncIterator[House]:
    """Yield a server that queues no calls, and times out after a second."""
    async with House(options={"queue_size": 0, "predict_timeout": 1.0}) as opened:
        yield opened


async def test_full_queue_is_refused_as_ever(strict: House, journal: Journal) -> None:
    async with Client(strict) as client, Client(strict) as other:
        await known(client)
        before = strict.handled
        await other.send(noted(journal, 1, gate="gate").data)
        await strict.until(lambda: journal.numbers("begin") == [1], "its begin")
        seen = await client.long(noted(journal, 2))
        journal.open("gate")
        assert (await other.answer()).predicted["number"] == 1
        assert strict.handled == before + 1
        await client.short(noted(journal, 3))
    assert (seen.status, seen.code) == (503, "queue_full")
    assert seen.header("Retry-After") is not None
    assert journal.numbers("begin") == [1, 3]


async def test_prediction_that_takes_too_long_is_504_and_its_worker_is_replaced(
    strict: House, journal: Journal
) -> None:
    async with Client(strict) as client:
        await known(client)
        worker = strict.pool.pids
        before = strict.handled
        await client.send(noted(journal, 1, gate="never").data)
        await strict.until(lambda: journal.numbers("begin") == [1], "its begin")
        assert strict.handled == before
        seen = await client.answer()
        assert (seen.status, seen.code) == (504, "timeout")
        await strict.until(lambda: strict.pool.status.is_ready, "another worker")
        assert strict.pool.pids != worker
        await known(client)


def test_time_that_the_request_gives_is_kept(journal: Journal) -> None:
    """Each request has a separate limit; the prediction itself runs on.

    The clock is moved ahead.
    """
    field = "X-Request-Timeout: 30"

    async def ask() -> None:
        async with Client(turned) as client:
            await known(client, field)
            await turned.turn(31)
            await client.short(noted(journal, 1, field))
            answer = asyncio.create_task(client.ask(noted(journal, 2, field, gate="gate")))
            await turned.until(lambda: 2 in journal.numbers("begin"), "its begin")
            await turned.turn(18)
            assert not answer.done()
            await turned.turn(18)
            seen = await answer
            assert (seen.status, seen.code) == (504, "timeout")
            assert journal.numbers("end") == [1]
            journal.open("gate")
            await client.short(noted(journal, 3, field))
        assert journal.numbers("end") == [1, 2, 3]

    with House(new_loop=TurnedLoop) as turned:
        turned.run(ask())


async def test_worker_that_dies_is_said_and_replaced(house: House, journal: Journal) -> None:
    async with House() as other, Client(other) as client:
        await known(client)
        (worker,) = other.pool.pids
        before = other.handled
        await client.send(noted(journal, 1, gate="never").data)
        await other.until(lambda: journal.numbers("begin") == [1], "its begin")
        assert other.handled == before
        os.kill(worker, signal.SIGKILL)
        seen = await client.answer()
        assert (seen.status, seen.code) == (500, "worker_died")
        assert "SIGKILL" in seen.json()["message"]
        await client.send(noted(journal, 2).data)
        seen = await client.answer()
        assert seen.predicted["number"] == 2
        assert seen.predicted["pid"] != worker


# --- clients that disconnect


async def test_call_of_a_client_that_leaves_leaves_the_queue(
    house: House, journal: Journal
) -> None:
    async with Client(house) as first, Client(house) as second, Client(house) as third:
        await known(first)
        before = house.handled
        await first.send(noted(journal, 1, gate="gate").data)
        await house.until(lambda: journal.numbers("begin") == [1], "its begin")
        await second.send(noted(journal, 2).data)
        await house.until(lambda: house.pool.calls == 2, "two calls")
        await third.send(noted(journal, 3).data)
        await house.until(lambda: house.pool.calls == 3, "three calls")
        await second.leave()
        await house.until(lambda: house.pool.calls == 2, "two calls")
        journal.open("gate")
        assert (await first.answer()).predicted["number"] == 1
        assert (await third.answer()).predicted["number"] == 3
        assert house.handled == before
    assert journal.numbers("begin") == [1, 3]


async def test_client_that_has_sent_more_and_leaves_is_noticed(
    house: House, journal: Journal
) -> None:
    """The server does not begin the requests that the client sent behind it, either."""
    async with Client(house) as first, Client(house) as second:
        await known(first)
        await first.send(noted(journal, 1, gate="gate").data)
        await house.until(lambda: journal.numbers("begin") == [1], "its begin")
        await second.send(noted(journal, 2).data)
        await house.until(lambda: house.pool.calls == 2, "two calls")
        for number in (3, 4, 5):
            await second.send(noted(journal, number).data, pause=0.02)
        assert house.pool.calls == 2
        await second.leave()
        await house.until(lambda: house.pool.calls == 1, "one call")
        journal.open("gate")
        assert (await first.answer()).predicted["number"] == 1
    await house.until_nothing_is_under_way()
    assert journal.numbers("begin") == [1]


@pytest.mark.parametrize("kind", ["answer", "file", "large answer", "stream", "failure"])
async def test_reply_that_nobody_waits_for_is_let_go(
    house: House, journal: Journal, kind: str
) -> None:
    """The client disconnects while the model works."""
    ask = noted(journal, 1, gate="gate", **KINDS[kind])
    async with Client(house) as client:
        await known(client)
        before = house.handled
        await client.send(ask.data)
        if kind == "stream":
            await client.reader.readuntil(b"\r\n\r\n")
            await house.until(lambda: journal.numbers("waits") == [1], "its wait")
            assert house.handled == before + 1  # the stream has begun
        else:
            await house.until(lambda: journal.numbers("begin") == [1], "its begin")
            assert house.handled == before
    await house.until(lambda: not house.connections, "its leave")
    journal.open("gate")
    end = "closed" if kind == "stream" else "end"
    await house.until(lambda: journal.numbers(end) == [1], "its end")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("turns", [-1, 0, 1, 2, 3, 4])
async def test_client_that_leaves_at_the_moment_of_the_reply(
    house: House, journal: Journal, monkeypatch: pytest.MonkeyPatch, kind: str, turns: int
) -> None:
    """The client leaves just before the reply, with it, or a few iterations of the loop later."""
    arrive = FastPrediction._arrive
    left = []

    def leave(connection: Connection, turns: int) -> None:
        if turns > 0:
            house.loop.call_soon(leave, connection, turns - 1)
            return
        left.append(connection)
        if connection.transport is not None:
            connection.transport.abort()

    def arriving(prediction: FastPrediction, outcome: Any) -> None:
        if turns < 0:
            leave(prediction.connection, turns)
        arrive(prediction, outcome)
        if turns >= 0:
            leave(prediction.connection, turns)

    async with Client(house) as client:
        await known(client)
        monkeypatch.setattr(FastPrediction, "_arrive", arriving)
        arguments = {**journal.args(1), **KINDS[kind]}
        if kind == "stream":
            arguments["size"] = 0  # endless: it ends only if it is cancelled
        await client.send(call(**arguments).data)
        await client.rest()
    await house.until_nothing_is_under_way()
    assert len(left) == 1
    if kind == "stream":
        await house.until(lambda: journal.numbers("closed") == [1], "its end")


# --- pipelined requests


async def test_second_request_is_answered_after_the_first(house: House, journal: Journal) -> None:
    async with Client(house) as client:
        await known(client)
        before = house.handled
        await client.send(noted(journal, 1, gate="gate").data)
        await house.until(lambda: journal.numbers("begin") == [1], "its begin")
        await client.send(noted(journal, 2).data, pause=0.05)
        assert journal.numbers("begin") == [1]
        journal.open("gate")
        assert (await client.answer()).predicted["number"] == 1
        assert (await client.answer()).predicted["number"] == 2
        assert house.handled == before
    journal.assert_one_at_a_time()


async def test_request_that_comes_at_the_moment_of_a_reply_keeps_its_turn(
    house: House, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other requests of the connection were waiting for the reply before it came."""
    arrive = FastPrediction._arrive

    def arriving(prediction: FastPrediction, outcome: Any) -> None:
        monkeypatch.setattr(FastPrediction, "_arrive", arrive)
        arrive(prediction, outcome)
        prediction.connection.data_received(call(number=4).data)

    async with Client(house) as client:
        await known(client)
        monkeypatch.setattr(FastPrediction, "_arrive", arriving)
        await client.send(noted(journal, 1, gate="gate").data)
        await house.until(lambda: journal.numbers("begin") == [1], "its begin")
        for number in (2, 3):
            await client.send(call(number=number).data, pause=0.02)
        journal.open("gate")
        assert [(await client.answer()).predicted["number"] for _ in range(4)] == [1, 2, 3, 4]


async def test_other_requests_behind_one_are_answered_after_it(
    house: House, journal: Journal
) -> None:
    """The first request causes each kind of reply, and requests of each kind follow it."""
    behind = [get("/v2/health/live"), NEVER["chunked"], NEVER["refused"], call(text="abc")]

    async def ask(first: Ask, number: int) -> list[Seen]:
        async with Client(house) as client:
            await known(client)
            await client.send(first.data)
            await house.until(lambda: number in journal.numbers("begin"), "its begin")
            await client.send(*[one.data for one in behind])
            await asyncio.sleep(0.02)
            journal.open(f"gate-{number}")
            return [await client.answer(one) for one in (first, *behind)]

    kinds = [kind for kind in KINDS if kind != "refusal"]
    for number, kind in enumerate(kinds):
        first = noted(journal, number, gate=f"gate-{number}", **KINDS[kind])
        seen = await ask(first, number)
        status = 500 if kind == "failure" else 200
        assert [one.status for one in seen] == [status, 200, 200, 422, 200]
        assert all(one.whole for one in seen)
        assert seen[4].predicted["text"] == 3


@pytest.mark.parametrize("together", [1, 3, 40])
async def test_many_requests_one_behind_the_other(house: House, together: int) -> None:
    count = 600
    async with Client(house) as client:
        await known(client)
        asks = [call(number=number).data for number in range(count)]
        parts = [b"".join(asks[start : start + together]) for start in range(0, count, together)]
        sending = asyncio.create_task(client.send(*parts))
        numbers = [(await client.answer()).predicted["number"] for _ in range(count)]
        await sending
        assert numbers == list(range(count))
        assert (await client.ask(call(text="last"))).predicted["text"] == 4


@pytest.mark.parametrize("pause", [0, 0.01], ids=["at once", "one by one"])
async def test_client_that_takes_no_answer_is_not_served_on(house: House, pause: float) -> None:
    """The unread responses are bounded, and so are the requests that the server reads."""
    data = call(do="json", size=50_000).data
    async with Client(house) as client:
        await known(client)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        sending = asyncio.create_task(client.send(*[data] * 1000, pause=pause))
        still = 0
        while still < 20:
            before = house.unsent
            await asyncio.sleep(0.02)
            assert house.unsent < 1_000_000
            still = still + 1 if house.unsent == before > 0 else 0
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        client.writer.transport.abort()


async def test_what_is_sent_behind_a_request_is_not_all_read(
    house: House, journal: Journal
) -> None:
    """The rest stays with the client as long as the first request runs."""
    data = call(text="abc").data * 100
    total = 32 * MEGABYTE
    async with Client(house) as client:
        await known(client)
        await client.send(noted(journal, 1, gate="gate").data)
        await house.until(lambda: journal.numbers("begin") == [1], "its begin")
        transport = client.writer.transport
        for _ in range(total // len(data)):
            transport.write(data)
        still = 0
        while still < 10:
            unsent = transport.get_write_buffer_size()
            await asyncio.sleep(0.03)
            still = still + 1 if unsent == transport.get_write_buffer_size() else 0
        assert unsent > total // 2
        journal.open("gate")
        assert (await client.answer()).predicted["number"] == 1
        for _ in range(2000):
            assert (await client.answer()).predicted["text"] == 3
        transport.abort()


# --- how long a connection stays open


def test_idle_connection_is_closed_with_the_real_clock() -> None:
    async def ask() -> None:
        async with Client(opened) as client:
            began = opened.loop.time()
            await known(client)
            assert await client.rest() == b""
            assert opened.loop.time() - began >= 0.9

    with House(keepalive=1.0) as opened:
        opened.run(ask())


# The following tests move the clock ahead, by less than a limit or by more.

LIMIT = 30.0


@pytest.fixture(scope="module")
def brief() -> Iterator[House]:
    """Yield a server that closes a connection LIMIT seconds after its last request."""
    with House(keepalive=LIMIT, new_loop=TurnedLoop) as opened:
        yield opened


def test_connection_in_use_is_not_closed_for_being_idle(brief: House, journal: Journal) -> None:
    """A connection is in use during a long prediction, and between successive requests."""

    async def ask() -> None:
        async with Client(brief) as client:
            await known(client)
            answer = asyncio.create_task(client.short(noted(journal, 1, gate="gate")))
            await brief.until(lambda: journal.numbers("begin") == [1], "its begin")
            await brief.turn(1.5 * LIMIT)
            journal.open("gate")
            await answer
            for number in range(3):
                await brief.turn(0.6 * LIMIT)
                await client.short(noted(journal, number))

    brief.run(ask())


def test_idle_connection_is_closed(brief: House) -> None:
    async def ask() -> None:
        async with Client(brief) as client:
            await known(client)
            await brief.turn(0.6 * LIMIT)
            assert (await client.ask(call(text="abc"))).predicted["text"] == 3
            await brief.turn(1.1 * LIMIT)
            assert await client.rest() == b""

    brief.run(ask())


@pytest.fixture(scope="module")
def impatient() -> Iterator[House]:
    """Yield a server that closes a connection if a head is not complete after LIMIT seconds."""
    with House(receive_timeout=LIMIT, keepalive=1000.0, new_loop=TurnedLoop) as opened:
        yield opened


PART = call(text="abc").head[:50]
BEGINNINGS: dict[str, list[bytes]] = {
    "alone": [PART],
    "byte by byte": [PART[:1], PART[1:2], PART[2:3]],
    "behind a known request": [call(text="abc").data, PART],
    "behind another request": [LIVE.data, PART],
    "in one segment with a known request": [call(text="abc").data + PART],
    "in one segment with another request": [LIVE.data + PART],
}


@pytest.mark.parametrize("after", [0, 0.6, 1.4])
def test_head_that_does_not_come_to_its_end_ends_the_connection(
    impatient: House, after: float
) -> None:
    """The head may begin at any time, and after any request."""

    async def begin(client: Client, kind: str) -> None:
        await client.ask(call(text="abc"))
        await client.send(*BEGINNINGS[kind], pause=0.01)
        for _ in range("request" in kind):
            assert (await client.answer()).status == 200

    async def all_of_them() -> None:
        async with contextlib.AsyncExitStack() as opened:
            clients = [await opened.enter_async_context(Client(impatient)) for _ in BEGINNINGS]
            for client in clients:
                await client.ask(call(text="abc"))
            await impatient.turn(after * LIMIT)
            await asyncio.gather(*map(begin, clients, BEGINNINGS))
            await impatient.turn(1.1 * LIMIT)  # bytes since the last check cause a second check
            await impatient.turn(1.1 * LIMIT)
            for client in clients:
                assert await client.rest() == b""

    impatient.run(all_of_them())


@pytest.mark.parametrize("extra", [b"", b"\r\n"], ids=["nothing", "line end"])
def test_connection_without_a_head_is_kept(impatient: House, extra: bytes) -> None:
    async def ask() -> None:
        async with Client(impatient) as client:
            await known(client)
            await client.send(extra)
            await impatient.turn(1.1 * LIMIT)
            await impatient.turn(1.1 * LIMIT)
            assert (await client.ask(call(text="abc"))).predicted["text"] == 3
            await impatient.turn(1.4 * LIMIT)
            assert (await client.ask(call(text="abc"))).predicted["text"] == 3

    impatient.run(ask())


# --- the log, and failures inside the server


class Lines(logging.Handler):
    """A log handler that stores the lines, and fails `fails` times."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.fails = 0

    def filter(self, record: logging.LogRecord) -> bool:
        if self.fails:
            self.fails -= 1
            raise RuntimeError("cannot log")
        return True

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler = Lines()
    logger = logging.getLogger("tests.express.access")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


async def test_line_in_the_log_tells_the_same_either_way(lines: Lines, journal: Journal) -> None:
    """Each request is logged once, with client, request line, status, size and true duration."""
    access = logging.getLogger("tests.express.access")
    agent = "User-Agent: some one"
    slow_file = {**KINDS["file"], "seconds": 0.4}
    quick: list[float] = []
    async with House(access_log=access) as logged:
        async with Client(logged) as client:
            lines.lines.clear()
            began = time.monotonic()
            first = await client.long(call(agent, text="abc"))
            quick.append(time.monotonic() - began)
            second = await client.short(call(agent, text="abc"))
            quick.append(time.monotonic() - began - quick[0])
            assert first == second
            await client.short(noted(journal, 1, agent, seconds=0.4))
            await client.long(noted(journal, 2, agent, **slow_file))
            await client.long(call(agent, text="abc", seconds="none"))
            await client.send(noted(journal, 3, agent, **slow_file).data)
            await logged.until(lambda: 3 in journal.numbers("begin"), "its begin")
            await client.send(call(agent, text="abc").data)
            for _ in range(2):
                assert (await client.answer()).status == 200
        await logged.until(lambda: len(lines.lines) >= 7, "a line for each")
    assert len(lines.lines) == 7
    start = '127.0.0.1 "POST /v2/models/gated/predict/ HTTP/1.1" '
    assert all(line.startswith(start) for line in lines.lines)
    assert all(' "some one" ' in line for line in lines.lines)
    ids = {line.rpartition(" ")[2] for line in lines.lines}
    assert len(ids) == 7
    told = [line.removeprefix(start).split()[:3] for line in lines.lines]
    assert [status for status, _, _ in told] == ["200"] * 4 + ["422"] + ["200"] * 2
    assert told[0][1] == told[1][1] == told[6][1]
    logged_seconds = [float(seconds) for _, _, seconds in told]
    assert all(logged_seconds[number] >= 0.39 for number in (2, 3, 5))
    # The clock of a loop has a resolution of milliseconds.
    assert all(logged_seconds[number] <= took + 0.01 for number, took in enumerate(quick))


async def test_line_that_cannot_be_logged_harms_no_connection(
    lines: Lines, journal: Journal
) -> None:
    access = logging.getLogger("tests.express.access")
    async with (
        House(access_log=access) as logged,
        Client(logged) as client,
        Client(logged) as other,
    ):
        await known(client)
        workers = logged.pool.pids
        before = logged.handled
        await client.send(noted(journal, 1, gate="gate").data)
        await logged.until(lambda: journal.numbers("begin") == [1], "its begin")
        await other.send(noted(journal, 2).data)
        await logged.until(lambda: logged.pool.calls == 2, "two calls")
        assert logged.handled == before
        lines.fails = 1
        journal.open("gate")
        for number, one in enumerate((client, other), 1):
            assert (await one.answer()).predicted["number"] == number
        await logged.until(lambda: not lines.fails, "the failure")
        assert logged.pool.pids == workers
        await logged.until_nothing_is_under_way()


async def test_nothing_is_learned_for_another_request(house: House, journal: Journal) -> None:
    """The requests wait, each read separately, behind a slow one."""
    asks = {letter: call(query=f"?number={n}", text=letter) for n, letter in enumerate("abcd", 1)}
    async with Client(house) as client:
        await client.send(noted(journal, 9, gate="gate").data)
        await house.until(lambda: journal.numbers("begin") == [9], "its begin")
        for one in asks.values():
            await client.send(one.data, pause=0.03)
        journal.open("gate")
        answers = [(await client.answer()).predicted["number"] for _ in range(5)]
        assert answers == [9, 1, 2, 3, 4]
    async with Client(house) as client:
        for number, one in enumerate(asks.values(), 1):
            assert (await client.ask(one)).predicted["number"] == number
            assert (await client.short(one)).predicted["number"] == number


async def test_first_request_of_a_connection_may_go_the_short_way(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It arrives before aiohttp waits for it."""
    made = Connection.connection_made

    def arrive(connection: Connection, transport: asyncio.BaseTransport) -> None:
        made(connection, transport)
        connection.data_received(call(number=7).data)

    async with Client(house) as client:
        await known(client)
    before = house.handled
    monkeypatch.setattr(Connection, "connection_made", arrive)
    async with Line(house.port) as line:
        assert (await line.answer()).predicted["number"] == 7
    assert house.handled == before


async def test_request_that_comes_right_after_a_response_goes_the_short_way(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quick client sends it before aiohttp waits for the next request."""
    log_access = Connection.log_access

    def answered(connection: Connection, *args: Any) -> None:
        log_access(connection, *args)
        monkeypatch.undo()
        house.loop.call_soon(connection.data_received, call(number=7).data)

    async with Client(house) as client:
        await known(client)
        before = house.handled
        monkeypatch.setattr(Connection, "log_access", answered)
        assert (await client.ask(LIVE)).status == 200
        assert (await client.answer()).predicted["number"] == 7
        assert house.handled == before
