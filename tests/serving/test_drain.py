"""A server that receives a signal to stop: it finishes accepted requests in the drain timeout."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import short_and_long
from tests.serving.callers import (
    EITHER_WAY,
    WAIT_SECONDS,
    Caller,
    Journal,
    Load,
    code_of,
    make_journal,
    predicted,
    queue,
    settle,
)
from tests.serving.processes import lives, pids
from tests.support import Part, RawAnswer, Server, multipart, wait_until

FORM = multipart(Part("data", b"x" * 400_000, "a.bin"))


@pytest.fixture
def journal(tmp_path: Path, request: pytest.FixtureRequest) -> Journal:
    return make_journal(tmp_path, request)


class Ending:
    """A server that a test stops, with checks of what is left."""

    def __init__(self, *args: str) -> None:
        self.server = Server(args=args).start()
        self.log_before = ""

    def tell(self, signum: signal.Signals = signal.SIGTERM) -> None:
        """Send the signal, and wait until the server has closed its port."""
        self.everyone = [process.pid for process in self.server.processes()]
        os.kill(self.server.pid, signum)
        wait_until(lambda: not self.server.is_open(), within=5, what="the closed port")

    def assert_ends(self, code: int = 0, *, within: float = WAIT_SECONDS) -> None:
        """Check that the server ends with this exit code and leaves no process and no file."""
        assert self.server.wait_end(within=within) == code
        left = [pid for pid in self.everyone if lives(pid)]
        assert left == []
        assert [path for path in (self.server.home / "tmp").iterdir() if path.is_dir()] == []
        assert "Traceback" not in self.server.log()


@pytest.fixture
def started() -> Iterator[Any]:
    """A function that starts servers; those still running are killed after the test."""
    endings: list[Ending] = []

    def start(*args: str) -> Ending:
        endings.append(Ending(*args))
        return endings[-1]

    yield start
    for ending in endings:
        ending.server.kill()


def begin(ending: Ending, journal: Journal, number: int, gate: str, **args: Any) -> Caller:
    caller = Caller(ending.server)
    caller.predict("gated", journal.args(number, gate=gate, **args))
    journal.wait_for("begin", number)
    return caller


def assert_stopping(answer: RawAnswer) -> None:
    assert answer.status == 503
    assert code_of(answer) == "server_stopping"
    assert int(answer.header("Retry-After") or 0) >= 1
    assert answer.header("Connection") == "close"


# --- accepted requests are finished


@EITHER_WAY
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_what_runs_and_what_waits_is_answered(
    started: Any, journal: Journal, signum: signal.Signals
) -> None:
    """This includes the calls beyond the 16 that a worker receives at once."""
    ending: Ending = started("zoo.gated")
    journal.prepare(ending.server, "gated")
    worker = pids(ending.server, "gated")[0]
    with (
        begin(ending, journal, 0, "gate") as running,
        queue(ending.server, "gated", journal, range(1, 21)) as waiting,
    ):
        ending.tell(signum)
        said = r"Waiting for 21 request\(s\)"
        wait_until(lambda: re.search(said, ending.server.log()), within=5, what="the log")
        journal.open("gate")
        for number, caller in enumerate([running, *waiting]):
            answer = caller.answer()
            assert predicted(answer)["number"] == number
            assert predicted(answer)["pid"] == worker
            assert answer.header("Connection") == "close"
            assert caller.is_closed()
    ending.assert_ends()
    assert journal.numbers("end") == list(range(21))


def test_upload_that_has_begun_may_be_sent_to_its_end(started: Any, journal: Journal) -> None:
    ending: Ending = started("zoo.gated")
    with Caller(ending.server) as caller:
        content = FORM["content"]
        sent = journal.args(1)
        half, length = content[:200_000], len(content)
        caller.predict("gated", sent, headers=FORM["headers"], body=half, length=length)
        wait_until(ending.server.temporary_files, within=5, what="the upload")
        ending.tell()
        caller.send(content[200_000:])
        assert predicted(caller.answer())["number"] == 1
    assert journal.numbers("read") == [400_000]
    ending.assert_ends()


@EITHER_WAY
def test_stream_goes_on_to_its_end(started: Any, journal: Journal) -> None:
    ending: Ending = started("zoo.gated")
    journal.prepare(ending.server, "gated")
    with Caller(ending.server) as caller:
        caller.predict("gated", journal.args(1, gate="gate", do="stream", size=2))
        journal.wait_for("waits", 1)
        ending.tell()
        journal.open("gate")
        text = caller.rest().decode()
    assert '"item":"last"' in text
    assert text.endswith("\r\n0\r\n\r\n")
    assert journal.numbers("closed") == [1]
    ending.assert_ends()


def test_file_is_sent_to_its_end(started: Any, journal: Journal) -> None:
    size = 32 * 1024 * 1024
    ending: Ending = started("zoo.gated")
    with Caller(ending.server) as caller:
        accept = "application/octet-stream"
        caller.predict("gated", journal.args(1, do="file", size=size, accept=accept))
        start = caller.receive(1000)
        assert b" 200 OK" in start
        ending.tell()
        whole = start + caller.rest()
    assert len(whole.partition(b"\r\n\r\n")[2]) == size
    ending.assert_ends()


@EITHER_WAY
def test_calls_of_a_worker_that_dies_meanwhile_go_to_the_next(
    started: Any, journal: Journal
) -> None:
    ending: Ending = started("zoo.gated")
    journal.prepare(ending.server, "gated")
    with (
        begin(ending, journal, 1, "gate", do="exit") as dying,
        queue(ending.server, "gated", journal, range(2, 4)) as waiting,
    ):
        ending.tell()
        journal.open("gate")
        assert code_of(dying.answer()) == "worker_died"
        assert [predicted(caller.answer())["number"] for caller in waiting] == [2, 3]
    ending.assert_ends()
    assert journal.numbers("begin") == [1, 2, 3]


def test_server_with_nothing_to_do_ends_at_once(started: Any) -> None:
    ending: Ending = started("zoo.gated", "zoo.echo", "--workers", "2")
    with Caller(ending.server) as idle, Caller(ending.server):
        idle.request("GET", "/v2/health/live")
        assert idle.answer().status == 200
        ending.tell()
        ending.assert_ends(within=2)
        assert idle.is_closed()


def test_client_that_says_half_a_request_holds_up_nobody(started: Any) -> None:
    ending: Ending = started("zoo.gated")
    with Caller(ending.server) as caller:
        caller.send(b"POST /v2/models/gated/predict/ HTTP/1.1\r\nHost: localhost\r\n")
        settle(ending.server)
        ending.tell()
        ending.assert_ends(within=3)


# --- later requests do not begin


@EITHER_WAY
def test_new_requests_are_refused_on_old_connections_and_new_ones_are_not_taken(
    started: Any, journal: Journal
) -> None:
    ending: Ending = started("zoo.gated", "--admin-endpoint")
    journal.prepare(ending.server, "gated")
    with (
        Caller(ending.server) as old,
        Caller(ending.server) as large,
        Caller(ending.server) as admin,
        Caller(ending.server) as late,
    ):
        for caller in (old, large, admin, late):
            caller.request("GET", "/v2/health/ready")
            assert caller.answer().status == 200
        with begin(ending, journal, 0, "gate") as running:
            ending.tell()
            old.predict("gated", journal.args(1))
            assert_stopping(old.answer())
            assert old.is_closed()
            large.predict("gated", journal.args(2), length=1024**3)
            assert_stopping(large.answer())
            admin.request("POST", "/v2/models/gated/reload")
            assert_stopping(admin.answer())
            journal.open("gate")
            assert predicted(running.answer())["number"] == 0
        ending.assert_ends()
    assert journal.numbers("begin") == [0]


@EITHER_WAY
def test_request_in_the_wake_of_another_is_refused(started: Any, journal: Journal) -> None:
    """It is sent before the response, on the connection whose request is being finished."""
    ending: Ending = started("zoo.gated")
    journal.prepare(ending.server, "gated")
    with begin(ending, journal, 1, "gate") as caller:
        caller.predict("gated", journal.args(2))
        settle(ending.server)
        ending.tell()
        journal.open("gate")
        assert predicted(caller.answer())["number"] == 1
        rest = caller.rest()
    assert rest == b"" or b" 503 " in rest.partition(b"\r\n")[0]
    ending.assert_ends()
    assert journal.numbers("begin") == [1]


def test_health_tells_of_the_end(started: Any, journal: Journal) -> None:
    ending: Ending = started("zoo.gated")
    paths = ["/v2/health/live", "/v2/health/ready", "/v2/models/gated/ready"]
    callers = [Caller(ending.server) for _ in paths]
    for caller in callers:
        caller.request("GET", "/v2/health/live")
        assert caller.answer().status == 200
    with begin(ending, journal, 0, "gate") as running:
        ending.tell()
        for caller, path in zip(callers, paths, strict=True):
            caller.request("GET", path)
        live, ready, model = (caller.answer() for caller in callers)
        for caller in callers:
            assert caller.is_closed()
            caller.leave()
        assert (live.status, ready.status, model.status) == (200, 503, 503)
        for described in (json.loads(ready.body)["models"]["gated"], json.loads(model.body)):
            assert described["ready"] is False
            assert described["problem"] == "is being stopped"
        assert model.header("Retry-After")
        journal.open("gate")
        predicted(running.answer())
    ending.assert_ends()


# --- when the time is over


@EITHER_WAY
def test_what_is_left_when_the_time_is_over_is_refused(started: Any, journal: Journal) -> None:
    ending: Ending = started("zoo.gated", "--drain-timeout", "1")
    journal.prepare(ending.server, "gated")
    with (
        begin(ending, journal, 0, "never") as running,
        queue(ending.server, "gated", journal, range(1, 21)) as waiting,
    ):
        began = time.monotonic()
        ending.tell()
        for caller in [running, *waiting]:
            assert_stopping(caller.answer())
        assert time.monotonic() - began >= 0.9
        ending.assert_ends(within=4)
    assert journal.numbers("begin") == [0]
    assert journal.numbers("end") == []
    assert re.search(r"WARNING .* 1 s.* 21 request\(s\)", ending.server.log())


def test_stream_that_is_left_ends_with_an_error(started: Any, journal: Journal) -> None:
    ending: Ending = started("zoo.gated", "--drain-timeout", "0.5")
    with Caller(ending.server) as caller:
        caller.predict("gated", journal.args(1, gate="never", do="stream", size=2))
        journal.wait_for("waits", 1)
        ending.tell()
        text = caller.rest().decode()
    assert '"item":1' in text
    assert '{"error":{' in text
    assert '"code":"server_stopping"' in text
    ending.assert_ends(within=4)


def test_upload_that_is_left_ends(started: Any, journal: Journal) -> None:
    ending: Ending = started("zoo.gated", "--drain-timeout", "0.5")
    with Caller(ending.server) as caller:
        content = FORM["content"]
        sent = journal.args(1)
        half, length = content[:200_000], len(content)
        caller.predict("gated", sent, headers=FORM["headers"], body=half, length=length)
        wait_until(ending.server.temporary_files, within=5, what="the upload")
        ending.tell()
        assert_stopping(caller.answer())
    ending.assert_ends(within=5)
    assert journal.events() == []


@pytest.mark.parametrize("model", ["zoo.gated_async", "zoo.gated_batch"])
def test_other_models_drain_too(started: Any, journal: Journal, model: str) -> None:
    ending: Ending = started(model)
    name = model.partition(".")[2]
    with queue(ending.server, name, journal, range(12), gate="gate") as callers:
        journal.wait_for("begin", 0)
        ending.tell()
        journal.open("gate")
        assert [predicted(caller.answer())["number"] for caller in callers] == list(range(12))
    ending.assert_ends()


def test_no_time_at_all_refuses_at_once(started: Any, journal: Journal) -> None:
    ending: Ending = started("zoo.gated", "--drain-timeout", "0")
    with begin(ending, journal, 0, "never") as running:
        ending.tell()
        assert_stopping(running.answer())
        ending.assert_ends(within=3)


def test_worker_that_does_not_end_is_killed_after_the_stop_timeout(
    started: Any, journal: Journal
) -> None:
    ending: Ending = started("zoo.gated", "--drain-timeout", "0", "--stop-timeout", "1")
    worker = pids(ending.server, "gated")[0]
    os.kill(worker, signal.SIGSTOP)
    began = time.monotonic()
    ending.tell()
    ending.assert_ends(within=5)
    assert time.monotonic() - began >= 0.9
    assert "did not end in 1 s and is killed" in ending.server.log()


# --- two signals


@pytest.mark.parametrize(
    ("first", "second", "code"),
    short_and_long(
        [(signal.SIGTERM, signal.SIGTERM, 143), (signal.SIGTERM, signal.SIGINT, 130)],
        [(signal.SIGINT, signal.SIGINT, 130)],
    ),
)
def test_second_signal_ends_it_at_once(
    started: Any, journal: Journal, first: signal.Signals, second: signal.Signals, code: int
) -> None:
    ending: Ending = started("zoo.gated", "--drain-timeout", "3600")
    with (
        begin(ending, journal, 0, "never") as running,
        queue(ending.server, "gated", journal, range(1, 3)) as waiting,
    ):
        ending.tell(first)
        os.kill(ending.server.pid, second)
        ending.assert_ends(code)
        for caller in [running, *waiting]:
            rest = caller.rest()
            assert rest == b"" or rest.startswith((b"HTTP/1.1 503", b"HTTP/1.1 500"))
    assert journal.numbers("begin") == [0]
    assert "Stopping at once" in ending.server.log()


def test_second_signal_while_workers_end_is_heeded(started: Any) -> None:
    ending: Ending = started("zoo.gated", "--stop-timeout", "3600")
    os.kill(pids(ending.server, "gated")[0], signal.SIGSTOP)
    ending.tell()
    os.kill(ending.server.pid, signal.SIGTERM)
    ending.assert_ends(143)


@pytest.mark.parametrize("where", ["import", "warm"])
def test_second_signal_while_a_model_starts_does_no_harm(tmp_path: Path, where: str) -> None:
    note = tmp_path / "note"
    env = {"ZOO_HANG": where, "ZOO_NOTE": str(note)}
    server = Server(args=["zoo.hangs"], env=env).start(wait=False)
    try:
        wait_until(note.exists, within=10, what="the hang")
        everyone = [process.pid for process in server.processes()]
        for _ in range(2):
            os.kill(server.pid, signal.SIGTERM)
        assert server.wait_end(within=3) in (0, 143)
        assert [pid for pid in everyone if lives(pid)] == []
    finally:
        server.kill()


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "new"])
def test_under_load_everyone_who_was_heard_is_answered(
    started: Any, journal: Journal, kept: bool
) -> None:
    """Calls that have begun are answered, on reused connections and on new ones."""
    ending: Ending = started("zoo.gated", "--workers", "2")
    limits = httpx.Limits(max_keepalive_connections=10 if kept else 0)
    answered: list[int] = []

    def call(number: int) -> str:
        try:
            params = journal.args(number, seconds=0.01)
            response = client.post("/v2/models/gated/predict/", params=params)
        except httpx.TransportError:  # the port is closed
            time.sleep(0.05)
            return "nothing"
        if response.status_code == 200:
            answered.append(number)
            return "answered"
        assert response.status_code == 503
        return str(response.json()["code"])

    url = ending.server.url
    with (
        httpx.Client(base_url=url, trust_env=False, timeout=25, limits=limits) as client,
        Load(call, threads=6).running() as load,
    ):
        load.wait_for_more(30)
        ending.tell()
        ending.assert_ends()
    assert set(load.results) <= {"answered", "server_stopping", "nothing"}
    assert sorted(journal.numbers("begin")) == sorted(answered)
    journal.assert_one_at_a_time()
