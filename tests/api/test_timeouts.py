"""Clients that get nowhere with sending or receiving, and models that get nowhere with starting."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import Serve
from tests.serving.callers import (
    WAIT_SECONDS,
    Caller,
    Callers,
    Journal,
    code_of,
    descriptors,
    message_of,
    predicted,
    wait_for_descriptors,
    wait_no_files,
)
from tests.serving.processes import MEGABYTE, answers, health, lives, pids, wait_gone
from tests.support import Part, Server, multipart, run_program, wait_until

FORM = multipart(Part("data", b"x" * 300_000, "a.bin"))
JSON = {"Content-Type": "application/json"}
BODIES: dict[str, tuple[dict[str, str], bytes]] = {
    "small": (JSON, b'{"text": "abc"}'),
    "large": (JSON, b'{"text": "' + b"x" * 300_000 + b'"}'),
    "form": (FORM["headers"], FORM["content"]),
}


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


# --- --receive-timeout


@pytest.fixture(scope="module")
def hasty(serve_all: Serve) -> Server:
    """A server with little patience for its clients."""
    return serve_all({}, "zoo.gated", "--receive-timeout", "2", "--send-timeout", "2")


@pytest.mark.parametrize("kind", BODIES)
def test_client_that_stops_sending_is_408(hasty: Server, journal: Journal, kind: str) -> None:
    """Before the body, in its middle, or before its last byte."""
    headers, body = BODIES[kind]
    whole = len(body)
    before = descriptors(hasty)
    with Callers(Caller(hasty) for _ in range(3)) as callers:
        began = time.monotonic()
        for caller, sent in zip(callers, (0, whole // 2, whole - 1), strict=True):
            start = body[:sent]
            caller.predict("gated", journal.args(1), headers=headers, body=start, length=whole)
        for caller in callers:
            answer = caller.answer()
            assert time.monotonic() - began >= 1.9
            assert answer.status == 408
            assert code_of(answer) == "receive_timeout"
            assert "2 s" in message_of(answer)
    assert journal.events() == []
    wait_no_files(hasty)
    wait_for_descriptors(hasty, before)


def test_client_that_stops_sending_chunks_is_408(hasty: Server, journal: Journal) -> None:
    head = (
        f"POST /v2/models/gated/predict/?journal={journal.directory} HTTP/1.1\r\n"
        "Host: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with Caller(hasty) as caller:
        caller.send(head.encode() + b'9\r\n{"text": \r\n')
        answer = caller.answer()
    assert (answer.status, code_of(answer)) == (408, "receive_timeout")
    assert journal.events() == []


def test_rest_that_comes_after_the_refusal_is_no_request(hasty: Server, journal: Journal) -> None:
    """The connection is closed, or serves on with what follows the rest."""
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
    before = len(hasty.log())
    with Caller(hasty) as caller:
        caller.predict("gated", journal.args(1), headers=JSON, length=len(smuggled))
        assert caller.answer().status == 408
        with contextlib.suppress(BrokenPipeError, ConnectionError):
            caller.send(smuggled)
            caller.predict("gated", journal.args(2))
            assert predicted(caller.answer())["number"] == 2
    assert "smuggled" not in hasty.log()[before:]
    assert set(journal.numbers("begin")) <= {2}


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"POST /v2/models/gated/pre",
        b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\nX-Hal",
    ],
    ids=["nothing", "half a line", "half a header"],
)
def test_client_that_never_ends_its_head_is_cut_off(hasty: Server, start: bytes) -> None:
    before = descriptors(hasty)
    with Callers(Caller(hasty) for _ in range(5)) as callers:
        for caller in callers:
            caller.send(start)
        for caller in callers:
            rest = caller.rest()
            assert rest == b"" or rest.startswith((b"HTTP/1.1 408", b"HTTP/1.1 400"))
    wait_for_descriptors(hasty, before)


def test_connection_that_rests_between_two_requests_is_kept(hasty: Server) -> None:
    with Caller(hasty) as caller:
        for _ in range(2):
            caller.request("GET", "/v2/health/live")
            assert caller.answer().status == 200
            time.sleep(3)  # more than a body may pause


def test_client_that_sends_slowly_but_surely_is_served(hasty: Server, journal: Journal) -> None:
    """It takes longer than the limit in all, but never pauses as long."""
    body = BODIES["small"][1]
    with Caller(hasty) as caller:
        began = time.monotonic()
        caller.predict("gated", journal.args(1), headers=JSON, length=len(body))
        for start in range(0, len(body), 3):
            time.sleep(0.5)
            caller.send(body[start : start + 3])
        assert predicted(caller.answer())["text"] == 3
        assert time.monotonic() - began > 2


def test_time_to_predict_is_not_counted(hasty: Server, journal: Journal) -> None:
    headers, body = BODIES["form"]
    with Caller(hasty) as caller:
        sent = journal.args(1, seconds=3.0)
        caller.predict("gated", sent, headers=headers, body=body)
        assert predicted(caller.answer())["number"] == 1


def test_receive_timeout_of_0_is_no_limit(serve: Serve, journal: Journal) -> None:
    body = BODIES["small"][1]
    server = serve({}, "zoo.gated", "--receive-timeout", "0")
    with Caller(server) as caller:
        caller.predict("gated", journal.args(1), headers=JSON, body=body[:5], length=len(body))
        with pytest.raises(TimeoutError):
            caller.receive(timeout=1)
        caller.send(body[5:])
        assert predicted(caller.answer())["number"] == 1


# --- --send-timeout

BIG: dict[str, Any] = {"do": "file", "size": 64 * MEGABYTE, "accept": "application/octet-stream"}
ENDLESS: dict[str, Any] = {"do": "stream", "size": 0}


def reluctant(server: Server) -> Caller:
    """A client that takes in little at a time."""
    return Caller(server, receive_buffer=16 * 1024)


def connections(server: Server) -> int:
    found = psutil.Process(server.pid).net_connections("tcp")
    return len([one for one in found if one.status == psutil.CONN_ESTABLISHED])


@pytest.mark.parametrize("what", [BIG, ENDLESS], ids=["file", "stream"])
def test_client_that_takes_nothing_is_cut_off(
    hasty: Server, journal: Journal, what: dict[str, Any]
) -> None:
    before = descriptors(hasty)
    worker = pids(hasty, "gated")
    with reluctant(hasty) as caller:
        began = time.monotonic()
        caller.predict("gated", journal.args(1, **what))
        assert b" 200 OK" in caller.receive(1000)
        wait_until(lambda: connections(hasty) == 0, within=WAIT_SECONDS, what="the end of it")
        assert time.monotonic() - began >= 0.9
        if what is ENDLESS:
            journal.wait_for("closed", 1)
        wait_for_descriptors(hasty, before)
        assert not caller.rest().endswith(b"0\r\n\r\n")
    assert answers(hasty, "gated")["pid"] == worker[0]


def test_answer_that_nobody_takes_is_held_in_memory_no_longer(
    hasty: Server, journal: Journal
) -> None:
    """Also a whole one, which is no file and no stream."""
    before = descriptors(hasty)
    with Callers(reluctant(hasty) for _ in range(20)) as callers:
        for number, caller in enumerate(callers):
            caller.predict("gated", journal.args(number, do="json", size=1_000_000))
        journal.wait_for("end", 19)
        wait_until(lambda: connections(hasty) == 0, within=WAIT_SECONDS, what="the end of them")
        wait_for_descriptors(hasty, before)
    assert answers(hasty, "gated")


def test_client_that_takes_slowly_but_surely_gets_all(hasty: Server, journal: Journal) -> None:
    """It takes longer than the limit in all, but never pauses as long."""
    received = []
    with Caller(hasty, receive_buffer=128 * 1024) as caller:
        began = time.monotonic()
        sent = journal.args(1, **{**BIG, "size": 24 * MEGABYTE})
        caller.predict("gated", sent, headers={"Connection": "close"})
        while data := caller.receive(512 * 1024):
            received.append(data)
            if time.monotonic() - began < 3:
                time.sleep(0.05)
        assert time.monotonic() - began > 2.5
    assert len(b"".join(received).partition(b"\r\n\r\n")[2]) == 24 * MEGABYTE


def test_model_that_is_slow_to_yield_is_no_client_that_takes_nothing(
    hasty: Server, journal: Journal
) -> None:
    with Caller(hasty) as caller:
        sent = journal.args(1, gate="gate", do="stream", size=2)
        caller.predict("gated", sent, headers={"Connection": "close"})
        journal.wait_for("waits", 1)
        time.sleep(3)
        journal.open("gate")
        assert caller.rest().endswith(b"0\r\n\r\n")


def test_send_timeout_of_0_is_no_limit(serve: Serve, journal: Journal) -> None:
    server = serve({}, "zoo.gated", "--send-timeout", "0")
    with reluctant(server) as caller:
        caller.predict("gated", journal.args(1, **BIG), headers={"Connection": "close"})
        start = caller.receive(1000)
        time.sleep(1.5)
        whole = start + caller.rest()
    assert len(whole.partition(b"\r\n\r\n")[2]) == BIG["size"]


# --- --start-timeout


@pytest.mark.parametrize("where", ["import", "warm"])
def test_model_that_hangs_at_the_start_is_not_served_and_the_others_are(
    serve: Serve, tmp_path: Path, where: str
) -> None:
    note = tmp_path / "note"
    env = {"ZOO_HANG": where, "ZOO_NOTE": str(note)}
    flags = ["--start-timeout", "6", "--restart-delay-max", "60"]
    server = serve({}, "zoo.echo", "zoo.hangs", *flags, env=env)
    phase = {"import": "importing", "warm": "warming"}[where]
    reason = f"was not ready in 6 s (--start-timeout); it was still {phase}"
    wait_gone([int(note.read_text())])
    described = health(server, "hangs")
    assert (described["ready"], described["pids"]) == (False, [])
    assert reason in described["problem"]
    response = server.predict("hangs")
    assert (response.status_code, response.json()["code"]) == (503, "model_not_ready")
    assert reason in response.json()["message"]
    assert f"Model hangs {reason}" in server.log()
    assert answers(server, "echo", params={"text": "a"}) == {"text": ["str", "a"]}


def test_server_with_nothing_but_a_model_that_hangs_ends_with_1(tmp_path: Path) -> None:
    note = tmp_path / "note"
    env = {"ZOO_HANG": "warm", "ZOO_NOTE": str(note)}
    args = ["--listen-port", "0", "--start-timeout", "5", "zoo.hangs"]
    finished = run_program(tmp_path, args, env=env)
    assert finished.code == 1
    assert "was not ready in 5 s (--start-timeout); it was still warming" in finished.output
    assert "Traceback" not in finished.output
    assert not lives(int(note.read_text()))


def test_start_that_is_slow_but_in_time_is_waited_for(serve: Serve, tmp_path: Path) -> None:
    env = {"ZOO_SECONDS": "1", "ZOO_NOTE": str(tmp_path / "note")}
    server = serve({}, "zoo.slow", "--start-timeout", "0", env=env)
    assert answers(server, "slow") == "predicted"
