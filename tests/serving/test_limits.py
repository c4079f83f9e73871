"""Limits on how long calls wait and run, and on how many wait: more are refused at once."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.serving.callers import (
    EITHER_WAY,
    WAIT_SECONDS,
    Caller,
    Journal,
    code_of,
    make_journal,
    message_of,
    predicted,
    queue,
    settle,
    wait_no_files,
)
from tests.serving.processes import lives, pids, wait_gone, wait_ready, wait_replaced
from tests.support import Part, RawAnswer, Server, multipart, predictions, wait_until

LARGE = 1024**3


@pytest.fixture
def journal(tmp_path: Path, request: pytest.FixtureRequest) -> Journal:
    return make_journal(tmp_path, request)


def ask(
    server: Server,
    journal: Journal,
    number: int,
    headers: Mapping[str, str] | None = None,
    **arguments: Any,
) -> RawAnswer:
    """Return the response to a call of zoo.gated on a new connection."""
    with Caller(server) as caller:
        caller.predict("gated", journal.args(number, **arguments), headers=headers)
        return caller.answer()


def begin(server: Server, journal: Journal, number: int, gate: str, **kwargs: Any) -> Caller:
    """Return a caller whose call has begun and waits for the gate."""
    caller = Caller(server)
    caller.predict("gated", journal.args(number, gate=gate), **kwargs)
    journal.wait_for("begin", number)
    return caller


def assert_queue_is_full(answer: RawAnswer, waiting: int) -> None:
    assert answer.status == 503
    assert code_of(answer) == "queue_full"
    assert f"{waiting} calls wait for model gated" in message_of(answer)
    assert 1 <= int(answer.header("Retry-After") or 0) <= 3600


# --- the queue


@EITHER_WAY
@pytest.mark.parametrize("size", [0, 1, 40])
def test_queue_takes_so_many_and_no_more(serve: Serve, journal: Journal, size: int) -> None:
    """A worker receives fewer than 40, so some of them wait in the server."""
    server = serve({}, "zoo.gated", "--queue-size", str(size))
    journal.prepare(server, "gated")
    with (
        begin(server, journal, 0, "first") as running,
        queue(server, "gated", journal, range(1, size + 1)) as waiting,
    ):
        for number in range(100, 103):
            assert_queue_is_full(ask(server, journal, number), size)
        journal.open("first")
        for number, caller in enumerate([running, *waiting]):
            assert predicted(caller.answer())["number"] == number
    assert predicted(ask(server, journal, 200))["number"] == 200
    assert journal.numbers("begin") == [*range(size + 1), 200]
    journal.assert_one_at_a_time()


def test_each_worker_may_work_while_none_may_wait(serve: Serve, journal: Journal) -> None:
    server = serve({}, "zoo.gated", "--workers", "2", "--queue-size", "0")
    with begin(server, journal, 1, "gate") as one, begin(server, journal, 2, "gate") as two:
        assert_queue_is_full(ask(server, journal, 3), 0)
        journal.open("gate")
        assert predicted(one.answer())["pid"] != predicted(two.answer())["pid"]
    assert journal.numbers("begin") == [1, 2]


def test_queue_takes_a_thousand_unless_told_otherwise(patient: Server, journal: Journal) -> None:
    server = patient
    with begin(server, journal, 0, "gate") as running, ThreadPoolExecutor(60) as executor:
        calls = [
            executor.submit(server.predict, "gated", params=journal.args(n)) for n in range(1, 61)
        ]
        settle(server)
        journal.open("gate")
        assert predicted(running.answer())["number"] == 0
        assert {predictions(call.result())["number"] for call in calls} == set(range(1, 61))


def test_async_model_counts_what_it_may_work_on_at_once(serve: Serve, journal: Journal) -> None:
    server = serve({}, "zoo.gated_async", "--max-concurrency", "3", "--queue-size", "2")
    with queue(server, "gated_async", journal, range(5), gate="gate") as running:
        journal.wait_for("begin", 2)
        response = server.predict("gated_async", params=journal.args(5))
        assert (response.status_code, response.json()["code"]) == (503, "queue_full")
        assert journal.numbers("begin") == [0, 1, 2]
        journal.open("gate")
        assert [predicted(caller.answer())["number"] for caller in running] == [0, 1, 2, 3, 4]


@pytest.fixture(scope="module")
def without_queue(serve_all: Serve) -> Server:
    return serve_all({}, "zoo.gated", "--queue-size", "0")


HEADS = {
    "plain": {"Content-Type": "application/json"},
    "form": {"Content-Type": "multipart/form-data; boundary=b"},
    "expecting": {"Content-Type": "application/json", "Expect": "100-continue"},
}


@pytest.mark.parametrize("head", HEADS)
def test_large_body_is_refused_before_it_is_sent(
    without_queue: Server, journal: Journal, head: str
) -> None:
    with begin(without_queue, journal, 0, "gate") as running:
        with Caller(without_queue) as caller:
            sent = journal.args(1)
            caller.predict("gated", sent, headers=HEADS[head], length=LARGE)
            answer = caller.answer()
        assert_queue_is_full(answer, 0)
        assert without_queue.temporary_files() == []
        journal.open("gate")
        predicted(running.answer())


def test_body_that_comes_while_the_last_place_is_taken_is_refused(
    without_queue: Server, journal: Journal
) -> None:
    """Two clients begin to send their bodies when there is room for one."""
    server = without_queue
    form = multipart(Part("data", b"x" * 200_000, "a.bin"))
    with Caller(server) as one, Caller(server) as two:
        for number, caller in ((1, one), (2, two)):
            sent = journal.args(number, gate="gate")
            whole = len(form["content"])
            half = form["content"][:150_000]
            caller.predict("gated", sent, headers=form["headers"], body=half, length=whole)
        wait_until(lambda: len(server.temporary_files()) == 2, within=5, what="both uploads")
        one.send(form["content"][150_000:])
        journal.wait_for("begin", 1)
        two.send(form["content"][150_000:])
        assert_queue_is_full(two.answer(), 0)
        wait_until(lambda: len(server.temporary_files()) == 1, within=5, what="removal of one")
        journal.open("gate")
        predicted(one.answer())
    assert journal.numbers("begin") == [1]
    wait_no_files(server)


# --- --predict-timeout: `test_deadlines_inside.py` has more tests, with a clock that is advanced


@pytest.fixture(scope="module")
def hasty_server(serve_all: Serve) -> Server:
    return serve_all({}, "zoo.gated", "--predict-timeout", "2")


@pytest.fixture
def hasty(hasty_server: Server) -> Server:
    """A server with a prediction timeout of two seconds and one ready worker."""
    wait_ready(hasty_server, "gated")
    return hasty_server


def assert_timed_out(answer: RawAnswer, message: str) -> None:
    assert answer.status == 504
    assert code_of(answer) == "timeout"
    assert message in message_of(answer)


@pytest.mark.parametrize("how", ["sleep", "gil"])
def test_prediction_that_hangs_ends(serve: Serve, how: str) -> None:
    server = serve({}, "zoo.hangs", "--predict-timeout", "2")
    worker = wait_ready(server, "hangs")[0]
    response = server.predict("hangs", params={"how": how})
    assert (response.status_code, response.json()["code"]) == (504, "timeout")
    wait_gone([worker])
    [successor] = wait_replaced(server, "hangs", [worker])  # a wait in predict would be limited too
    assert predictions(server.predict("hangs")) == successor


def test_upload_of_what_takes_too_long_goes_with_its_worker(
    hasty: Server, journal: Journal
) -> None:
    form = multipart(Part("data", b"x" * 200_000, "a.bin"))
    response = hasty.predict("gated", params=journal.args(1, gate="never"), **form)
    assert response.status_code == 504
    wait_no_files(hasty)


# --- X-Request-Timeout

TIMEOUT = "X-Request-Timeout"


@pytest.fixture(scope="module")
def patient(serve_all: Serve) -> Server:
    """A server without a prediction timeout."""
    return serve_all({}, "zoo.gated")


@pytest.mark.parametrize(
    "value", ["10", "10.5", "1e1", "+10", " 10 ", "100000000000", "1e300", ".5e1"]
)
def test_number_of_seconds_may_be_written_in_any_way(
    patient: Server, journal: Journal, value: str
) -> None:
    assert predicted(ask(patient, journal, 1, {TIMEOUT: value}))["number"] == 1
    assert predicted(ask(patient, journal, 2, {TIMEOUT.lower(): value}))["number"] == 2


@pytest.mark.parametrize(
    "value",
    ["0", "-1", "", "abc", "inf", "-inf", "nan", "1s", "1,5", "1 2", "0x5", "1e999", "0.0", "-0"],
)
def test_value_that_is_no_number_of_seconds_is_400(
    patient: Server, journal: Journal, value: str
) -> None:
    answer = ask(patient, journal, 1, {TIMEOUT: value})
    assert answer.status == 400
    assert code_of(answer) == "bad_request"
    assert TIMEOUT in message_of(answer)
    assert journal.events() == []


def test_bad_value_is_refused_before_the_body_is_sent(patient: Server, journal: Journal) -> None:
    with Caller(patient) as caller:
        caller.predict("gated", journal.args(1), headers={TIMEOUT: "soon"}, length=LARGE)
        assert caller.answer().status == 400


@EITHER_WAY
def test_caller_that_will_not_wait_is_told_and_the_work_is_finished(
    patient: Server, journal: Journal
) -> None:
    """The worker is not free before: the next call begins when the first has ended."""
    journal.prepare(patient, "gated")
    journal.prepare(patient, "gated", {TIMEOUT: "0.3"})
    worker = pids(patient, "gated")
    assert_timed_out(ask(patient, journal, 1, {TIMEOUT: "0.3"}, gate="gate"), "No result within")
    with Caller(patient) as caller:
        caller.predict("gated", journal.args(2))
        settle(patient)
        assert journal.numbers("begin") == [1]
        journal.open("gate")
        assert predicted(caller.answer())["pid"] == worker[0]
    journal.assert_one_at_a_time()
    assert journal.numbers("end") == [1, 2]
    assert pids(patient, "gated") == worker


@EITHER_WAY
def test_caller_with_hardly_any_patience_harms_nobody(patient: Server, journal: Journal) -> None:
    """Its time is over about when its call begins, so each outcome is possible."""
    for number in range(20):
        answer = ask(patient, journal, number, {TIMEOUT: "0.000001"})
        if answer.status == 200:
            assert predicted(answer)["number"] == number
        else:
            assert_timed_out(answer, "")
    assert predicted(ask(patient, journal, 50))["number"] == 50
    journal.assert_one_at_a_time()
    assert journal.numbers("begin") == journal.numbers("end")


@EITHER_WAY
def test_caller_that_will_not_wait_in_the_queue_is_told_and_never_begun(
    patient: Server, journal: Journal
) -> None:
    journal.prepare(patient, "gated")
    with (
        begin(patient, journal, 0, "gate") as running,
        queue(patient, "gated", journal, range(1, 20)) as waiting,
    ):
        began = time.monotonic()
        in_server = ask(patient, journal, 50, {TIMEOUT: "0.3"})  # because the socket is full
        assert time.monotonic() - began >= 0.25
        assert_timed_out(in_server, "No result within")
        journal.open("gate")
        predicted(running.answer())
        assert [predicted(one.answer())["number"] for one in waiting] == list(range(1, 20))
    with begin(patient, journal, 60, "second") as running:
        assert_timed_out(ask(patient, journal, 70, {TIMEOUT: "0.3"}), "No result within")
        journal.open("second")
        predicted(running.answer())
    predicted(ask(patient, journal, 80))
    assert journal.numbers("begin") == [*range(20), 60, 80]


def test_answer_that_comes_in_time_is_no_matter(patient: Server, journal: Journal) -> None:
    assert predicted(ask(patient, journal, 1, {TIMEOUT: "5"}, seconds=0.1))["number"] == 1


def test_time_that_the_body_takes_counts(patient: Server, journal: Journal) -> None:
    body = b'{"text": "abc"}'
    headers = {TIMEOUT: "0.3", "Content-Type": "application/json"}
    with Caller(patient) as caller:
        sent = journal.args(1)
        caller.predict("gated", sent, headers=headers, body=body[:5], length=len(body))
        time.sleep(0.6)
        caller.send(body[5:])
        assert_timed_out(caller.answer(), "")
    assert journal.events() == []


@EITHER_WAY
def test_stream_ends_when_its_caller_will_not_wait(patient: Server, journal: Journal) -> None:
    journal.prepare(patient, "gated")
    with Caller(patient) as caller:
        sent = journal.args(1, gate="never", do="stream", size=2)
        caller.predict("gated", sent, headers={TIMEOUT: "0.7", "Connection": "close"})
        text = caller.rest().decode()
    assert " 200 OK\r\n" in text
    assert '"item":1' in text
    assert '"code":"timeout"' in text
    assert text.endswith("0\r\n\r\n")
    journal.open("never")
    journal.wait_for("closed", 1)


@EITHER_WAY
def test_timeouts_with_cancel_running_replace_the_worker(serve: Serve, journal: Journal) -> None:
    server = serve({}, "zoo.gated", "--cancel-running")
    journal.prepare(server, "gated")
    worker = pids(server, "gated")[0]
    assert_timed_out(ask(server, journal, 1, {TIMEOUT: "0.3"}, gate="never"), "No result within")
    wait_gone([worker])
    assert predicted(ask(server, journal, 2))["pid"] != worker
    assert journal.numbers("end") == [2]


def test_caller_cannot_extend_the_servers_limit(hasty: Server, journal: Journal) -> None:
    worker = pids(hasty, "gated")[0]
    answer = ask(hasty, journal, 1, {TIMEOUT: "100"}, gate="never")
    assert_timed_out(answer, "The prediction took longer than 2 s")
    wait_gone([worker])


def test_servers_limit_holds_for_what_nobody_waits_for(hasty: Server, journal: Journal) -> None:
    server = hasty
    worker = pids(server, "gated")[0]
    answer = ask(server, journal, 1, {TIMEOUT: "0.3"}, gate="never")
    assert_timed_out(answer, "No result within")
    assert lives(worker)
    wait_gone([worker], within=5)
    [successor] = wait_replaced(server, "gated", [worker])
    assert predicted(ask(server, journal, 2))["pid"] == successor


# --- everything together


def assert_was_on_its_way(journal: Journal, gone: dict[int, float]) -> None:
    """Check that calls that began after their caller had left were already sent to the worker.

    A worker gets one call at a time, so it recorded nothing between the two moments.
    """
    events = journal.events()
    for late in (one for one in events if one.kind == "begin" and one.number in gone):
        meanwhile = [
            one
            for one in events
            if one.pid == late.pid and gone[late.number] < one.time < late.time
        ]
        assert meanwhile == []


@EITHER_WAY
@pytest.mark.parametrize("flags", [[], ["--cancel-running"]], ids=["finished", "cancelled"])
def test_nothing_is_begun_for_who_has_gone_and_nothing_is_done_twice_at_once(
    serve: Serve, journal: Journal, flags: list[str]
) -> None:
    """Many callers have short timeouts: each gets its response in time, and no call runs twice."""
    server = serve({}, "zoo.gated", "--workers", "2", *flags)
    journal.prepare(server, "gated")
    chance = random.Random(7)
    patience = [chance.choice((0.02, 0.1, 0.4, 30)) for _ in range(120)]
    gone: dict[int, float] = {}

    def call(number: int) -> int:
        headers = {TIMEOUT: str(patience[number])}
        answer = ask(server, journal, number, headers, seconds=0.02)
        if answer.status == 504:
            gone[number] = time.monotonic()
        else:
            assert predicted(answer)["number"] == number
        return answer.status

    with ThreadPoolExecutor(12) as executor:
        statuses = list(executor.map(call, range(120)))
    assert set(statuses) == {200, 504}
    assert all(statuses[n] == 200 for n in range(120) if patience[n] == 30)
    begun = journal.numbers("begin")
    assert len(begun) == len(set(begun))
    assert_was_on_its_way(journal, gone)
    if not flags:
        journal.assert_one_at_a_time()
        wait_until(
            lambda: sorted(journal.numbers("end")) == sorted(begun),
            within=WAIT_SECONDS,
            what="the end of all",
        )
    wait_ready(server, "gated", 2)


def test_worker_that_is_stopped_cannot_hold_its_callers(hasty: Server, journal: Journal) -> None:
    """With a time limit, every caller gets a response, even from a worker that is stuck."""
    server = hasty
    worker = pids(server, "gated")[0]
    os.kill(worker, signal.SIGSTOP)
    assert ask(server, journal, 1).status == 504
    wait_gone([worker])
    wait_replaced(server, "gated", [worker])
    assert predicted(ask(server, journal, 2))["number"] == 2
