"""The header Server-Timing, and the times that come with the end of a request."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from deepaas.events import RequestEnded, Times
from deepaas.http.server_timing import line_of
from tests.conftest import Serve
from tests.serving.callers import Journal
from tests.serving.inside import Client, House
from tests.serving.segments import Line, get, padded, predict
from tests.support import HOST, Server

SLEEP = 0.05
MODELS = {
    "sequential": "zoo.steps:Sequential",
    "asynchronous": "zoo.steps:Asynchronous",
    "batched": "zoo.steps:Batched",
}
STEPS = ["validate", "predict", "encode"]
LARGE = 2 * 1024 * 1024
"""The size of a result, in bytes, that the worker sends as a file."""

METRIC = re.compile(r"([a-z]+);dur=(\d+\.\d+)")


def parts_of(header: str) -> dict[str, float]:
    """Return the parts of a Server-Timing header in seconds, and check its syntax."""
    found: dict[str, float] = {}
    for part in header.split(", "):
        metric = METRIC.fullmatch(part)
        assert metric, header
        found[metric[1]] = float(metric[2]) / 1000
    return found


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all(MODELS)


def timed(server: Server, model: str, *, status: int = 200, **asked: Any) -> dict[str, float]:
    """Return the parts of the time of a prediction. Their sum is not more than the whole time."""
    began = time.monotonic()
    answer = server.predict(model, json=asked)
    whole = time.monotonic() - began
    assert answer.status_code == status, answer.text
    parts = parts_of(answer.headers["Server-Timing"])
    assert sum(parts.values()) <= whole + 1e-5  # each part is rounded
    return parts


def slow(step: str) -> dict[str, Any]:
    return {step: SLEEP}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("model", MODELS)
def test_slow_step_is_in_its_part(server: Server, model: str, step: str) -> None:
    parts = timed(server, model, **slow(step))
    names = ["queue", "validate", "predict", "encode"]
    assert [name for name in parts if name != "batch"] == names
    assert parts[step] >= 0.98 * SLEEP  # the clock of an event loop is a little coarser


def test_only_a_batch_has_the_part_of_a_batch(server: Server) -> None:
    assert {model: "batch" in timed(server, model) for model in MODELS} == {
        "sequential": False,
        "asynchronous": False,
        "batched": True,
    }


@pytest.mark.parametrize("model", MODELS)
def test_result_that_is_sent_as_a_file_has_the_header(server: Server, model: str) -> None:
    assert timed(server, model, size=LARGE, encode=SLEEP)["encode"] >= SLEEP


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("model", ["sequential", "asynchronous"])
def test_stream_has_the_times_until_its_first_item(server: Server, model: str, step: str) -> None:
    parts = timed(server, model, do="stream", **slow(step))
    assert parts[step] >= 0.98 * SLEEP


@pytest.mark.parametrize("model", MODELS)
def test_prediction_that_fails_has_the_times_until_then(server: Server, model: str) -> None:
    assert timed(server, model, status=500, do="fail", predict=SLEEP)["predict"] >= 0.98 * SLEEP
    parts = timed(server, model, status=422, predict="many", validate=SLEEP)
    assert parts["validate"] >= SLEEP
    assert parts["predict"] == parts["encode"] == 0


def test_other_responses_have_no_times(server: Server) -> None:
    for answer in (
        server.get("/v2/models/"),
        server.get("/v2/models/nobody/predict/"),
        server.post("/v2/models/sequential/predict/", headers={"X-Request-Timeout": "soon"}),
    ):
        assert "Server-Timing" not in answer.headers


def test_option_turns_the_header_off(serve: Serve) -> None:
    server = serve({}, "--noserver-timing", "zoo.sized")
    with httpx.Client(base_url=f"http://{HOST}:{server.port}") as client:
        for _ in range(2):  # the second request takes the fast path
            answer = client.post("/v2/models/sized/predict/", json={})
            assert answer.status_code == 200
            assert "Server-Timing" not in answer.headers


async def test_both_paths_send_and_report_the_times() -> None:
    ended: list[RequestEnded] = []
    house = House("zoo.gated")
    house.events.request_ended.listen(ended.append)
    async with house, Client(house) as client:
        ask = predict("gated", "", padded(60, seconds=SLEEP))
        answers = [await client.long(ask), await client.short(ask)]
        await client.ask(get("/v2/models/"))
    _, *predictions, other = ended  # the first request is that of `Client` itself
    assert [one.is_fast for one in predictions] == [False, True]
    for one, answer in zip(predictions, answers, strict=True):
        assert one.times is not None
        assert f"Server-Timing: {answer.server_timing}\r\n".encode() == line_of(one.times)
        assert one.times.predict >= SLEEP
        assert min(one.times) >= 0
        assert sum(one.times) <= one.seconds
    assert other.times is None


async def test_without_the_header_the_end_of_a_request_has_the_times_nevertheless() -> None:
    ended: list[RequestEnded] = []
    house = House("zoo.gated", api={"server_timing": False})
    house.events.request_ended.listen(ended.append)
    async with house, Client(house) as client:
        ask = predict("gated", "", padded(60, seconds=SLEEP))
        answers = [await client.long(ask), await client.short(ask)]
    assert [answer.server_timing for answer in answers] == ["", ""]
    times = [one.times for one in ended[1:]]
    assert len(times) == 2
    assert all(one is not None and one.predict >= SLEEP for one in times)


@pytest.mark.parametrize("is_fast", [False, True])
async def test_wait_for_a_worker_is_in_queue(is_fast: bool, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    blocking, waiting = (
        predict("gated", "", padded(400, **journal.args(number, gate=gate)))
        for number, gate in ((1, "gate"), (2, ""))
    )
    async with House("zoo.gated", has_fast_path=is_fast) as house:
        if is_fast:
            async with Client(house) as client:
                await client.long(predict("gated", "", padded(400)))
        async with Line(house.port) as first, Line(house.port) as second:
            await first.send(blocking.data)
            await house.until(lambda: journal.numbers("begin") == [1], "its begin")
            await second.send(waiting.data)
            await house.until(lambda: house.pool.calls == 2, "the second call")
            began = time.monotonic()
            await asyncio.sleep(SLEEP)
            waited = time.monotonic() - began
            journal.open("gate")
            parts = parts_of((await second.answer(waiting)).server_timing)
            assert (await first.answer(blocking)).status == 200
    assert parts["queue"] >= waited


def test_header_has_milliseconds() -> None:
    alone, in_batch = Times(0.001, 0.0025, 0.0, 1.5, 0.0), Times(1e-6, 0.0, 0.005, 4000.0, 4e-7)
    assert line_of(alone) == (
        b"Server-Timing: queue;dur=1.000, validate;dur=2.500, predict;dur=1500.000, "
        b"encode;dur=0.000\r\n"
    )
    assert line_of(in_batch) == (
        b"Server-Timing: queue;dur=0.001, validate;dur=0.000, batch;dur=5.000, "
        b"predict;dur=4000000.000, encode;dur=0.000\r\n"
    )
