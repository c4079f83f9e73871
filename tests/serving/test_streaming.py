"""Models that yield: what the client receives and when, and how the generator ends."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import psutil
import pytest

from tests.conftest import Serve
from tests.serving.conversation import Caller, lines, settle
from tests.serving.processes import MEGABYTE, Growth, lives, pids, wait_gone, wait_ready
from tests.support import HOST, Part, Server, multipart, wait_until

MODELS = {
    "plain": "zoo.streaming:Plain",
    "async": "zoo.streaming:Async",
    "mixed": "zoo.streaming:Mixed",
}
KINDS = list(MODELS)
OTHERS = {
    "schema": "zoo.streaming:WithSchema",
    "header": "zoo.streaming:WithHeader",
    "bare": "zoo.streaming:Bare",
}
EVENTS = {"Accept": "text/event-stream"}
NDJSON_TYPE = "application/x-ndjson"
EVENTS_TYPE = "text/event-stream"

both = pytest.mark.parametrize("model", ["plain", "async"])
every = pytest.mark.parametrize("model", KINDS)


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all(MODELS | OTHERS)


class Stage:
    """Streams of a server, the gate at which they wait, and the events in their generators."""

    def __init__(self, server: Server, directory: Path) -> None:
        self.server = server
        self.note = directory / "note"
        self.gate = directory / "gate"
        self.counter = directory / "counter"
        self._callers = contextlib.ExitStack()

    def call(self, model: str, kind: str = "count", **parameters: Any) -> Caller:
        paths = {"note": self.note, "gate": self.gate, "counter": self.counter}
        sent = {"kind": kind, **paths, **parameters}
        return self._callers.enter_context(Caller(self.server, model, **sent))

    @property
    def noted(self) -> list[str]:
        return lines(self.note)

    def wait_for(self, event: str, count: int = 1) -> None:
        wait_until(lambda: self.noted.count(event) >= count, within=10, what=event)

    @property
    def yields(self) -> int:
        """The number of items that the generator has yielded or is about to yield."""
        return int(self.counter.read_text() or 0) if self.counter.exists() else 0

    def wait_until_it_waits(self) -> int:
        """Wait until the generator has stopped yielding, and return its number of items so far."""
        seen = [-1]

        def stands_still() -> bool:
            seen.append(self.yields)
            return seen[-1] > 0 and len(set(seen[-20:])) == 1 and len(seen) > 20

        wait_until(stands_still, within=20, what="the standstill")
        return seen[-1]

    def close(self) -> None:
        self.gate.touch()
        self._callers.close()


@pytest.fixture
def stage(server: Server, tmp_path: Path) -> Iterator[Stage]:
    with contextlib.closing(Stage(server, tmp_path)) as stage:
        yield stage


def events(body: bytes) -> list[tuple[str, Any]]:
    """Return the name and data of each event in a stream, parsed as a browser does."""
    *blocks, rest = body.decode().split("\n\n")
    assert rest == ""
    found = []
    for block in blocks:
        fields = [line.partition(": ")[::2] for line in block.split("\n")]
        data = "\n".join(value for name, value in fields if name == "data")
        found.append((dict(fields).get("event", "message"), json.loads(data)))
    return found


def values(body: bytes) -> list[Any]:
    """Return the values in a stream of lines."""
    *rows, rest = body.split(b"\n")
    assert rest == b""
    return [json.loads(row) for row in rows]


# --- items and their times


@every
def test_items_come_as_they_are_yielded(stage: Stage, model: str) -> None:
    caller = stage.call(model, "gated")
    assert caller.read_until(b"\n") == b'"first"\n'
    assert (caller.status, caller.headers["content-type"]) == (200, NDJSON_TYPE)
    assert caller.headers["transfer-encoding"] == "chunked"
    assert caller.ended is None
    stage.gate.touch()
    assert caller.read_rest() == b'"first"\n"second"\n'
    assert caller.ended
    stage.wait_for("finally")


@every
def test_events_come_as_they_are_yielded(stage: Stage, model: str) -> None:
    caller = stage.call(model, "gated", headers=EVENTS)
    assert caller.read_until(b"\n\n") == b'data: "first"\n\n'
    assert caller.headers["content-type"] == EVENTS_TYPE
    assert caller.headers["cache-control"] == "no-cache"
    stage.gate.touch()
    assert caller.read_rest() == b'data: "first"\n\ndata: "second"\n\n'
    assert caller.ended


@every
@pytest.mark.parametrize("media_type", ["text/plain", "application/octet-stream"])
def test_raw_items_come_as_they_are_yielded(stage: Stage, model: str, media_type: str) -> None:
    caller = stage.call(model, "gated", accept=media_type)
    assert caller.read_until(b"first") == b"first"
    assert caller.headers["content-type"] == media_type
    stage.gate.touch()
    assert caller.read_rest() == b"firstsecond"
    assert caller.ended


@both
def test_bytes_are_sent_as_they_are(stage: Stage, model: str) -> None:
    caller = stage.call(model, "bytes", accept="application/octet-stream")
    assert caller.read_rest() == b"\x00\xffarraytext"
    assert caller.ended


@both
def test_json_of_every_kind_is_one_line_each(stage: Stage, model: str) -> None:
    caller = stage.call(model, "odd")
    assert values(caller.read_rest()) == [None, 2**70, None, [1, [2]], "bytes", True]


@every
@pytest.mark.parametrize("headers", [{}, EVENTS])
def test_text_of_every_kind_arrives(stage: Stage, model: str, headers: dict[str, str]) -> None:
    from tests.zoo.streaming import TEXTS

    body = stage.call(model, "texts", headers=headers).read_rest()
    if headers:
        assert events(body) == [("message", text) for text in TEXTS]
    else:
        assert values(body) == TEXTS


@every
@pytest.mark.parametrize("headers", [{}, EVENTS])
def test_nothing_yielded_is_an_empty_answer(
    stage: Stage, model: str, headers: dict[str, str]
) -> None:
    caller = stage.call(model, count=0, headers=headers)
    assert (caller.read_rest(), caller.ended, caller.status) == (b"", True, 200)
    assert caller.headers["content-type"] == (EVENTS_TYPE if headers else NDJSON_TYPE)


def test_model_without_arguments_streams(server: Server) -> None:
    response = server.predict("bare")
    assert (response.content, response.headers["content-type"]) == (b"1\n2\n", NDJSON_TYPE)
    response = server.predict("bare", headers=EVENTS)
    assert response.content == b"data: 1\n\ndata: 2\n\n"


@every
def test_many_small_items(stage: Stage, model: str) -> None:
    body = stage.call(model, count=10_000).read_rest()
    assert values(body) == [{"n": number} for number in range(10_000)]


@every
def test_huge_items(stage: Stage, model: str) -> None:
    size = 5 * MEGABYTE
    caller = stage.call(model, "large", size=size, accept="text/plain")
    assert caller.read_rest() == b"a" * size + b"b" * size + b"c" * size
    assert caller.ended


@both
def test_huge_item_is_one_event(stage: Stage, model: str) -> None:
    size = 5 * MEGABYTE
    body = stage.call(model, "large", size=size, count=1, headers=EVENTS).read_rest()
    assert body == b'data: "' + b"a" * size + b'"\n\n'


# --- the requested type


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("text/event-stream", EVENTS_TYPE),
        ("text/event-stream, */*;q=0.1", EVENTS_TYPE),
        ("application/json;q=0.5, text/event-stream;q=0.9", EVENTS_TYPE),
        ("Text/Event-Stream", EVENTS_TYPE),
        ("*/*", NDJSON_TYPE),
        ("", NDJSON_TYPE),
        ("application/json", NDJSON_TYPE),
        ("application/x-ndjson", NDJSON_TYPE),
        ("image/png", NDJSON_TYPE),
    ],
)
@pytest.mark.parametrize("model", ["plain", "bare", "header"])
def test_accept_header_decides(server: Server, model: str, accept: str, expected: str) -> None:
    response = server.predict(model, headers={"Accept": accept})
    assert (response.status_code, response.headers["content-type"]) == (200, expected)


def test_accept_header_may_come_in_two(server: Server) -> None:
    headers = [("Accept", "application/json"), ("Accept", "text/event-stream")]
    for model in ("plain", "bare"):
        response = server.predict(model, headers=headers)
        assert response.headers["content-type"] == EVENTS_TYPE


def test_argument_from_a_header_arrives_with_a_stream_of_events(server: Server) -> None:
    response = server.predict("header", headers=EVENTS | {"X-Token": "secret"})
    assert response.text == 'data: "secret"\n\n'


def test_events_are_sent_though_the_argument_says_otherwise(stage: Stage) -> None:
    caller = stage.call("plain", "gated", accept="text/plain", headers=EVENTS).read_head()
    assert caller.headers["content-type"] == EVENTS_TYPE


def test_media_type_that_the_header_prefers_is_streamed(stage: Stage) -> None:
    caller = stage.call("plain", "texts", headers={"Accept": "text/plain"}).read_head()
    # The argument has a default, which is used unless the argument is given.
    assert caller.headers["content-type"] in ("text/plain", NDJSON_TYPE)


def test_media_type_that_the_model_does_not_have_is_refused(stage: Stage) -> None:
    caller = stage.call("plain", accept="image/png")
    assert list(caller.json()) == ["accept"]
    assert caller.status == 422


# --- failures

FIRST = {
    "raise": (500, "predict_failed", "ValueError: it went wrong"),
    "http": (409, "refused_by_model", "refused"),
    "system-exit": (500, "predict_failed", "The model called sys.exit('it leaves')"),
    "object": (500, "result_not_encodable", "The model's result is not JSON: "),
}


@every
@pytest.mark.parametrize("headers", [{}, EVENTS])
@pytest.mark.parametrize("end", FIRST)
def test_failure_before_the_first_item_is_an_ordinary_error(
    stage: Stage, model: str, end: str, headers: dict[str, str]
) -> None:
    worker = pids(stage.server, model)
    caller = stage.call(model, count=0, end=end, headers=headers)
    status, code, message = caller.failure()
    assert (status, code) == FIRST[end][:2]
    assert message.startswith(FIRST[end][2])
    assert caller.headers["content-type"] == "application/json; charset=utf-8"
    stage.wait_for("finally")
    assert pids(stage.server, model) == worker


MIDWAY = {
    "raise": ("predict_failed", "ValueError: it went wrong"),
    "http": ("refused_by_model", "refused"),
    "system-exit": ("predict_failed", "The model called sys.exit('it leaves')"),
    "object": ("result_not_encodable", "The model's result is not JSON: "),
}


def check_error(error: dict[str, str], end: str) -> None:
    assert set(error) == {"message", "code", "request_id"}
    code, message = MIDWAY[end]
    assert error["code"] == code
    assert error["message"].startswith(message)


@every
@pytest.mark.parametrize("end", MIDWAY)
def test_failure_midway_is_the_last_line(stage: Stage, model: str, end: str) -> None:
    worker = pids(stage.server, model)
    caller = stage.call(model, end=end)
    *items, last = values(caller.read_rest())
    assert items == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert list(last) == ["error"]
    check_error(last["error"], end)
    assert (caller.status, caller.ended) == (200, True)
    stage.wait_for("finally")
    assert pids(stage.server, model) == worker


@every
@pytest.mark.parametrize("end", MIDWAY)
def test_failure_midway_is_the_last_event(stage: Stage, model: str, end: str) -> None:
    caller = stage.call(model, end=end, headers=EVENTS)
    *items, (name, error) = events(caller.read_rest())
    assert items == [("message", {"n": number}) for number in range(3)]
    assert name == "error"
    check_error(error, end)
    assert caller.ended


@every
def test_failure_midway_cuts_what_has_no_place_for_it(stage: Stage, model: str) -> None:
    caller = stage.call(model, "gated", end="raise", accept="text/plain")
    caller.read_until(b"first")
    stage.gate.touch()
    assert b"firstsecond".startswith(caller.read_rest())
    assert caller.ended is False
    stage.wait_for("finally")


@both
def test_what_is_no_content_of_the_media_type(stage: Stage, model: str) -> None:
    caller = stage.call(model, count=0, end="number", accept="text/plain")
    assert caller.failure()[:2] == (500, "result_not_encodable")
    caller = stage.call(model, "gated", end="number", accept="text/plain")
    caller.read_until(b"first")
    stage.gate.touch()
    caller.read_rest()
    assert caller.ended is False


@both
def test_bytes_that_are_no_text_are_no_json(stage: Stage, model: str) -> None:
    first, last = values(stage.call(model, count=0, end="bytes").read_rest())
    assert first == "good"
    assert last["error"]["code"] == "result_not_encodable"


def test_each_item_is_of_the_schema(stage: Stage) -> None:
    caller = stage.call("schema")
    assert values(caller.read_rest()) == [{"n": 0}, {"n": 1}, {"n": 2}]
    *items, last = values(stage.call("schema", end="violation").read_rest())
    assert items == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert last["error"]["code"] == "result_violates_schema"
    assert "Not a valid integer" in last["error"]["message"]
    (name, error) = events(stage.call("schema", end="violation", headers=EVENTS).read_rest())[-1]
    assert (name, error["code"]) == ("error", "result_violates_schema")


def test_first_item_that_is_not_of_the_schema_is_an_ordinary_error(stage: Stage) -> None:
    caller = stage.call("schema", count=0, end="violation")
    assert caller.failure()[:2] == (500, "result_violates_schema")
    stage.wait_for("finally")


def test_schema_is_in_the_description(server: Server) -> None:
    described = server.get("/swagger.json").json()
    operation = described["paths"]["/v2/models/schema/predict/"]["post"]
    assert "schema" in operation["responses"]["200"]


@every
@pytest.mark.parametrize("headers", [{}, EVENTS])
def test_death_midway_is_told(stage: Stage, model: str, headers: dict[str, str]) -> None:
    before = pids(stage.server, model)[0]
    caller = stage.call(model, end="die", headers=headers)
    if headers:
        *items, (name, error) = events(caller.read_rest())
        assert name == "error"
    else:
        *items, last = values(caller.read_rest())
        error = last["error"]
    assert len(items) == 3
    assert error["code"] == "worker_died"
    assert "exited with code 3" in error["message"]
    assert caller.ended
    assert not lives(before)
    assert len(values(stage.call(model).read_rest())) == 3


@every
def test_death_midway_cuts_what_has_no_place_for_it(stage: Stage, model: str) -> None:
    caller = stage.call(model, "gated", end="die", accept="text/plain")
    caller.read_until(b"first")
    stage.gate.touch()
    caller.read_rest()
    assert caller.ended is False
    assert len(values(stage.call(model).read_rest())) == 3


@every
def test_death_before_the_first_item_is_an_ordinary_error(stage: Stage, model: str) -> None:
    assert stage.call(model, count=0, end="die").failure()[:2] == (500, "worker_died")
    assert len(values(stage.call(model).read_rest())) == 3


# --- the end of a generator


@every
@pytest.mark.parametrize("close", ["raise", "exit"])
def test_failure_in_finally_is_one_midway(stage: Stage, model: str, close: str) -> None:
    worker = pids(stage.server, model)
    *items, last = values(stage.call(model, close=close).read_rest())
    assert len(items) == 3
    assert last["error"]["code"] == "predict_failed"
    assert "at the end" in last["error"]["message"]
    assert pids(stage.server, model) == worker


@every
@pytest.mark.parametrize("close", ["", "raise", "exit", "yield"])
def test_finally_runs_when_the_client_leaves(stage: Stage, model: str, close: str) -> None:
    worker = pids(stage.server, model)
    caller = stage.call(model, "sized", size=1000, count=1_000_000, close=close)
    caller.read_some(10_000)
    caller.abort()
    stage.wait_for("finally")
    assert values(stage.call(model, count=1).read_rest()) == [{"n": 0}]
    assert pids(stage.server, model) == worker
    assert stage.yields < 1_000_000


@every
def test_finally_runs_when_the_client_leaves_while_there_is_no_room(
    stage: Stage, model: str
) -> None:
    caller = stage.call(model, "sized", size=10_000, count=100_000, receive_buffer=4096)
    caller.read_some(1)
    stage.wait_until_it_waits()
    assert "finally" not in stage.noted
    caller.close()
    stage.wait_for("finally")
    assert values(stage.call(model, count=1).read_rest()) == [{"n": 0}]


@pytest.mark.parametrize("how", ["close", "abort"])
def test_finally_runs_when_the_client_leaves_while_an_async_generator_waits(
    stage: Stage, how: str
) -> None:
    worker = pids(stage.server, "async")
    caller = stage.call("async", "gated")
    caller.read_until(b"first")
    getattr(caller, how)()
    stage.wait_for("finally")
    assert stage.noted == ["begin", "cancelled", "finally"]
    assert pids(stage.server, "async") == worker


def test_async_generator_that_will_not_be_cancelled_is_ended_at_its_next_item(
    stage: Stage,
) -> None:
    caller = stage.call("async", "gated", close="swallow")
    caller.read_until(b"first")
    caller.abort()
    stage.wait_for("cancelled")
    stage.gate.touch()
    stage.wait_for("finally")


def test_finally_runs_after_the_client_has_left_a_plain_generator_that_waits(stage: Stage) -> None:
    """It cannot be interrupted; it is ended at its next yield."""
    caller = stage.call("plain", "gated", end="hang")
    caller.read_until(b"first")
    caller.abort()
    settle(stage.server)
    assert stage.noted == ["begin"]
    stage.gate.touch()
    stage.wait_for("finally")
    assert values(stage.call("plain", count=1).read_rest()) == [{"n": 0}]


@both
def test_client_that_leaves_before_the_first_item(stage: Stage, model: str) -> None:
    caller = stage.call(model, count=0, end="gate")
    stage.wait_for("begin")
    caller.abort()
    settle(stage.server)
    stage.gate.touch()
    stage.wait_for("finally")
    assert values(stage.call(model, count=1).read_rest()) == [{"n": 0}]


def test_client_that_leaves_is_no_reason_to_replace_a_worker(serve: Serve, tmp_path: Path) -> None:
    server = serve(MODELS, "--cancel-running")
    with contextlib.closing(Stage(server, tmp_path)) as stage:
        for model in ("plain", "async"):
            worker = pids(server, model)
            caller = stage.call(model, "sized", size=1000, count=1_000_000)
            caller.read_some(10_000)
            caller.abort()
            assert values(stage.call(model, count=1).read_rest()) == [{"n": 0}]
            assert pids(server, model) == worker
        stage.wait_for("finally", 4)


def test_many_clients_that_leave_leave_nothing_behind(stage: Stage) -> None:
    def descriptors() -> list[int]:
        everyone = [stage.server.pid, *pids(stage.server, "plain"), *pids(stage.server, "async")]
        return [psutil.Process(pid).num_fds() for pid in everyone]

    before = descriptors()
    for number in range(40):
        model = ("plain", "async")[number % 2]
        caller = stage.call(model, "sized", size=100_000, count=1000)
        if number % 4 < 2:
            caller.read_some(1)
        caller.abort()
    wait_until(lambda: stage.noted.count("begin") == stage.noted.count("finally"), within=10)
    settle(stage.server)
    wait_until(lambda: descriptors() <= before, within=5, what="the closing of descriptors")


# --- slow readers


@every
def test_reader_that_does_not_read_stops_the_generator(stage: Stage, model: str) -> None:
    """The buffers in the connection, the server and the worker are bounded."""
    size, count = 10_000, 20_000  # 200 MB in total
    processes = [stage.server.pid, *pids(stage.server, model)]
    with Growth(processes[0]) as server_growth, Growth(processes[1]) as worker_growth:
        caller = stage.call(model, "sized", size=size, count=count, receive_buffer=4096)
        caller.read_some(1)
        yields = stage.wait_until_it_waits()
    assert yields * size < 16 * MEGABYTE  # mostly the kernel's socket buffers
    assert server_growth.bytes < 8 * MEGABYTE
    assert worker_growth.bytes < 8 * MEGABYTE
    caller.read_some(yields * size)
    wait_until(lambda: stage.yields > yields, within=10, what="the next item")


def test_slow_readers_hold_up_no_other_stream(stage: Stage) -> None:
    slow = [
        stage.call("async", "sized", size=10_000, count=100_000, receive_buffer=4096)
        for _ in range(2)
    ]
    for caller in slow:
        caller.read_some(1)
    stage.wait_until_it_waits()
    body = stage.call("async", count=2000).read_rest()
    assert len(values(body)) == 2000
    assert "finally" in stage.noted
    assert stage.noted.count("finally") == 1


@pytest.mark.parametrize("size", ["1", "100", "10000000"])
def test_stream_is_the_same_whatever_may_be_under_way(
    serve: Serve, tmp_path: Path, size: str
) -> None:
    server = serve(MODELS, "--stream-buffer", size)
    with contextlib.closing(Stage(server, tmp_path)) as stage:
        for model in MODELS:
            assert len(values(stage.call(model, count=500).read_rest())) == 500
            body = stage.call(model, "large", size=300_000, accept="text/plain").read_rest()
            assert body == b"".join(letter * 300_000 for letter in (b"a", b"b", b"c"))


@pytest.fixture(scope="module")
def impatient(serve_all: Serve) -> Server:
    return serve_all(MODELS, "--send-timeout", "0.7")


@both
@pytest.mark.parametrize("size", [1000, 60_000, 1_000_000])
def test_client_that_takes_nothing_is_cut_off(
    impatient: Server, tmp_path: Path, model: str, size: int
) -> None:
    with contextlib.closing(Stage(impatient, tmp_path)) as stage:
        count = 100_000_000 // size
        caller = stage.call(model, "sized", size=size, count=count, receive_buffer=4096)
        caller.read_some(1)
        stage.wait_for("finally")
        wait_until(lambda: connections(impatient) == 0, within=5, what="the end of the connection")
        caller.read_rest()
        assert caller.ended is False


@both
def test_client_that_does_not_take_the_end_does_not_hold_the_request(
    serve: Serve, tmp_path: Path, model: str
) -> None:
    """The generator has ended, but its last items have not been sent."""
    server = serve(MODELS, "--send-timeout", "1")
    sent = {"size": 20_000, "receive_buffer": 4096}
    with contextlib.closing(Stage(server, tmp_path)) as stage:
        stage.call(model, "sized", count=10_000, **sent).read_some(1)
        under_way = stage.wait_until_it_waits()
        stage.wait_for("finally")
        for less in (1, 2, 3, 4, 6):
            stage.call(model, "sized", count=under_way - less, **sent).read_some(1)
        stage.wait_for("finally", 6)
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait_end(within=8) == 0  # otherwise it waits for requests that never end


def connections(server: Server) -> int:
    found = psutil.Process(server.pid).net_connections("tcp")
    return len([one for one in found if one.status == psutil.CONN_ESTABLISHED])


# --- time


LIMIT = 2.5


@pytest.fixture(scope="module")
def limited(serve_all: Serve) -> Server:
    return serve_all(MODELS, "--predict-timeout", f"{LIMIT:g}")


@pytest.fixture
def strict(limited: Server, tmp_path: Path) -> Iterator[Stage]:
    for model in MODELS:  # the previous test may have ended one
        wait_ready(limited, model)
    with contextlib.closing(Stage(limited, tmp_path)) as stage:
        yield stage


@both
def test_stream_may_take_longer_than_an_item(strict: Stage, model: str) -> None:
    began = time.monotonic()
    body = strict.call(model, "paced", count=8, seconds=LIMIT / 6).read_rest()
    assert values(body) == [{"n": number} for number in range(8)]
    assert time.monotonic() - began > LIMIT


def test_plain_generator_that_takes_too_long_for_an_item_is_ended(strict: Stage) -> None:
    worker = pids(strict.server, "plain")[0]
    caller = strict.call("plain", end="hang")
    *items, last = values(caller.read_rest())
    assert len(items) == 3
    assert last["error"]["code"] == "timeout"
    assert last["error"]["message"] == f"The prediction took longer than {LIMIT:g} s"
    wait_gone([worker])
    wait_ready(strict.server, "plain")
    assert values(strict.call("plain", count=1).read_rest()) == [{"n": 0}]


def test_async_generator_that_takes_too_long_for_an_item_is_cancelled(strict: Stage) -> None:
    worker = pids(strict.server, "async")
    caller = strict.call("async", end="hang", headers=EVENTS)
    *items, (name, error) = events(caller.read_rest())
    assert len(items) == 3
    assert (name, error["code"]) == ("error", "timeout")
    strict.wait_for("finally")
    assert strict.noted == ["begin", "cancelled", "finally"]
    assert pids(strict.server, "async") == worker


@both
def test_hang_before_the_first_item_is_504(strict: Stage, model: str) -> None:
    caller = strict.call(model, count=0, end="hang")
    assert caller.failure() == (504, "timeout", f"The prediction took longer than {LIMIT:g} s")


@both
def test_slow_reader_is_not_the_generators_fault(strict: Stage, model: str) -> None:
    worker = pids(strict.server, model)
    caller = strict.call(model, "sized", size=10_000, count=3000)
    caller.read_some(1)
    yields = strict.wait_until_it_waits()
    end = time.monotonic() + 1.7 * LIMIT
    while time.monotonic() < end:
        assert strict.yields == yields
        time.sleep(0.1)
    assert yields < 3000
    body = caller.read_rest()
    assert (caller.ended, len(values(body))) == (True, 3000)
    assert pids(strict.server, model) == worker


@both
def test_time_that_a_caller_gives_is_the_streams_end(stage: Stage, model: str) -> None:
    worker = pids(stage.server, model)
    headers = {"X-Request-Timeout": "0.5"}
    caller = stage.call(model, "paced", count=1000, seconds=0.05, headers=headers)
    *items, last = values(caller.read_rest())
    assert items == [{"n": number} for number in range(len(items))]
    assert last["error"]["code"] == "timeout"
    stage.wait_for("finally")
    assert pids(stage.server, model) == worker


# --- the connection


@both
@pytest.mark.parametrize(
    ("parameters", "status", "expected"),
    [
        ({"count": 2}, 200, b'{"n":0}\n{"n":1}\n'),
        ({"count": 0}, 200, b""),
        ({"kind": "large", "size": 100_000, "count": 1}, 200, b'"' + b"a" * 100_000 + b'"\n'),
        ({"count": 1, "end": "raise"}, 200, b'{"n":0}\n{"error":'),
        ({"count": 0, "end": "raise"}, 500, b'{"message":"ValueError: it went wrong"'),
        ({"count": 0, "end": "http"}, 409, b'{"message":"refused"'),
    ],
)
def test_connection_is_kept_after_a_stream(
    server: Server, model: str, parameters: dict[str, Any], status: int, expected: bytes
) -> None:
    """The same request gets the same response on it."""
    connection = http.client.HTTPConnection(HOST, server.port, timeout=25)
    answers = []
    for _ in range(4):
        target = f"/v2/models/{model}/predict/?{urlencode(parameters)}"
        connection.request("POST", target, headers={"X-Request-ID": "the-same"})
        socket = connection.sock
        response = connection.getresponse()
        answers.append((response.status, response.getheader("Content-Type"), response.read()))
        assert connection.sock is socket
    connection.close()
    assert answers[0][0] == status
    assert answers[0][2].startswith(expected)
    assert answers == [answers[0]] * 4


@both
def test_client_that_leaves_a_repeated_stream(stage: Stage, model: str) -> None:
    """A request that is repeated on a connection takes the fast path, with the same result."""
    path = f"/v2/models/{model}/predict/?"
    path += urlencode({"kind": "gated", "note": stage.note, "gate": stage.gate})
    stage.gate.touch()
    connection = http.client.HTTPConnection(HOST, stage.server.port, timeout=25)
    for _ in range(2):
        connection.request("POST", path)
        assert connection.getresponse().read() == b'"first"\n"second"\n'
    stage.gate.unlink()
    connection.request("POST", path)
    assert connection.getresponse().readline() == b'"first"\n'
    connection.close()
    settle(stage.server)
    stage.gate.touch()
    stage.wait_for("finally", 3)
    assert values(stage.call(model, count=1).read_rest()) == [{"n": 0}]


@both
def test_old_protocol_has_the_end_of_the_connection(stage: Stage, model: str) -> None:
    caller = stage.call(model, "gated", version="1.0")
    assert caller.read_until(b"\n") == b'"first"\n'
    assert "transfer-encoding" not in caller.headers
    stage.gate.touch()
    assert caller.read_rest() == b'"first"\n"second"\n'
    assert caller.ended


@both
def test_old_protocol_is_cut_by_a_failure(stage: Stage, model: str) -> None:
    caller = stage.call(model, "gated", end="raise", accept="text/plain", version="1.0")
    caller.read_until(b"first")
    stage.gate.touch()
    caller.read_rest()
    assert caller.ended is False


def test_common_client_reads_lines_as_they_come(stage: Stage) -> None:
    parameters = {"kind": "gated", "gate": str(stage.gate)}
    url = f"{stage.server.url}/v2/models/plain/predict/"
    with httpx.stream("POST", url, params=parameters, trust_env=False, timeout=25) as response:
        rows = response.iter_lines()
        assert next(rows) == '"first"'
        stage.gate.touch()
        assert next(rows) == '"second"'


@both
def test_upload_is_there_until_the_end_of_the_stream(stage: Stage, model: str) -> None:
    form = multipart(Part("data", b"content of the file", "data.txt"))
    caller = stage.call(model, "upload", **form)
    caller.read_until(b"first")
    assert len(uploads(stage.server)) == 1
    stage.gate.touch()
    assert values(caller.read_rest()) == ["first", "content of the file"]
    wait_until(lambda: not uploads(stage.server), within=3, what="the removal of the upload")


@both
def test_upload_is_removed_after_the_client_has_left(stage: Stage, model: str) -> None:
    form = multipart(Part("data", b"content of the file", "data.txt"))
    caller = stage.call(model, "upload", **form)
    caller.read_until(b"first")
    caller.abort()
    stage.gate.touch()
    stage.wait_for("finally")
    wait_until(lambda: not uploads(stage.server), within=3, what="the removal of the upload")


def uploads(server: Server) -> list[Path]:
    return server.uploads()


def test_stream_is_one_call_at_a_time(stage: Stage) -> None:
    """A second stream begins when the first has ended or its client has left."""
    first = stage.call("plain", "gated")
    first.read_until(b"first")
    second = stage.call("plain", "gated")
    settle(stage.server)
    assert stage.noted == ["begin"]
    stage.gate.touch()
    assert first.read_rest() == second.read_rest() == b'"first"\n"second"\n'
    assert stage.noted == ["begin", "finally"] * 2


@both
def test_stream_ends_well_while_the_server_drains(serve: Serve, tmp_path: Path, model: str) -> None:
    server = serve(MODELS)
    with contextlib.closing(Stage(server, tmp_path)) as stage:
        caller = stage.call(model, "gated")
        caller.read_until(b"first")
        os.kill(server.pid, signal.SIGTERM)
        wait_until(lambda: not server.is_open(), within=5, what="the end of listening")
        stage.gate.touch()
        assert caller.read_rest() == b'"first"\n"second"\n'
        assert caller.ended
        assert server.wait_end() == 0
        assert stage.noted == ["begin", "finally"]


def test_stream_that_does_not_end_is_ended_when_draining_takes_too_long(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve(MODELS, "--drain-timeout", "0.5", "--stop-timeout", "1")
    with contextlib.closing(Stage(server, tmp_path)) as stage:
        caller = stage.call("plain", "paced", count=100_000, seconds=0.05)
        caller.read_until(b"\n")
        os.kill(server.pid, signal.SIGTERM)
        *items, last = values(caller.read_rest())
        assert items == [{"n": number} for number in range(len(items))]
        assert last["error"]["code"] == "server_stopping"
        assert server.wait_end() == 0
