"""Clients that stall while sending or receiving, and models that stall while starting.

These tests use real servers and the real clock. `test_timeouts_inside.py` has more cases, with a
clock that is moved ahead.
"""

from __future__ import annotations

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
    """Start a server with short timeouts."""
    return serve_all({}, "zoo.gated", "--receive-timeout", "2", "--send-timeout", "2")


CHUNKED = (
    "POST /v2/models/gated/predict/?journal={} HTTP/1.1\r\nHost: localhost\r\n"
    'Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{{"text": \r\n'
)


def test_client_that_stops_sending_is_408(hasty: Server, journal: Journal) -> None:
    """The client stops before the body, inside it, before its last byte, or inside the chunks."""
    before = descriptors(hasty)
    with Callers(Caller(hasty) for _ in range(3 * len(BODIES) + 1)) as callers:
        began = time.monotonic()
        *others, last = callers
        last.send(CHUNKED.format(journal.directory).encode())
        for headers, body in BODIES.values():
            whole = len(body)
            for sent in (0, whole // 2, whole - 1):
                start = body[:sent]
                args = journal.args(1)
                others.pop().predict("gated", args, headers=headers, body=start, length=whole)
        for caller in callers:
            answer = caller.answer()
            assert time.monotonic() - began >= 1.9
            assert answer.status == 408
            assert code_of(answer) == "receive_timeout"
            assert "2 s" in message_of(answer)
    assert journal.events() == []
    wait_no_files(hasty)
    wait_for_descriptors(hasty, before)


STARTS = {
    "nothing": b"",
    "half a line": b"POST /v2/models/gated/pre",
    "half a header": b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\nX-Hal",
}


def test_client_that_never_ends_its_head_is_cut_off(hasty: Server) -> None:
    before = descriptors(hasty)
    with Callers(Caller(hasty) for _ in range(5 * len(STARTS))) as callers:
        for caller, start in zip(callers, 5 * list(STARTS.values()), strict=True):
            caller.send(start)
        for caller in callers:
            rest = caller.rest()
            assert rest == b"" or rest.startswith((b"HTTP/1.1 408", b"HTTP/1.1 400"))
    wait_for_descriptors(hasty, before)


# --- --send-timeout

BIG: dict[str, Any] = {"do": "file", "size": 64 * MEGABYTE, "accept": "application/octet-stream"}
ENDLESS: dict[str, Any] = {"do": "stream", "size": 0}


def reluctant(server: Server) -> Caller:
    """Return a client with a small receive buffer."""
    return Caller(server, receive_buffer=16 * 1024)


def connections(server: Server) -> int:
    found = psutil.Process(server.pid).net_connections("tcp")
    return len([one for one in found if one.status == psutil.CONN_ESTABLISHED])


def test_client_that_takes_nothing_is_cut_off(hasty: Server, journal: Journal) -> None:
    """This holds for a file and for a stream."""
    before = descriptors(hasty)
    worker = pids(hasty, "gated")
    with Callers(reluctant(hasty) for _ in range(2)) as callers:
        began = time.monotonic()
        for number, (caller, what) in enumerate(zip(callers, (BIG, ENDLESS), strict=True)):
            caller.predict("gated", journal.args(number, **what))
            assert b" 200 OK" in caller.receive(1000)
        wait_until(lambda: connections(hasty) == 0, within=WAIT_SECONDS, what="the end of them")
        assert time.monotonic() - began >= 0.9
        journal.wait_for("closed", 1)
        wait_for_descriptors(hasty, before)
        for caller in callers:
            assert not caller.rest().endswith(b"0\r\n\r\n")
    assert answers(hasty, "gated")["pid"] == worker[0]


def test_answer_that_nobody_takes_is_held_in_memory_no_longer(
    hasty: Server, journal: Journal
) -> None:
    """This holds for a response that is neither a file nor a stream, too."""
    before = descriptors(hasty)
    with Callers(reluctant(hasty) for _ in range(20)) as callers:
        for number, caller in enumerate(callers):
            caller.predict("gated", journal.args(number, do="json", size=1_000_000))
        journal.wait_for("end", 19)
        wait_until(lambda: connections(hasty) == 0, within=WAIT_SECONDS, what="the end of them")
        wait_for_descriptors(hasty, before)
    assert answers(hasty, "gated")


# --- --start-timeout


def test_model_that_hangs_at_the_start_is_not_served_and_the_others_are(
    serve: Serve, tmp_path: Path
) -> None:
    note = tmp_path / "note"
    env = {"ZOO_HANG": "warm", "ZOO_NOTE": str(note)}
    flags = ["--start-timeout", "6", "--restart-delay-max", "60"]
    server = serve({}, "zoo.echo", "zoo.hangs", *flags, env=env)
    reason = "was not ready in 6 s (--start-timeout); it was still warming"
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
