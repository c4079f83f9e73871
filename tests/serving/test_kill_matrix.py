"""Every way to end, hang or damage a worker, in every phase of its life.

Each test checks the responses to all callers, the replacement of the worker, the health page during
all this, and the next request.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.serving.asking import Answer, Asked, make_known, settle
from tests.serving.processes import (
    answers,
    health,
    lives,
    pids,
    wait_gone,
    wait_ready,
    wait_replaced,
)
from tests.serving.truth import HealthWatch
from tests.support import Server, wait_until

LIMIT = 2.5
"""The time limit of predictions on the server for hangs. All other predictions must take less."""

START_LIMIT = 8.0
"""The time limit of starts on the server for hangs. All other starts must take less."""

MODELS = ("one", "many", "batch", "stream", "astream")


@dataclass(frozen=True)
class Way:
    """A way in which a call goes wrong: the error for its caller, and whether its worker ends."""

    status: int
    code: str
    message: str
    dies: bool


def death(message: str) -> Way:
    return Way(500, "worker_died", message, dies=True)


def failure(message: str) -> Way:
    return Way(500, "predict_failed", message, dies=False)


WAYS = {
    "sigkill": death("was ended by signal 9 (SIGKILL)"),
    "sigsegv": death("was ended by signal 11 (SIGSEGV)"),
    "_exit": death("exited with code 3"),
    "memory": failure("MemoryError"),
    "memory-used-up": failure("MemoryError"),
    "memory-abort": death("was ended by signal 6 (SIGABRT)"),
    "hang": Way(504, "timeout", f"took longer than {LIMIT:g} s", dies=True),
    "hang-gil": Way(504, "timeout", f"took longer than {LIMIT:g} s", dies=True),
    "sys.exit": failure("The model called sys.exit(3)"),
    "unpicklable": failure("Unpicklable: not to be pickled"),
    "text-fails": failure("TextFails"),
    "closed": death("exited with code 1"),
}
VARIANTS = ("sigsegv", "_exit", "memory", "unpicklable", "text-fails")
"""Each of these ends like another one. `make test` includes them where they are cheap."""

LONG = pytest.mark.long
MOST = [
    pytest.param(how, marks=LONG) if how in VARIANTS else how for how in WAYS if how != "hang-gil"
]
"""Without a slow one that ends like "hang"."""


REQUESTS = [pytest.param(False, id="new"), pytest.param(True, id="known")]
"""Whether the server has cached the request's head and uses its fast path."""

# --- servers: one without a time limit for calls, one with a limit


class Servers:
    """Starts a server of each kind on first use."""

    def __init__(self, serve: Serve, *args: str) -> None:
        self._serve = serve
        self._args = args
        self._started: dict[bool, Server] = {}

    def for_way(self, how: str) -> Server:
        hasty = how.startswith("hang")
        if hasty not in self._started:
            limit = ("--predict-timeout", str(LIMIT)) if hasty else ()
            models = {name: f"zoo.mortal:{name}" for name in MODELS}
            args = (*limit, "--restart-delay-max", "1", *self._args)
            self._started[hasty] = self._serve(models, *args)
        return self._started[hasty]


@pytest.fixture(scope="module")
def servers(serve_all: Serve) -> Servers:
    return Servers(serve_all)


@pytest.fixture(scope="module")
def pairs(serve_all: Serve) -> Servers:
    return Servers(serve_all, "--model-name", "one", "--workers", "2")


def usable(server: Server, model: str, workers: int = 1, *, alike: bool = False) -> list[int]:
    """Wait until the model has its workers and one has answered, so that no start is delayed later.

    With `alike`, the server has then cached the head of the next requests.
    """
    wait_ready(server, model, workers)
    if alike:
        make_known(server, model)
    if model.endswith("stream"):
        assert server.predict(model).status_code == 200
    else:
        answers(server, model)
    return pids(server, model)


@contextlib.contextmanager
def gate(path: Path) -> Iterator[str]:
    """Yield a gate at which calls wait, and open it at the end of the block."""
    try:
        yield str(path)
    finally:
        path.touch()


def wait_begun(note: Path) -> None:
    wait_until(note.exists, within=5, what=f"{note.name} to begin")


def is_told(way: Way, answer: Answer) -> bool:
    """Check that this is the error for a caller harmed in this way."""
    assert answer.whole
    assert (answer.status, answer.code) == (way.status, way.code), answer.body
    assert way.message in answer.message
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert len(answer.message) < 1100
    return True


def check_afterwards(server: Server, model: str, how: str, old: list[int]) -> None:
    """Check that the worker was replaced if it had to be, and that the next request is answered."""
    if WAYS[how].dies:
        new = wait_replaced(server, model, old)
        wait_gone(old)
    else:
        assert all(map(lives, old))
        new = pids(server, model)
        assert new == old
    if model.endswith("stream"):
        assert items(Asked(server, model, items=2).answer().body)[-1]["pid"] in new
    else:
        assert answers(server, model, params={"number": 5})["pid"] in new
    assert server.temporary_files() == []


# --- predicting


@pytest.mark.parametrize("alike", REQUESTS)
@pytest.mark.parametrize("how", WAYS)
def test_predicting(servers: Servers, tmp_path: Path, how: str, alike: bool) -> None:
    server = servers.for_way(how)
    old = usable(server, "one", alike=alike)
    note = tmp_path / "note"
    with HealthWatch(server) as watch:
        with gate(tmp_path / "gate") as closed:
            guilty = Asked(server, "one", alike=alike, how=how, note=note, gate=closed)
            wait_begun(note)
            waiting = [Asked(server, "one", alike=alike, number=n) for n in range(3)]
            settle(server)
        assert is_told(WAYS[how], guilty.answer())
        for number, one in enumerate(waiting):
            answer = one.answer()
            if how.startswith("hang") and answer.status != 200:  # it has waited too long as well
                assert (answer.status, answer.code) == (504, "timeout")
                assert "No worker was free" in answer.message
            else:
                assert answer.predicted["number"] == number
        check_afterwards(server, "one", how, old)
    if WAYS[how].dies and not how.startswith("hang"):
        assert any(WAYS[how].message in problem for problem in watch.problems("one"))
    if not WAYS[how].dies:
        assert not watch.problems("one")


# --- predicting, many concurrent calls in one worker


@pytest.mark.parametrize("alike", REQUESTS)
@pytest.mark.parametrize("how", MOST)
def test_predicting_async(servers: Servers, tmp_path: Path, how: str, alike: bool) -> None:
    """The end of a process harms all its calls; a failure in its event loop harms only one."""
    server = servers.for_way(how)
    old = usable(server, "many", alike=alike)
    way = WAYS[how]
    notes = [tmp_path / f"mate-{number}" for number in range(2)]
    with HealthWatch(server), gate(tmp_path / "other") as other:
        mates = [
            Asked(server, "many", alike=alike, number=number, note=note, gate=other)
            for number, note in enumerate(notes)
        ]
        with gate(tmp_path / "gate") as closed:
            guilty = Asked(
                server, "many", alike=alike, how=how, note=tmp_path / "note", gate=closed
            )
            for note in (*notes, tmp_path / "note"):
                wait_begun(note)
        assert is_told(way, guilty.answer())
        if way.dies:
            assert all(is_told(way, mate.answer()) for mate in mates)
        else:
            Path(other).touch()
            said = [mate.answer().predicted for mate in mates]
            assert said == [{"number": number, "pid": old[0]} for number in range(2)]
        check_afterwards(server, "many", how, old)


def test_predicting_async_hang_that_can_be_cancelled(servers: Servers, tmp_path: Path) -> None:
    server = servers.for_way("hang")
    old = usable(server, "many")
    with HealthWatch(server) as watch, gate(tmp_path / "other") as other:
        guilty = Asked(server, "many", how="hang-await", note=tmp_path / "note")
        wait_begun(tmp_path / "note")
        time.sleep(LIMIT / 2)  # so that the mate, which began later, reaches its limit later
        mate = Asked(server, "many", number=7, note=tmp_path / "mate", gate=other)
        wait_begun(tmp_path / "mate")
        assert is_told(WAYS["hang"], guilty.answer())
        Path(other).touch()
        assert mate.answer().predicted == {"number": 7, "pid": old[0]}
        assert answers(server, "many")["pid"] == old[0]
    assert not watch.problems("many")


# --- in a batch


@pytest.mark.parametrize("alike", REQUESTS)
@pytest.mark.parametrize("how", WAYS)
def test_batch(servers: Servers, tmp_path: Path, how: str, alike: bool) -> None:
    """Only the guilty call fails; it ran in a batch with others, and then alone."""
    server = servers.for_way(how)
    old = usable(server, "batch", alike=alike)
    way = WAYS[how]
    note = tmp_path / "note"
    with HealthWatch(server):
        with gate(tmp_path / "gate") as closed:
            first = Asked(
                server, "batch", alike=alike, number=9, note=tmp_path / "first", gate=closed
            )
            wait_begun(tmp_path / "first")
            before = [Asked(server, "batch", alike=alike, number=number) for number in (0, 1)]
            settle(server)
            guilty = Asked(server, "batch", alike=alike, how=how, note=note)
            settle(server)
            after = [Asked(server, "batch", alike=alike, number=2)]
            settle(server)
        assert first.answer().predicted == {"number": 9, "pid": old[0]}
        said = [one.answer().predicted["number"] for one in (*before, *after)]
        assert said == [0, 1, 2]
        assert is_told(way, guilty.answer())
        noted = [line.split() for line in note.read_text().splitlines()]
        assert [int(size) for _, size in noted] == [4, 1]
        tried = [int(pid) for pid, _ in noted]
        assert len(set(tried)) == (2 if way.dies else 1)
        check_afterwards(server, "batch", how, tried[-1:])
        wait_gone([pid for pid in tried if way.dies])


# --- streaming

ACCEPTS = {"lines": {}, "events": {"Accept": "text/event-stream"}, "bytes": {}}
STREAMS = [("lines", False), ("lines", True), ("events", True), ("bytes", False)]


def items(body: bytes) -> list[Any]:
    """Return the values in a stream of lines or events; events of other kinds with their names."""
    values = []
    for block in body.decode().replace("\nevent: ", "\n\nevent: ").split("\n"):
        if block.startswith("event: "):
            values.append(block)
        elif block:
            values.append(json.loads(block.removeprefix("data: ")))
    return values


def check_error_at_the_end(kind: str, way: Way, answer: Answer) -> None:
    """Check that the stream ends with the error, in the stream's format, after its items."""
    if kind == "bytes":
        assert not answer.whole
        return
    assert answer.whole
    content = items(answer.body)
    if kind == "events":
        assert content[-2] == "event: error"
        assert answer.body.endswith(b"\n\n")
        error = content[-1]
    else:
        error = content[-1]["error"]
    assert set(error) == {"message", "code", "request_id"}
    assert error["code"] == way.code
    assert way.message in error["message"]


@pytest.mark.parametrize("how", MOST)
@pytest.mark.parametrize(
    ("model", "kind", "alike"),
    [
        pytest.param(
            model,
            kind,
            alike,
            id=f"{model}-{kind}-{'known' if alike else 'new'}",
            # The server sends what the worker sends, whether the model's function is async or not.
            marks=LONG if model == "astream" and (kind, alike) not in STREAMS[1:3] else (),
        )
        for model in ("stream", "astream")
        for kind, alike in STREAMS
    ],
)
def test_streaming(
    servers: Servers, tmp_path: Path, model: str, kind: str, alike: bool, how: str
) -> None:
    server = servers.for_way(how)
    old = usable(server, model)
    if alike:
        make_known(server, model, ACCEPTS[kind])
    way = WAYS[how]
    note = tmp_path / "note"
    accept = "text/plain" if kind == "bytes" else "application/json"
    with HealthWatch(server):
        with gate(tmp_path / "gate") as closed:
            guilty = Asked(
                server,
                model,
                alike=alike,
                headers=ACCEPTS[kind],
                how=how,
                number=4,
                accept=accept,
                note=note,
                gate=closed,
            )
            wait_begun(note)
            came = guilty.read_until(b"2;" if kind == "bytes" else b'"item":2')
        rest = guilty.answer()
        answer = Answer(rest.status, rest.headers, came + rest.body, rest.whole)
        assert answer.status == 200
        if kind == "bytes":
            assert answer.body == b"0;1;2;"
        else:
            values = [one for one in items(answer.body) if "item" in one]
            assert values == [{"item": n, "number": 4, "pid": old[0]} for n in range(3)]
        check_error_at_the_end(kind, way, answer)
        check_afterwards(server, model, how, old)


@pytest.mark.parametrize("how", MOST)
@pytest.mark.parametrize("model", ["stream", "astream"])
def test_streaming_before_the_first_item(
    servers: Servers, tmp_path: Path, model: str, how: str
) -> None:
    """The failure is then an ordinary error response."""
    server = servers.for_way(how)
    old = usable(server, model)
    with HealthWatch(server):
        assert is_told(WAYS[how], Asked(server, model, how=how, items=0).answer())
        check_afterwards(server, model, how, old)


# --- idle

IDLE: dict[str, dict[str, str]] = {
    "thread": {
        # An exception in a thread ends only this thread, not the process.
        **{how: WAYS[how].message for how in ("sigkill", "sigsegv", "_exit", "memory-abort")},
        **dict.fromkeys(("memory", "memory-used-up", "sys.exit"), ""),
        **dict.fromkeys(("unpicklable", "text-fails", "hang"), ""),
        "hang-gil": "hangs",
        "closed": "closed",
    },
    "timer": {
        # A signal handler runs in the main thread, outside predict: its exception ends the process.
        **{how: WAYS[how].message for how in ("sigkill", "sigsegv", "_exit", "memory-abort")},
        "memory": "exited with code 1",
        "memory-used-up": "has lost its worker",
        "sys.exit": "exited with code 3",
        "unpicklable": "exited with code 1",
        "text-fails": "exited with code 1",
        "closed": "exited with code 1",
        "hang": "hangs",
        "hang-gil": "hangs",
    },
}


@pytest.mark.parametrize("when", IDLE)
@pytest.mark.parametrize("how", WAYS)
def test_idle(servers: Servers, tmp_path: Path, how: str, when: str) -> None:
    server = servers.for_way(how)
    old = usable(server, "one")
    expected = IDLE[when][how]
    note = tmp_path / "note"
    with HealthWatch(server) as watch:
        done = Asked(server, "one", how=how, when=when, note=note, number=3).answer()
        assert done.predicted == {"number": 3, "pid": old[0]}
        wait_until(Path(f"{note}.harm").exists, within=5, what="the harm")
        if not expected:
            check_unharmed(server, old)
        elif expected == "hangs":
            check_hanging_worker_is_replaced(server, old)
        else:
            wait_replaced(server, "one", old)
            wait_gone(old)
            assert answers(server, "one", params={"number": 5})["number"] == 5
            if expected != "closed":
                assert any(expected in problem for problem in watch.problems("one"))
    assert server.temporary_files() == []


def check_unharmed(server: Server, old: list[int]) -> None:
    for number in range(5):
        predicted = answers(server, "one", params={"number": number})
        assert predicted == {"number": number, "pid": old[0]}
    assert pids(server, "one") == old


def check_hanging_worker_is_replaced(server: Server, old: list[int]) -> None:
    """The server sees that an idle worker hangs only when it does not begin a call."""
    answer = Asked(server, "one").answer()
    assert (answer.status, answer.code) == (504, "timeout")
    wait_replaced(server, "one", old)
    wait_gone(old)
    assert answers(server, "one", params={"number": 5})["number"] == 5


OUTSIDE = {
    "SIGKILL": "signal 9 (SIGKILL)",
    "SIGSEGV": "signal 11 (SIGSEGV)",
    "SIGABRT": "signal 6 (SIGABRT)",
    "SIGTERM": "signal 15 (SIGTERM)",
    "SIGSTOP": "hangs",
}


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("model", ["one", "many", "batch"])
def test_idle_signal_from_outside(servers: Servers, model: str, name: str) -> None:
    server = servers.for_way("hang" if name == "SIGSTOP" else "sigkill")
    old = usable(server, model)
    with HealthWatch(server) as watch:
        os.kill(old[0], signal.Signals[name])
        if name == "SIGSTOP":
            answer = Asked(server, model).answer()
            assert (answer.status, answer.code) == (504, "timeout")
        new = wait_replaced(server, model, old)
        wait_gone(old)
        assert answers(server, model, params={"number": 5}) == {"number": 5, "pid": new[0]}
    if name != "SIGSTOP":
        assert any(OUTSIDE[name] in problem for problem in watch.problems(model))


# --- starting: importing, warming

STARTING = {
    **{how: WAYS[how].message for how in ("sigkill", "sigsegv", "_exit", "memory-abort")},
    "hang": f"was not ready in {START_LIMIT:g} s",
    "hang-gil": f"was not ready in {START_LIMIT:g} s",
    "sys.exit": "SystemExit: sys.exit(3) was called",
    "unpicklable": "Unpicklable: not to be pickled",
    "text-fails": "TextFails",
    "closed": "exited with code 1",
}
PHASES = {"import": "import", "warm": "warm"}
"""Words that occur in the health page's text about each phase."""


@dataclass
class Starter:
    """A server whose model `one` can be made to fail when it starts."""

    server: Server
    script: Path

    @contextlib.contextmanager
    def going_wrong(self, phase: str, how: str) -> Iterator[None]:
        self.script.write_text(f"{phase} {how}")
        try:
            yield
        finally:
            self.script.unlink()


@pytest.fixture(scope="module")
def starter(serve_all: Serve, tmp_path_factory: pytest.TempPathFactory) -> Starter:
    script = tmp_path_factory.mktemp("start") / "script"
    models = {"one": "zoo.mortal:one", "echo": "zoo.echo"}
    args = ("--start-timeout", str(START_LIMIT), "--restart-delay-max", "1")
    return Starter(serve_all(models, *args, env={"ZOO_START": str(script)}), script)


def is_said(server: Server, *texts: str) -> bool:
    """Return whether the health page gives all these texts for the model that does not start."""
    state = health(server, "one")
    return not state["ready"] and all(text in str(state["problem"]) for text in texts)


@pytest.mark.parametrize(
    ("phase", "how"),
    [*product(PHASES, STARTING), ("warm", "memory"), ("warm", "memory-used-up")],
)
def test_starting(starter: Starter, phase: str, how: str) -> None:
    server = starter.server
    old = usable(server, "one")
    told = STARTING.get(how, "MemoryError")
    with HealthWatch(server):
        with starter.going_wrong(phase, how):
            os.kill(old[0], signal.SIGKILL)
            wait_until(lambda: is_said(server, PHASES[phase], told), within=8, what=f"{told!r}")
            refused = Asked(server, "one").answer()
            assert answers(server, "echo", params={"text": "a"}) == {"text": ["str", "a"]}
        assert (refused.status, refused.code) == (503, "model_not_ready")
        assert told in refused.message
        assert int(refused.headers["Retry-After"]) >= 1
        wait_ready(server, "one")
        assert answers(server, "one", params={"number": 5})["number"] == 5
    assert server.temporary_files() == []


# --- draining


def ends_well(server: Server, within: float) -> bool:
    """Return whether the server exits with 0 in time and leaves nothing."""
    family = server.processes()
    assert server.wait_end(within=within) == 0
    wait_gone([process.pid for process in family])
    assert list((server.home / "tmp").iterdir()) == []
    assert not re.search(r"did not end in|ERROR (asyncio|deepaas\.api)", server.log())
    return True


DRAINING = [
    pytest.param(model, alike, how, id=f"{name}-{how}", marks=() if how in short else LONG)
    for name, model, alike, short in [
        ("known", "one", True, [how for how in WAYS if how not in VARIANTS]),
        ("new", "one", False, ["sigkill", "hang"]),
        ("stream", "stream", False, ["sigkill", "hang", "sys.exit"]),
    ]
    for how in WAYS
    if how != "hang-gil"
]
"""How a call goes wrong does not depend on how it was sent, so most ways have one kind of call."""


@pytest.mark.parametrize(("model", "alike", "how"), DRAINING)
def test_draining(serve: Serve, tmp_path: Path, model: str, alike: bool, how: str) -> None:
    """Calls queued behind the guilty one go to the next worker, although the server stops."""
    limit = ("--predict-timeout", str(LIMIT)) if how.startswith("hang") else ()
    server = serve({model: f"zoo.mortal:{model}"}, *limit)
    note = tmp_path / "note"
    if alike:
        make_known(server, model)
    with gate(tmp_path / "gate") as closed:
        guilty = Asked(server, model, alike=alike, how=how, note=note, gate=closed)
        wait_begun(note)
        waiting = Asked(server, model, alike=alike, number=8)
        settle(server)
        os.kill(server.pid, signal.SIGTERM)
        wait_until(lambda: "Waiting for 2 request(s)" in server.log(), within=5, what="the word")
    told = guilty.answer()
    if model == "stream":
        check_error_at_the_end("lines", WAYS[how], told)
    else:
        assert is_told(WAYS[how], told)
        assert told.headers["Connection"] == "close"
    last = waiting.answer()
    if how.startswith("hang") and last.status != 200:
        assert (last.status, last.code) == (504, "timeout")
    elif model == "stream":
        assert [one["number"] for one in items(last.body)] == [8] * 6
    else:
        assert last.predicted["number"] == 8
    assert ends_well(server, within=5)


# --- two workers at once


@pytest.mark.parametrize("how", WAYS)
def test_two_workers_at_once(pairs: Servers, tmp_path: Path, how: str) -> None:
    server = pairs.for_way(how)
    old = usable(server, "one", workers=2)
    notes = [tmp_path / "first", tmp_path / "second"]
    with HealthWatch(server) as watch:
        with gate(tmp_path / "gate") as closed:
            guilty = []
            for note in notes:
                guilty.append(Asked(server, "one", how=how, note=note, gate=closed))
                wait_begun(note)
            assert {int(note.read_text()) for note in notes} == set(old)
            waiting = [Asked(server, "one", number=number) for number in range(4)]
            settle(server)
        assert all(is_told(WAYS[how], one.answer()) for one in guilty)
        for number, one in enumerate(waiting):
            answer = one.answer()
            if how.startswith("hang") and answer.status != 200:
                assert (answer.status, answer.code) == (504, "timeout")
            else:
                assert answer.predicted["number"] == number
        if WAYS[how].dies:
            new = wait_replaced(server, "one", old)
            wait_gone(old)
        else:
            new = old
            assert sorted(pids(server, "one")) == sorted(old)
        assert answers_of_both(server, tmp_path, new)
    if not WAYS[how].dies:
        assert not watch.problems("one")


def answers_of_both(server: Server, tmp_path: Path, workers: list[int]) -> bool:
    """Return whether both workers answer calls that run at the same time."""
    notes = [tmp_path / "third", tmp_path / "fourth"]
    with gate(tmp_path / "last") as closed:
        asked = []
        for note in notes:
            asked.append(Asked(server, "one", note=note, gate=closed))
            wait_begun(note)
    return {one.answer().predicted["pid"] for one in asked} == set(workers)
