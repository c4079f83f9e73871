"""Many deaths, hangs and failures in a row: they leave nothing behind."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import Chaos, Serve
from tests.serving.asking import Answer, Asked
from tests.serving.processes import MEGABYTE, lives, pids, wait_gone, wait_ready
from tests.serving.traces import memory, traces, wait_for_traces
from tests.support import Server, wait_until

LEAST_ROUNDS = 70
SETTLED = 40
"""Rounds after which the server's memory must no longer grow."""

SEED = 20_240_229
MODELS = ("one", "many", "batch", "stream")

TOLD = {
    "sigkill": ("worker_died", "signal 9 (SIGKILL)"),
    "sigsegv": ("worker_died", "signal 11 (SIGSEGV)"),
    "_exit": ("worker_died", "exited with code 3"),
    "memory-abort": ("worker_died", "signal 6 (SIGABRT)"),
    "closed": ("worker_died", "exited with code 1"),
    "sys.exit": ("predict_failed", "sys.exit(3)"),
    "memory": ("predict_failed", "MemoryError"),
}
SCENES = ("predicting", "predicting", "two at once", "idle", "thread", "left", "uploading")


class Rounds:
    """Plays the rounds, and checks the response to each caller."""

    def __init__(self, server: Server, directory: Path) -> None:
        self._server = server
        self._directory = directory
        self._random = random.Random(SEED)
        self._number = 0

    def play(self) -> None:
        self._number += 1
        model = self._random.choice(MODELS)
        how = self._random.choice([*TOLD])
        scene = self._random.choice(SCENES)
        with self._described(f"round {self._number}: {how} of {model}, {scene}"):
            self._play(model, how, scene)

    @contextlib.contextmanager
    def _described(self, text: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise AssertionError(f"{text}: {error}") from error

    def _play(self, model: str, how: str, scene: str) -> None:
        self._answered(model)
        match scene:
            case "predicting":
                _check(self._ask(model, how).answer(), model, how)
            case "two at once":
                both = [self._ask(model, how) for _ in range(2)]
                for one in both:
                    _check(one.answer(), model, how)
            case "idle":
                self._kill_idle(model)
            case "thread":
                self._harm_later(model, how)
            case "left":
                self._leave(model, how)
            case "uploading":
                self._upload(model, how)

    def _ask(self, model: str, how: str, **more: Any) -> Asked:
        return Asked(self._server, model, how=how, items=2, **more)

    def _answered(self, model: str) -> None:
        """Check that the model answers at once, or later if its workers have died repeatedly."""
        until = time.monotonic() + 15
        while True:
            answer = self._ask(model, "live", number=self._number).answer()
            if answer.status == 200:
                assert b'"number":%d' % self._number in answer.body
                return
            assert (answer.status, answer.code) == (503, "model_not_ready"), answer.body
            assert int(answer.headers["Retry-After"]) >= 1
            assert time.monotonic() < until, answer.message
            time.sleep(0.05)

    def _kill_idle(self, model: str) -> None:
        """Kill a worker from outside, in any phase of its life."""
        found = pids(self._server, model)
        if found:
            victim = self._random.choice(found)
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            wait_gone([victim])

    def _harm_later(self, model: str, how: str) -> None:
        """Let the model harm its process after it has answered."""
        note = self._directory / f"note-{self._number}"
        answer = self._ask(model, how, when="thread", note=note).answer()
        assert answer.status == 200
        wait_until(Path(f"{note}.harm").exists, within=5, what="the harm")
        self._wait_for_end(how, note)

    def _leave(self, model: str, how: str) -> None:
        """Leave before the response."""
        note = self._directory / f"note-{self._number}"
        with self._ask(model, how, note=note):
            wait_until(note.exists, within=10, what="the call")
        self._wait_for_end(how, note)

    def _wait_for_end(self, how: str, note: Path) -> None:
        """Wait until the worker is dead, so that its death harms no other call."""
        if TOLD[how][0] == "worker_died":
            wait_gone([int(note.read_text().split()[0])], within=5)

    def _upload(self, model: str, how: str) -> None:
        """Send a body that is stored in a file while its worker dies."""
        response = self._server.predict(
            model,
            params={"how": how, "items": 0},
            content=b"x" * 300_000,
            headers={"Content-Type": "application/octet-stream"},
        )
        assert response.status_code == 500
        assert (response.json()["code"], TOLD[how][1] in response.text) == (TOLD[how][0], True)


def _check(answer: Answer, model: str, how: str) -> None:
    code, message = TOLD[how]
    text = answer.body.decode()
    assert answer.whole
    assert answer.status == (200 if model == "stream" else 500), text
    assert f'"code":"{code}"' in text
    assert message in text


@pytest.fixture
def server(serve: Serve) -> Server:
    models = {name: f"zoo.mortal:{name}" for name in MODELS}
    return serve(models, "--workers", "2", "--restart-delay-max", "1")


def settled(server: Server) -> None:
    """Wait until all workers are running and nothing is left of the dead ones."""
    for model in MODELS:
        wait_ready(server, model, workers=2)
    workers = {pid for model in MODELS for pid in pids(server, model)}

    def nobody_else() -> bool:
        left = [one.pid for one in psutil.Process(server.pid).children() if lives(one.pid)]
        return len(set(left) - workers) <= 1  # the guard

    wait_until(nobody_else, within=10, what="the end of the dead")


def test_many_rounds_of_deaths_leave_nothing(server: Server, tmp_path: Path, chaos: Chaos) -> None:
    number = max(LEAST_ROUNDS, 2 * chaos.rounds)
    settled(server)
    before = traces(server)
    rounds = Rounds(server, tmp_path)
    began = time.monotonic()
    for _ in range(SETTLED):
        rounds.play()
    settled(server)
    size = memory(server)
    for _ in range(number - SETTLED):
        rounds.play()
    took = time.monotonic() - began
    settled(server)
    wait_for_traces(server, before)
    assert memory(server) - size < 3 * MEGABYTE
    assert "Traceback" not in records_of_the_server(server)
    print(f"{number} rounds in {took:.1f} s, {memory(server) - size} bytes")


def records_of_the_server(server: Server) -> str:
    """Return the lines logged by the server itself, without those of its workers."""
    start = f" {server.pid} "
    return "\n".join(line for line in server.log().splitlines() if start in line[:60])
