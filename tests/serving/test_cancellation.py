"""Callers that leave: their calls end, their files are removed, and no other call is harmed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import Serve
from tests.serving.callers import (
    EITHER_WAY,
    WAIT_SECONDS,
    Caller,
    Callers,
    Journal,
    code_of,
    descriptors,
    make_journal,
    predicted,
    queue,
    settle,
    wait_for_descriptors,
    wait_no_files,
)
from tests.serving.processes import lives, pids, wait_gone, wait_ready
from tests.support import Part, Server, multipart, predictions, wait_until

LEAVE: dict[str, Callable[[Caller], None]] = {
    "closes": Caller.leave,
    "breaks off": Caller.break_off,
}


@pytest.fixture
def journal(tmp_path: Path, request: pytest.FixtureRequest) -> Journal:
    return make_journal(tmp_path, request)


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    """A server that finishes the calls that have begun."""
    return serve_all({}, "zoo.gated")


@pytest.fixture(scope="module")
def strict(serve_all: Serve) -> Server:
    """A server that cancels calls whose caller has left."""
    return serve_all({}, "zoo.gated", "zoo.gated_async", "zoo.gated_batch", "--cancel-running")


@contextlib.contextmanager
def begun(
    server: Server, journal: Journal, number: int, gate: str = "", model: str = "gated", **kw: Any
) -> Iterator[Caller]:
    """Yield a caller whose call has begun."""
    with Caller(server) as caller:
        sent = journal.args(number, gate=gate, **kw.pop("args", {}))
        caller.predict(model, sent, **kw)
        journal.wait_for("begin", number)
        yield caller


def ask(server: Server, journal: Journal, number: int, model: str = "gated", **args: Any) -> Any:
    return predictions(server.predict(model, params=journal.args(number, **args)))


# --- gone before the call has begun


@EITHER_WAY
@pytest.mark.parametrize("how", LEAVE)
def test_who_leaves_while_waiting_is_never_begun(
    server: Server, journal: Journal, how: str
) -> None:
    """Some calls wait in the worker's socket, which takes 16, and the others in the server."""
    journal.prepare(server, "gated")
    worker = pids(server, "gated")
    leavers = [1, 7, 15, 16, 17, 24]
    with (
        begun(server, journal, 0, "gate") as running,
        queue(server, "gated", journal, range(1, 25)) as waiting,
    ):
        for number in leavers:
            LEAVE[how](waiting[number - 1])
        settle(server)
        journal.open("gate")
        assert predicted(running.answer())["pid"] == worker[0]
        for number, caller in enumerate(waiting, 1):
            if number not in leavers:
                assert predicted(caller.answer())["number"] == number
    assert ask(server, journal, 99)["pid"] == worker[0]
    assert journal.numbers("begin") == [n for n in [*range(25), 99] if n not in leavers]


@EITHER_WAY
def test_who_leaves_makes_room_for_another(serve: Serve, journal: Journal) -> None:
    server = serve({}, "zoo.gated", "--queue-size", "1")
    journal.prepare(server, "gated")
    with (
        begun(server, journal, 0, "gate") as running,
        queue(server, "gated", journal, range(1, 2)) as second,
        Caller(server) as third,
    ):
        assert server.predict("gated", params=journal.args(2)).json()["code"] == "queue_full"
        second[0].leave()
        settle(server)
        third.predict("gated", journal.args(3))
        settle(server)
        journal.open("gate")
        assert predicted(running.answer())["number"] == 0
        assert predicted(third.answer())["number"] == 3
    assert journal.numbers("begin") == [0, 3]


@EITHER_WAY
def test_many_who_leave_at_once_cost_nothing(server: Server, journal: Journal) -> None:
    journal.prepare(server, "gated")
    before = descriptors(server)
    with begun(server, journal, 0, "gate") as running:
        with Callers(Caller(server) for _ in range(200)) as leaving:
            for number, caller in enumerate(leaving, 1):
                caller.predict("gated", journal.args(number))
            settle(server)
            for caller in leaving:
                caller.break_off()
        settle(server)
        journal.open("gate")
        assert predicted(running.answer())["number"] == 0
    assert ask(server, journal, 999)["number"] == 999
    assert journal.numbers("begin") == [0, 999]
    wait_for_descriptors(server, before)


@EITHER_WAY
@pytest.mark.parametrize("model", ["gated_async", "gated_batch"])
def test_who_leaves_while_waiting_for_other_models_is_never_begun(
    strict: Server, journal: Journal, model: str
) -> None:
    journal.prepare(strict, model)
    worker = pids(strict, model)
    with queue(strict, model, journal, range(14), gate="gate") as callers:
        journal.wait_for("begin", 0)
        callers[12].leave()
        settle(strict)
        journal.open("gate")
        others = [number for number in range(14) if number != 12]
        assert [predicted(callers[n].answer())["number"] for n in others] == others
    assert ask(strict, journal, 20, model)["number"] == 20
    assert sorted(journal.numbers("begin")) == [*others, 20]
    assert pids(strict, model) == worker


# --- gone while the call runs


@EITHER_WAY
@pytest.mark.parametrize("how", LEAVE)
def test_what_has_begun_is_finished_and_the_next_waits_for_that(
    server: Server, journal: Journal, how: str
) -> None:
    journal.prepare(server, "gated")
    worker = pids(server, "gated")
    with begun(server, journal, 1, "gate") as leaver, Caller(server) as second:
        second.predict("gated", journal.args(2))
        settle(server)
        LEAVE[how](leaver)
        settle(server)
        assert journal.numbers("begin") == [1]
        journal.open("gate")
        assert predicted(second.answer())["pid"] == worker[0]
    assert [(e.kind, e.number) for e in journal.events()] == [
        ("begin", 1),
        ("end", 1),
        ("begin", 2),
        ("end", 2),
    ]
    assert pids(server, "gated") == worker


@EITHER_WAY
@pytest.mark.parametrize("how", LEAVE)
def test_cancel_running_ends_the_work_at_once(strict: Server, journal: Journal, how: str) -> None:
    """Calls queued for the same worker go to the next one, and each begins once."""
    journal.prepare(strict, "gated")
    worker = wait_ready(strict, "gated")[0]
    before = len(strict.log())
    with (
        begun(strict, journal, 0, "never") as leaver,
        queue(strict, "gated", journal, range(1, 20)) as waiting,
    ):
        LEAVE[how](leaver)
        wait_gone([worker])
        answers = [predicted(caller.answer()) for caller in waiting]
    assert [one["number"] for one in answers] == list(range(1, 20))
    new = wait_ready(strict, "gated")
    assert {one["pid"] for one in answers} == set(new)
    assert answers[0]["warmed"] == new
    assert journal.numbers("begin") == list(range(20))
    assert "ERROR" not in strict.log()[before:]


def test_cancel_running_again_and_again_makes_nobody_wait_longer(
    strict: Server, journal: Journal
) -> None:
    """These ends do not count as deaths, so the next start is not delayed."""
    seen = set()
    for number in range(4):
        worker = wait_ready(strict, "gated")[0]
        seen.add(worker)
        with begun(strict, journal, number, "never"):
            pass
        wait_gone([worker])
        assert strict.predict("gated", params=journal.args(100)).status_code == 200
    assert len(seen) == 4


@EITHER_WAY
def test_task_of_who_leaves_is_cancelled_and_its_mates_go_on(
    strict: Server, journal: Journal
) -> None:
    journal.prepare(strict, "gated_async")
    worker = wait_ready(strict, "gated_async")
    with (
        begun(strict, journal, 1, "gate", "gated_async") as one,
        begun(strict, journal, 2, "gate", "gated_async") as two,
        begun(strict, journal, 3, "gate", "gated_async") as three,
    ):
        two.leave()
        journal.wait_for("cancelled", 2)
        journal.open("gate")
        assert [predicted(caller.answer())["number"] for caller in (one, three)] == [1, 3]
    assert sorted(journal.numbers("end")) == [1, 3]
    assert pids(strict, "gated_async") == worker


def test_task_is_finished_unless_cancelling_is_asked_for(serve: Serve, journal: Journal) -> None:
    server = serve({}, "zoo.gated_async")
    with begun(server, journal, 1, "gate", "gated_async") as leaver:
        leaver.leave()
        settle(server)
    journal.open("gate")
    journal.wait_for("end", 1)
    assert journal.events("cancelled") == []


@EITHER_WAY
def test_batch_goes_on_while_one_of_its_callers_is_there(strict: Server, journal: Journal) -> None:
    journal.prepare(strict, "gated_batch")
    worker = wait_ready(strict, "gated_batch")[0]
    with queue(strict, "gated_batch", journal, range(4), gate="gate") as callers:
        journal.wait_for("begin", 0)
        first = journal.numbers("begin")
        for number in range(4):
            if number not in first[-1:]:
                callers[number].leave()
        settle(strict)
        assert lives(worker)
        journal.open("gate")
        assert predicted(callers[first[-1]].answer())["pid"] == worker
    assert ask(strict, journal, 9, "gated_batch")["pid"] == worker
    assert journal.numbers("begin") == [*first, 9]


@EITHER_WAY
def test_batch_is_ended_when_all_its_callers_have_gone(strict: Server, journal: Journal) -> None:
    journal.prepare(strict, "gated_batch")
    worker = wait_ready(strict, "gated_batch")[0]
    with queue(strict, "gated_batch", journal, range(2), gate="never") as callers:
        journal.wait_for("begin", 0)
        for caller in callers:
            caller.leave()
        wait_gone([worker])
    assert ask(strict, journal, 9, "gated_batch")["number"] == 9


# --- two workers


@EITHER_WAY
@pytest.mark.parametrize("flags", [[], ["--cancel-running"]], ids=["finished", "cancelled"])
def test_one_who_leaves_harms_no_call_of_the_other_worker(
    serve: Serve, journal: Journal, flags: list[str]
) -> None:
    server = serve({}, "zoo.gated", "--workers", "2", *flags)
    journal.prepare(server, "gated")
    wait_ready(server, "gated", 2)
    with (
        begun(server, journal, 1, "one") as leaver,
        begun(server, journal, 2, "two") as stayer,
        queue(server, "gated", journal, range(3, 9)) as waiting,
    ):
        victim = journal.wait_for("begin", 1).pid
        leaver.leave()
        if flags:
            wait_gone([victim])
        journal.open("one")
        for number, caller in enumerate(waiting, 3):  # while the other worker is still busy
            assert predicted(caller.answer())["number"] == number
        assert journal.numbers("begin")[:2] == [1, 2]
        journal.open("two")
        assert predicted(stayer.answer())["pid"] == journal.wait_for("begin", 2).pid
    assert sorted(journal.numbers("begin")) == list(range(1, 9))
    assert 2 in journal.numbers("end")
    assert (1 in journal.numbers("end")) is not bool(flags)
    wait_ready(server, "gated", 2)


# --- uploads


FORM = multipart(Part("data", b"x" * 200_000, "a.bin"))
JSON = {
    "body": b'{"text": "' + b"x" * 200_000 + b'"}',
    "headers": {"Content-Type": "application/json"},
}
TEXTS = multipart(Part("text", b"x" * 200_000))
BODIES: dict[str, dict[str, Any]] = {
    "upload": {"body": FORM["content"], "headers": FORM["headers"]},
    "large body": JSON,
    "large texts": {"body": TEXTS["content"], "headers": TEXTS["headers"]},
}


@pytest.mark.parametrize("kind", BODIES)
def test_files_of_who_leaves_while_waiting_go_at_once(
    server: Server, journal: Journal, kind: str
) -> None:
    with begun(server, journal, 0, "gate") as running, Caller(server) as leaver:
        leaver.predict("gated", journal.args(1), **BODIES[kind])
        wait_until(server.temporary_files, within=WAIT_SECONDS, what="a file")
        settle(server)
        leaver.leave()
        wait_no_files(server)
        journal.open("gate")
        predicted(running.answer())
    assert ask(server, journal, 2)["number"] == 2
    assert journal.numbers("begin") == [0, 2]


def test_upload_of_who_leaves_stays_until_the_model_is_through(
    server: Server, journal: Journal
) -> None:
    with begun(server, journal, 1, "gate", **BODIES["upload"]):
        pass
    settle(server)
    assert len(server.temporary_files()) == 1
    journal.open("gate")
    journal.wait_for("end", 1)
    assert journal.numbers("read") == [200_000]  # the bytes that the model could read
    wait_no_files(server)


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("flags", [[], ["--cancel-running"]], ids=["finished", "cancelled"])
def test_files_of_who_leaves_are_gone_in_the_end(
    server: Server, strict: Server, journal: Journal, kind: str, flags: list[str]
) -> None:
    chosen = strict if flags else server
    worker = wait_ready(chosen, "gated")[0]
    with begun(chosen, journal, 1, "gate", **BODIES[kind]):
        pass
    if flags:
        wait_gone([worker])
    journal.open("gate")
    wait_no_files(chosen)
    assert ask(chosen, journal, 2)["number"] == 2
    assert (1 in journal.numbers("end")) is not bool(flags)


@pytest.mark.parametrize("how", LEAVE)
@pytest.mark.parametrize("kind", BODIES)
def test_who_leaves_while_sending_leaves_nothing(
    server: Server, journal: Journal, kind: str, how: str
) -> None:
    before = descriptors(server)
    sent = BODIES[kind]
    with Caller(server) as caller:
        half = sent["body"][:-1000]
        length = len(sent["body"])
        caller.predict("gated", journal.args(1), headers=sent["headers"], body=half, length=length)
        if kind != "large texts":
            wait_until(server.temporary_files, within=WAIT_SECONDS, what="a file")
        settle(server)
        LEAVE[how](caller)
        wait_no_files(server)
    assert ask(server, journal, 2)["number"] == 2
    assert journal.numbers("begin") == [2]
    wait_for_descriptors(server, before)


# --- replies

BYTES, JSON_TYPE = "application/octet-stream", "application/json"


@EITHER_WAY
@pytest.mark.parametrize("do", ["file", "json"])
def test_large_reply_to_who_has_gone_is_closed(server: Server, journal: Journal, do: str) -> None:
    """Both an open file and a reply larger than a megabyte are passed as a descriptor."""
    journal.prepare(server, "gated")
    before = descriptors(server)
    for number in range(20):
        size = {"do": do, "size": 2 * 1024 * 1024, "accept": BYTES if do == "file" else JSON_TYPE}
        with begun(server, journal, number, f"gate-{number}", args=size):
            pass
        settle(server)
        journal.open(f"gate-{number}")
    assert ask(server, journal, 50)["number"] == 50
    assert journal.numbers("end") == [*range(20), 50]
    wait_for_descriptors(server, before)


@EITHER_WAY
@pytest.mark.parametrize("how", LEAVE)
def test_who_leaves_in_the_middle_of_a_file_leaves_nothing(
    server: Server, journal: Journal, how: str
) -> None:
    journal.prepare(server, "gated")
    before = descriptors(server)
    worker = psutil.Process(pids(server, "gated")[0])
    held = worker.num_fds()
    for number in range(5):
        with Caller(server) as caller:
            sent = journal.args(number, do="file", size=32 * 1024 * 1024, accept=BYTES)
            caller.predict("gated", sent)
            assert b" 200 OK" in caller.receive(1000)
            LEAVE[how](caller)
    assert ask(server, journal, 50)["number"] == 50
    wait_for_descriptors(server, before)
    wait_until(lambda: worker.num_fds() <= held, within=5, what="closed files of the worker")


@EITHER_WAY
@pytest.mark.parametrize("size", [3, 0], ids=["waiting", "endless"])
@pytest.mark.parametrize("how", LEAVE)
def test_generator_of_who_leaves_is_closed(
    server: Server, journal: Journal, how: str, size: int
) -> None:
    """It is closed at the next item, in the model's own `finally`. The worker goes on."""
    journal.prepare(server, "gated")
    worker = pids(server, "gated")
    with Caller(server) as caller:
        caller.predict("gated", journal.args(1, gate="gate", do="stream", size=size))
        assert b" 200 OK" in caller.receive(1000)
        LEAVE[how](caller)
    settle(server)
    journal.open("gate")
    journal.wait_for("closed", 1)
    assert ask(server, journal, 2)["pid"] == worker[0]


# --- connections


@EITHER_WAY
def test_request_that_follows_on_the_connection_of_who_leaves_is_not_begun(
    server: Server, journal: Journal
) -> None:
    journal.prepare(server, "gated")
    with begun(server, journal, 1, "gate") as caller:
        caller.predict("gated", journal.args(2))
        settle(server)
    settle(server)
    journal.open("gate")
    assert ask(server, journal, 3)["number"] == 3
    assert journal.numbers("begin") == [1, 3]


@EITHER_WAY
@pytest.mark.parametrize("how", LEAVE)
def test_who_has_sent_the_next_request_and_leaves_is_not_begun(
    server: Server, journal: Journal, how: str
) -> None:
    journal.prepare(server, "gated")
    with begun(server, journal, 0, "gate") as running, Caller(server) as caller:
        caller.predict("gated", journal.args(1))
        settle(server)
        caller.predict("gated", journal.args(2))
        settle(server)
        LEAVE[how](caller)
        settle(server)
        journal.open("gate")
        assert predicted(running.answer())["number"] == 0
    assert ask(server, journal, 3)["number"] == 3
    assert journal.numbers("begin") == [0, 3]


@EITHER_WAY
def test_who_leaves_is_no_error_in_the_log(server: Server, journal: Journal) -> None:
    journal.prepare(server, "gated")
    before = len(server.log())
    with begun(server, journal, 1, "gate"):
        pass
    with Caller(server) as caller:
        caller.predict("gated", journal.args(2), **BODIES["upload"])
        settle(server)
    journal.open("gate")
    assert ask(server, journal, 3)["number"] == 3
    wait_no_files(server)
    assert "ERROR" not in server.log()[before:]
    assert "Traceback" not in server.log()[before:]


@EITHER_WAY
def test_connection_serves_on_after_a_refusal(serve: Serve, journal: Journal) -> None:
    """A client whose call was refused or timed out can send the next one on the same connection."""
    server = serve({}, "zoo.gated", "--queue-size", "0")
    journal.prepare(server, "gated")
    with begun(server, journal, 0, "gate") as running, Caller(server) as caller:
        caller.predict("gated", journal.args(1))
        assert code_of(caller.answer()) == "queue_full"
        journal.open("gate")
        predicted(running.answer())
        caller.predict("gated", journal.args(2, gate="later"), headers={"X-Request-Timeout": "0.2"})
        assert code_of(caller.answer()) == "timeout"
        journal.open("later")
        journal.wait_for("end", 2)
        settle(server)
        caller.predict("gated", journal.args(3))
        assert predicted(caller.answer())["number"] == 3
