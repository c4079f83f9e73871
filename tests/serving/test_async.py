"""Models with `async def predict`: a worker runs many independent calls at once."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.serving.conversation import Caller, lines, settle, together
from tests.serving.processes import lives, pids, wait_gone, wait_ready
from tests.support import Part, Server, multipart, predictions, run_program, wait_until

MODEL = "asynchronous"
MODELS = {
    MODEL: "zoo.asynchronous:Async",
    "warmed": "zoo.asynchronous:Warmed",
    "returned": "zoo.asynchronous:Returned",
}


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all(MODELS)


@pytest.fixture(scope="module")
def cancelling(serve_all: Serve) -> Server:
    """A server that cancels calls whose caller has left, and runs three calls at a time."""
    return serve_all(MODELS, "--cancel-running", env={"ZOO_CONCURRENCY": "3"})


class Desk:
    """Calls to a model, the events that it records about them, and a gate at which they wait."""

    def __init__(self, server: Server, directory: Path, model: str = MODEL) -> None:
        self.server = server
        self.note = directory / "note"
        self.gate = directory / "gate"
        self._model = model
        self._callers = contextlib.ExitStack()

    def call(self, number: int, *, gated: bool = False, **parameters: Any) -> Caller:
        sent: dict[str, Any] = {"id": number, "note": str(self.note), **parameters}
        if gated:
            sent["gate"] = str(self.gate)
        return self._callers.enter_context(Caller(self.server, self._model, **sent))

    def begun(self, count: int, *, gated: bool = True, **parameters: Any) -> list[Caller]:
        """Send calls 0, 1, ..., and return them when the model has begun all of them."""
        before = len(self.noted("begin"))
        made = [self.call(number, gated=gated, **parameters) for number in range(count)]
        self.wait_for("begin", before + count)
        return made

    def noted(self, event: str) -> list[int]:
        """Return the ids of the calls for which the model has recorded `event`."""
        return [number for what, number, _ in lines(self.note) if what == event]

    def wait_for(self, event: str, count: int) -> None:
        wait_until(lambda: len(self.noted(event)) >= count, within=10, what=f"{count} {event}")

    def close(self) -> None:
        self.gate.touch()
        self._callers.close()


@pytest.fixture
def desk(server: Server, tmp_path: Path) -> Iterator[Desk]:
    with contextlib.closing(Desk(server, tmp_path)) as desk:
        yield desk


@pytest.fixture
def stern(cancelling: Server, tmp_path: Path) -> Iterator[Desk]:
    with contextlib.closing(Desk(cancelling, tmp_path)) as desk:
        yield desk


# --- many at once


def test_calls_run_at_the_same_time_in_one_worker(desk: Desk) -> None:
    made = desk.begun(20)
    assert desk.noted("end") == []
    desk.gate.touch()
    answers = [one.predicted() for one in made]
    assert [one["id"] for one in answers] == list(range(20))
    assert {one["pid"] for one in answers} == set(pids(desk.server, MODEL))


def test_call_that_takes_long_holds_up_no_other(desk: Desk) -> None:
    (slow,) = desk.begun(1)
    for number in range(1, 6):
        assert desk.call(number).predicted()["id"] == number
    assert desk.noted("end") == [1, 2, 3, 4, 5]
    desk.gate.touch()
    assert slow.predicted()["id"] == 0


def most_at_once(desk: Desk, expected: int, count: int) -> int:
    """Send `count` calls, check that `expected` run first, and return the most at once."""
    made = [desk.call(number, gated=True) for number in range(count)]
    desk.wait_for("begin", expected)
    settle(desk.server)
    assert len(desk.noted("begin")) == expected
    desk.gate.touch()
    answers = [one.predicted() for one in made]
    assert [one["id"] for one in answers] == list(range(count))
    return max(int(one["most"]) for one in answers)


def test_attribute_bounds_how_many(stern: Desk) -> None:
    assert most_at_once(stern, 3, 8) == 3


@pytest.mark.parametrize(
    ("option", "attribute", "expected"),
    [("2", "5", 2), ("5", "2", 5), ("0", "2", 2), ("1", "9", 1)],
)
def test_option_overrules_the_attribute(
    serve: Serve, tmp_path: Path, option: str, attribute: str, expected: int
) -> None:
    server = serve(MODELS, "--max-concurrency", option, env={"ZOO_CONCURRENCY": attribute})
    with contextlib.closing(Desk(server, tmp_path)) as desk:
        assert most_at_once(desk, expected, 8) == expected


def test_default_is_64(desk: Desk) -> None:
    assert most_at_once(desk, 64, 70) == 64


@pytest.mark.parametrize("value", ["0", "-1", '"many"', "1.5", "true"])
def test_bad_attribute_fails_the_start_and_is_named(tmp_path: Path, value: str) -> None:
    env = {"ZOO_CONCURRENCY": value}
    finished = run_program(tmp_path, ["--listen-port", "0"], models={"m": MODELS[MODEL]}, env=env)
    assert finished.code == 1
    said = f"max_concurrency is {json.loads(value)!r}, but must be a whole number from 1 to"
    assert said in finished.output


def test_two_workers_share_the_calls(serve: Serve, tmp_path: Path) -> None:
    server = serve(MODELS, "--workers", "2", "--max-concurrency", "3")
    wait_until(lambda: len(pids(server, MODEL)) == 2, within=10, what="two workers")
    with contextlib.closing(Desk(server, tmp_path)) as desk:
        made = desk.begun(6)
        desk.gate.touch()
        by_worker = [one.predicted()["pid"] for one in made]
    assert sorted(map(by_worker.count, pids(server, MODEL))) == [3, 3]


def test_context_variables_are_each_calls_own(desk: Desk) -> None:
    made = desk.begun(10)
    desk.gate.touch()
    assert [one.predicted()["current"] for one in made] == list(range(10))


def test_warm_may_be_asynchronous(server: Server) -> None:
    """A task that warm() leaves running continues during calls, on the same loop."""
    calls = [partial(server.predict, "warmed", params={"id": n}) for n in range(5)]
    assert [predictions(one) for one in together(calls)] == [{"same loop": True}] * 5


def test_asynchronous_warm_that_fails_fails_the_start(tmp_path: Path) -> None:
    models = {"m": "zoo.asynchronous:WarmFails"}
    finished = run_program(tmp_path, ["--listen-port", "0"], models=models)
    assert finished.code == 1
    assert "Model m cannot be warmed: " in finished.output
    assert "RuntimeError: too cold to warm" in finished.output


def test_coroutine_that_a_plain_predict_returns_is_awaited(server: Server, tmp_path: Path) -> None:
    with contextlib.closing(Desk(server, tmp_path, "returned")) as desk:
        made = [desk.call(number) for number in range(5)]
        answers = [one.predicted() for one in made]
        assert [one["id"] for one in answers] == [0, 1, 2, 3, 4]
        assert {one["most"] for one in answers} == {1}
        assert desk.call(5, do="raise").failure()[2] == "ValueError: call 5 is bad"
        assert desk.call(6, do="async-generator").read_rest() == b"0\n1\n2\n"


@pytest.mark.parametrize("kind", ["generator", "async-generator"])
def test_generator_that_is_returned_is_streamed(desk: Desk, kind: str) -> None:
    caller = desk.call(1, do=kind).read_head()
    assert (caller.status, caller.headers["content-type"]) == (200, "application/x-ndjson")
    assert caller.read_rest() == b"0\n1\n2\n"
    assert caller.ended


# --- failures

FAILURES = {
    "raise": (500, "predict_failed", "ValueError: call 1 is bad"),
    "http": (409, "refused_by_model", "call 1 is refused"),
    "system-exit": (500, "predict_failed", "The model called sys.exit('call 1 leaves')"),
    "keyboard": (500, "predict_failed", "KeyboardInterrupt"),
    "stop-iteration": (500, "predict_failed", "RuntimeError: coroutine raised StopIteration"),
    "timeout": (500, "predict_failed", "TimeoutError"),
    "task-raises": (500, "predict_failed", "ExceptionGroupLike: [ValueError('in a group')]"),
    "object": (500, "result_not_encodable", "The model's result is not JSON: "),
}


@pytest.mark.parametrize("what", FAILURES)
def test_failure_is_told_to_its_caller_and_harms_no_mate(desk: Desk, what: str) -> None:
    worker = pids(desk.server, MODEL)
    (mate,) = desk.begun(1)
    status, code, message = desk.call(1, do=what).failure()
    assert (status, code) == FAILURES[what][:2]
    assert message.startswith(FAILURES[what][2])
    desk.gate.touch()
    assert mate.predicted()["id"] == 0
    assert pids(desk.server, MODEL) == worker


def test_cancelled_error_of_the_models_own_is_a_failure(desk: Desk) -> None:
    (mate,) = desk.begun(1)
    status, code, message = desk.call(1, do="cancelled").failure()
    assert status == 500
    assert code
    assert "cancelled" in message.lower()
    desk.gate.touch()
    assert mate.predicted()["id"] == 0


def test_invalid_call_fails_alone(desk: Desk) -> None:
    (mate,) = desk.begun(1)
    caller = desk.call("x")  # type: ignore[arg-type]
    assert list(caller.json()) == ["id"]
    assert caller.status == 422
    desk.gate.touch()
    assert mate.predicted()["id"] == 0


def test_stdout_that_a_call_closes_is_mended(desk: Desk) -> None:
    worker = pids(desk.server, MODEL)
    assert desk.call(1, do="close-stdout").predicted()["id"] == 1
    assert desk.call(2, do="raise").failure()[2] == "ValueError: call 2 is bad"
    said = "ValueError: call 2 is bad"
    wait_until(lambda: said in desk.server.log(), within=5, what="the record")
    assert pids(desk.server, MODEL) == worker


@pytest.mark.parametrize(
    ("what", "ending"), [("exit", "exited with code 3"), ("kill", "signal 9 (SIGKILL)")]
)
def test_death_is_told_to_all_that_were_begun(desk: Desk, what: str, ending: str) -> None:
    before = pids(desk.server, MODEL)[0]
    mates = desk.begun(4)
    guilty = desk.call(4, do=what)
    for caller in [*mates, guilty]:
        status, code, message = caller.failure()
        assert (status, code) == (500, "worker_died")
        assert ending in message
    assert not lives(before)
    assert desk.call(5).predicted()["pid"] != before


def test_death_does_not_harm_what_was_not_begun(stern: Desk) -> None:
    begun = stern.begun(2)
    guilty_gate = stern.gate.with_name("other")
    guilty = stern.call(2, gate=str(guilty_gate), do="exit")
    stern.wait_for("begin", 3)
    waiting = [stern.call(number) for number in range(3, 9)]
    settle(stern.server)
    assert len(stern.noted("begin")) == 3
    guilty_gate.touch()
    assert [one.failure()[1] for one in [*begun, guilty]] == ["worker_died"] * 3
    assert [one.predicted()["id"] for one in waiting] == list(range(3, 9))


def test_task_that_leaves_ends_the_worker_and_every_caller_is_told(desk: Desk) -> None:
    """SystemExit in a task of the model ends the event loop: asyncio raises it out of the loop."""
    (mate,) = desk.begun(1)
    guilty = desk.call(1, do="task-leaves")
    assert [one.failure()[1] for one in (mate, guilty)] == ["worker_died"] * 2
    assert desk.call(2).predicted()["id"] == 2


# --- callers that leave


def test_call_whose_caller_leaves_is_let_finish(desk: Desk) -> None:
    leaving, mate = desk.begun(2)
    leaving.abort()
    settle(desk.server)
    desk.gate.touch()
    assert mate.predicted()["id"] == 1
    desk.wait_for("end", 2)
    assert desk.noted("cancelled") == []


def test_call_whose_caller_leaves_is_cancelled_if_wanted(stern: Desk) -> None:
    worker = pids(stern.server, MODEL)
    leaving, mate = stern.begun(2)
    leaving.abort()
    stern.wait_for("finally", 1)
    assert (stern.noted("cancelled"), stern.noted("finally")) == ([0], [0])
    stern.gate.touch()
    assert mate.predicted()["id"] == 1
    assert stern.noted("end") == [1]
    assert pids(stern.server, MODEL) == worker


def test_place_of_a_cancelled_call_is_free(stern: Desk) -> None:
    made = stern.begun(3)
    waiting = stern.call(3)
    settle(stern.server)
    assert stern.noted("begin") == [0, 1, 2]
    made[1].close()
    assert waiting.predicted()["id"] == 3
    assert stern.noted("cancelled") == [1]


def test_callers_that_leave_at_once_leave_nothing_behind(stern: Desk) -> None:
    """Their room is free afterwards, whether a call had begun, was about to begin or was queued."""
    for _ in range(10):
        made = [stern.call(number, gated=True) for number in range(6)]
        for one in made:
            one.abort()
    settle(stern.server)
    wait_until(lambda: still_running(stern) == 0, within=10, what="the end of all")
    assert [one.predicted()["id"] for one in [stern.call(n) for n in range(9)]] == list(range(9))


def still_running(desk: Desk) -> int:
    return len(desk.noted("begin")) - len(desk.noted("finally"))


def test_call_that_will_not_be_cancelled_is_let_finish(stern: Desk) -> None:
    worker = pids(stern.server, MODEL)
    leaving, mate = stern.begun(2, do="stubborn")
    leaving.abort()
    stern.wait_for("swallowed", 1)
    settle(stern.server)
    stern.gate.touch()
    assert mate.predicted()["id"] == 1
    stern.wait_for("end", 2)
    assert stern.noted("swallowed") == [0]
    assert pids(stern.server, MODEL) == worker


def test_time_that_a_caller_gives_is_over(desk: Desk) -> None:
    (mate,) = desk.begun(1)
    late = desk.call(1, gated=True, headers={"X-Request-Timeout": "0.3"})
    desk.wait_for("begin", 2)
    assert late.failure()[:2] == (504, "timeout")
    desk.gate.touch()
    assert mate.predicted()["id"] == 0
    desk.wait_for("end", 2)
    assert desk.noted("cancelled") == []


def test_call_is_cancelled_when_the_time_that_its_caller_gives_is_over(stern: Desk) -> None:
    worker = pids(stern.server, MODEL)
    (mate,) = stern.begun(1)
    late = stern.call(1, gated=True, headers={"X-Request-Timeout": "0.5"})
    stern.wait_for("begin", 2)
    assert late.failure()[:2] == (504, "timeout")
    stern.wait_for("finally", 1)
    assert stern.noted("cancelled") == [1]
    stern.gate.touch()
    assert mate.predicted()["id"] == 0
    assert pids(stern.server, MODEL) == worker


# --- calls that take too long

LIMIT = 3.0


@pytest.fixture(scope="module")
def limited(serve_all: Serve) -> Server:
    return serve_all(MODELS, "--predict-timeout", f"{LIMIT:g}")


@pytest.fixture
def strict(limited: Server, tmp_path: Path) -> Iterator[Desk]:
    wait_ready(limited, MODEL)  # the previous test may have ended it
    with contextlib.closing(Desk(limited, tmp_path)) as desk:
        yield desk


TOO_LONG = (504, "timeout", f"The prediction took longer than {LIMIT:g} s")


def test_only_the_call_that_takes_too_long_is_cancelled(strict: Desk) -> None:
    worker = pids(strict.server, MODEL)
    (late,) = strict.begun(1)
    later = strict.gate.with_name("later")
    half_time = time.monotonic() + LIMIT / 2
    while time.monotonic() < half_time:
        assert strict.call(1).predicted()["id"] == 1
    mate = strict.call(2, gate=str(later))
    assert late.failure() == TOO_LONG
    strict.wait_for("cancelled", 1)
    later.touch()
    assert mate.predicted()["id"] == 2
    assert strict.noted("cancelled") == [0]
    assert pids(strict.server, MODEL) == worker


def test_call_that_will_not_be_cancelled_is_ended_with_its_worker(strict: Desk) -> None:
    """Another worker takes later calls, and the old one finishes the calls it has begun."""
    worker = pids(strict.server, MODEL)[0]
    (late,) = strict.begun(1, do="stubborn")
    assert late.failure() == TOO_LONG
    strict.wait_for("swallowed", 1)
    later = strict.gate.with_name("later")
    mate = strict.call(1, gate=str(later))
    strict.wait_for("begin", 2)
    wait_until(lambda: worker not in pids(strict.server, MODEL), within=10, what="the retirement")
    later.touch()
    assert mate.predicted()["pid"] == worker
    assert strict.call(2).predicted()["pid"] != worker
    wait_gone([worker], within=10)
    assert "end" not in {what for what, number, _ in lines(strict.note) if number == 0}


def test_call_that_blocks_the_loop_is_ended_with_its_worker(strict: Desk) -> None:
    worker = pids(strict.server, MODEL)[0]
    (mate,) = strict.begun(1)
    (blocking,) = strict.begun(1, gated=False, do="block")
    waiting = strict.call(2)
    assert blocking.failure() == TOO_LONG
    assert mate.failure() == TOO_LONG
    status, code, message = waiting.failure()
    assert (status, code) == (504, "timeout")
    assert message in (TOO_LONG[2], f"No worker was free for {LIMIT:g} s")
    wait_gone([worker], within=10)
    assert strict.call(3).predicted()["pid"] != worker


def test_caller_that_waits_too_long_is_told_so(serve: Serve, tmp_path: Path) -> None:
    options = ["--predict-timeout", "1", "--max-concurrency", "1"]
    server = serve(MODELS, *options)
    with contextlib.closing(Desk(server, tmp_path)) as desk:
        desk.begun(1, do="stubborn")
        waiting = [desk.call(number) for number in range(1, 4)]
        for one in waiting:
            status, code, message = one.failure()
            assert (status, code) == (504, "timeout")
            assert message == "No worker was free for 1 s"
        assert desk.noted("begin") == [0]


# --- data that comes with calls


def form(text: str) -> dict[str, Any]:
    return multipart(Part("data", text.encode(), "data.txt"))


def uploads(server: Server) -> list[Path]:
    return server.uploads()


def test_uploads_are_each_calls_own_and_are_removed(desk: Desk) -> None:
    made = [desk.call(number, gated=True, **form(f"file {number}")) for number in range(8)]
    desk.wait_for("begin", 8)
    assert len(uploads(desk.server)) == 8
    desk.gate.touch()
    assert [one.predicted()["data"] for one in made] == [f"file {number}" for number in range(8)]
    wait_until(lambda: not uploads(desk.server), within=3, what="the removal of the uploads")


def test_uploads_of_a_call_stay_while_it_runs_without_a_caller(desk: Desk) -> None:
    leaving = desk.call(0, gated=True, **form("kept"))
    desk.wait_for("begin", 1)
    leaving.abort()
    settle(desk.server)
    assert len(uploads(desk.server)) == 1
    desk.gate.touch()
    desk.wait_for("end", 1)
    wait_until(lambda: not uploads(desk.server), within=3, what="the removal of the upload")


def test_uploads_of_a_cancelled_call_are_removed(stern: Desk) -> None:
    leaving = stern.call(0, gated=True, **form("removed"))
    stern.wait_for("begin", 1)
    leaving.abort()
    stern.wait_for("cancelled", 1)
    wait_until(lambda: not uploads(stern.server), within=3, what="the removal of the upload")


@pytest.mark.parametrize("size", [100 * 1024, 300 * 1024])
def test_large_calls_run_at_the_same_time(desk: Desk, size: int) -> None:
    json_type = {"Content-Type": "application/json"}
    made = []
    for number in range(30):
        content = json.dumps({"text": "x" * (size + number)}).encode()
        made.append(desk.call(number, gated=True, headers=json_type, content=content))
    desk.wait_for("begin", 30)
    desk.gate.touch()
    assert [one.predicted()["text"] for one in made] == [size + number for number in range(30)]
    wait_until(lambda: not uploads(desk.server), within=3, what="the removal of the files")
