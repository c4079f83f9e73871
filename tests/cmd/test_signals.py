"""Signals at any moment: some stop the server, and the others have no effect."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import Serve, short_and_long
from tests.serving.callers import Caller, Journal
from tests.serving.processes import lives
from tests.support import Server, predictions, wait_until

TERM, INT, HUP = signal.SIGTERM, signal.SIGINT, signal.SIGHUP
END_SECONDS = 10.0
ROUNDS = 12


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that is not started yet."""
    server = Server(args=["zoo.echo", "--workers", "2"])
    yield server
    server.kill()


def command_lines(server: Server) -> list[str]:
    """Return the command lines of the server's children."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(server.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(" ".join(process.cmdline()))
    return found


def has_child(server: Server, what: str) -> bool:
    return any(what in line for line in command_lines(server))


def has_imported(server: Server, library: str) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return any(library in region.path for region in psutil.Process(server.pid).memory_maps())
    return False


MOMENTS: dict[str, Callable[[Server], bool]] = {
    "importing": lambda server: has_imported(server, "_asyncio") or server.is_open(),
    "making its directory": lambda server: any((server.home / "tmp").iterdir()),
    "starting its guard": lambda server: has_child(server, "deepaas.guard"),
    "starting a worker": lambda server: has_child(server, "deepaas.worker import main"),
    "ready": lambda server: "Model echo" in server.log(),
    "open": lambda server: server.is_open(),
}
SOME_MOMENTS = ("importing", "starting a worker", "open")
AT_SOME_MOMENTS = pytest.mark.parametrize(
    "moment", short_and_long(SOME_MOMENTS, (one for one in MOMENTS if one not in SOME_MOMENTS))
)
"""At every moment, for what `test_start_is_ended_by_a_signal` covers at each with one signal."""


def start_until(server: Server, moment: str) -> None:
    server.start(wait=False)
    wait_until(lambda: MOMENTS[moment](server), within=30, what=moment)


def send(server: Server, signum: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(server.pid, signum)


def family(server: Server) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [process for process in server.processes() if process.pid != server.pid]
    return []


def assert_ends(server: Server, *signals: signal.Signals) -> None:
    """Send the signals; the exit code must be 0 or that of a signal, and nothing may be left."""
    everyone = family(server)
    for signum in signals:
        send(server, signum)
    code = server.wait_end(within=END_SECONDS)
    assert code in (0, *(-signum for signum in signals), *(128 + signum for signum in signals))
    wait_until(lambda: not any(lives(one.pid) for one in everyone), within=5, what="their end")
    wait_until(lambda: not list((server.home / "tmp").iterdir()), within=5, what="the removal")
    assert "Traceback" not in server.log()


@pytest.mark.parametrize(
    ("moment", "signum"),
    short_and_long(
        [*((moment, TERM) for moment in MOMENTS), *((moment, INT) for moment in SOME_MOMENTS)],
        [(moment, INT) for moment in MOMENTS if moment not in SOME_MOMENTS],
    ),
)
def test_start_is_ended_by_a_signal(server: Server, moment: str, signum: signal.Signals) -> None:
    start_until(server, moment)
    assert_ends(server, signum)


@AT_SOME_MOMENTS
def test_second_signal_in_the_start_ends_it_too(server: Server, moment: str) -> None:
    start_until(server, moment)
    assert_ends(server, TERM, INT)


@AT_SOME_MOMENTS
def test_hangup_in_the_start_does_no_harm(server: Server, moment: str) -> None:
    start_until(server, moment)
    send(server, HUP)
    server.wait_ready()
    assert predictions(server.predict("echo", params={"text": "a"})) == {"text": ["str", "a"]}
    assert_ends(server, TERM)


@pytest.mark.parametrize(
    "number",
    short_and_long(
        (n for n in range(ROUNDS) if n % 4 < 2), (n for n in range(ROUNDS) if n % 4 >= 2)
    ),
)
def test_start_is_ended_by_a_signal_at_any_moment(number: int) -> None:
    """The signal comes after a fixed time, at any point of the start or after it."""
    server = Server(args=["zoo.echo"]).start(wait=False)
    try:
        wait_until(lambda: "deepaas-run" in " ".join(_command(server)), within=10, what="the start")
        signum = INT if number % 2 else TERM
        if signum == INT:  # Python itself, before it runs our code, may lose a SIGINT
            wait_until(lambda: _has_handler(server, HUP), within=30, what="our code")
        time.sleep(number / 10)
        send(server, signum)
        assert server.wait_end(within=END_SECONDS) in (0, -signum)
        wait_until(lambda: not list((server.home / "tmp").iterdir()), within=5, what="the removal")
    finally:
        server.kill()


def _command(server: Server) -> list[str]:
    return psutil.Process(server.pid).cmdline()


DEAF = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize("moment", ["importing", "open"])
@pytest.mark.parametrize("signum", [TERM, INT])
def test_signals_end_it_also_if_its_parent_blocks_and_ignores_them(
    moment: str, signum: signal.Signals
) -> None:
    """A shell starts background processes with SIGINT ignored."""
    server = Server(args=["zoo.echo"], launcher=[sys.executable, "-c", DEAF])
    try:
        start_until(server, moment)
        assert_ends(server, signum)
    finally:
        server.kill()


# --- during a stop


def test_hangup_while_it_stops_does_no_harm(serve: Serve, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    server = serve({}, "zoo.gated")
    with Caller(server) as caller:
        caller.predict("gated", journal.args(1, gate="gate"))
        journal.wait_for("begin", 1)
        send(server, TERM)
        wait_until(lambda: not server.is_open(), within=5, what="the closed port")
        send(server, HUP)
        wait_until(lambda: "was not reloaded" in server.log(), within=5, what="the refusal")
        journal.open("gate")
        assert caller.answer().status == 200
    assert server.wait_end() == 0


STUCK = """
import threading
from deepaas.cmd import run
run.HURRY_SECONDS = 0.1
run._exit_later(143)
threading.Lock().acquire() and threading.Event().wait()
"""


def test_second_signal_is_the_end_whatever_is_stuck() -> None:
    ran = subprocess.run([sys.executable, "-c", STUCK], timeout=20, check=False)
    assert ran.returncode == 143


def _has_handler(server: Server, signum: signal.Signals) -> bool:
    """Tell whether the process has a handler for a signal."""
    with contextlib.suppress(FileNotFoundError):
        for line in Path(f"/proc/{server.pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) & 1 << (signum - 1))
    return False
