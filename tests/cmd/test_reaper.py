"""The server reaps the orphans that it gets, as process 1 of a container, and nothing else."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import Serve
from tests.serving.processes import wait_ready
from tests.support import Server, predictions, wait_until
from tests.training.trainings import END_SECONDS, Trainings

SUBREAPER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER, which survives what follows
os.execv(sys.argv[1], sys.argv[1:])
"""
LAUNCHER = [sys.executable, "-c", SUBREAPER]


@pytest.fixture
def subreaper(serve: Serve) -> Server:
    return serve({}, "zoo.orphans", "zoo.trains", "--log-level", "DEBUG", launcher=LAUNCHER)


def zombies(pid: int) -> list[int]:
    found = []
    for process in psutil.Process(pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() == psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def wait_reaped(server: Server, orphans: int) -> None:
    def all_are() -> bool:
        return server.log().count("Reaped process") == orphans

    wait_until(all_are, within=30, what=f"the end of {orphans} orphans")


def test_orphans_are_reaped(subreaper: Server) -> None:
    """This uses the real clock; `test_reaper_times.py` also covers session leaders."""
    for _ in range(3):
        predictions(subreaper.predict("orphans"))
    wait_reaped(subreaper, 3)
    assert zombies(subreaper.pid) == []


def test_server_learns_how_its_own_children_have_ended(subreaper: Server) -> None:
    for code in (41, 42, 43):
        wait_ready(subreaper, "orphans")
        answer = subreaper.predict("orphans", params={"do": "exit", "code": code})
        assert f"exited with code {code}" in answer.json()["message"]
    trainings = Trainings(subreaper)
    uuids = [trainings.begin() for _ in range(2)]
    for uuid in uuids:
        wait_until(
            lambda uuid=uuid: trainings.get(uuid)["status"] == "done",  # type: ignore[misc]
            within=END_SECONDS,
            what="the end of a training",
        )
    assert "Reaped process" not in subreaper.log()


def test_server_that_gets_no_orphans_waits_for_its_children_alone(serve: Serve) -> None:
    server = serve({}, "zoo.orphans")
    predictions(server.predict("orphans"))
    assert zombies(server.pid) == []


# --- process 1

INIT = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


@pytest.fixture
def init() -> Iterator[Server]:
    """A server that will be process 1 of a separate namespace, not started yet."""
    if shutil.which("unshare") is None or subprocess.run([*INIT, "true"], check=False).returncode:
        pytest.skip("no process can be process 1 here")
    server = Server(args=["zoo.orphans", "--log-level", "DEBUG"], launcher=INIT)
    yield server
    server.kill()


def process_1(server: Server) -> psutil.Process | None:
    """Return the server process that is process 1, or None if it has not started yet."""
    for process in psutil.Process(server.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "deepaas-run" in " ".join(process.cmdline()):
                return process
    return None


def test_process_1_reaps_orphans(init: Server) -> None:
    init.start()
    server = process_1(init)
    assert server is not None
    for _ in range(3):
        predictions(init.predict("orphans"))
    wait_reaped(init, 3)
    assert zombies(server.pid) == []
    server.send_signal(signal.SIGTERM)
    assert init.wait_end() == 0


def _catches(pid: int, signum: signal.Signals) -> bool:
    caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    assert caught
    return bool(int(caught[1], 16) >> (signum - 1) & 1)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_process_1_ends_by_a_signal_while_it_imports(init: Server, signum: signal.Signals) -> None:
    """The kernel drops signals to process 1 that have no handler."""
    init.start(wait=False)
    wait_until(lambda: process_1(init), within=10, what="the server")
    server = process_1(init)
    assert server is not None
    wait_until(lambda: _catches(server.pid, signal.SIGTERM), within=10, what="the handler")
    os.kill(server.pid, signum)
    assert init.wait_end() in (0, 128 + signum)
