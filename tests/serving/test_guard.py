"""The guard ends or is stopped: another one replaces it, and no worker outlives its server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from deepaas.protocol import messages
from deepaas.serving.guard import Guard
from deepaas.serving.worker_handle import WorkerHandle
from tests.conftest import Serve
from tests.serving.processes import answers, killed_at_the_end, lives, pids, wait_gone
from tests.support import Server, wait_until


def guards_of(server: Server) -> list[int]:
    """Return the pids of the server's guards: none while the next one is being started."""
    found = []
    for process in psutil.Process(server.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "deepaas.guard.main" in " ".join(process.cmdline()):
                found.append(process.pid)
    return found


def guard_of(server: Server) -> int:
    (guard,) = guards_of(server)
    return guard


def wait_for_another(server: Server, guard: int) -> None:
    wait_until(
        lambda: guards_of(server) not in ([], [guard]), within=15, what=f"a guard after {guard}"
    )


def replace_guard(server: Server) -> None:
    """Kill the guard and wait for the next one."""
    guard = guard_of(server)
    os.kill(guard, signal.SIGKILL)
    wait_for_another(server, guard)


@contextlib.contextmanager
def hanging(server: Server, note: Path) -> Iterator[int]:
    """Keep a prediction hanging in native code during the block, and yield its pid."""

    def call() -> None:
        with contextlib.suppress(httpx.HTTPError):
            server.predict("hangs", params={"how": "gil", "note": str(note)})

    thread = threading.Thread(target=call)
    thread.start()
    wait_until(lambda: note.exists() and note.read_text(), within=10, what="the prediction")
    with killed_at_the_end(int(note.read_text())):
        yield int(note.read_text())
    thread.join()


def test_guard_that_is_killed_is_replaced_by_one_that_knows_all_workers(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve({}, "zoo.dies", "zoo.hangs", "--workers", "2")
    first = guard_of(server)
    replace_guard(server)
    assert f"The guard (pid {first}) was ended by signal 9 (SIGKILL)" in server.log()
    answers(server, "dies", params={"how": "session"})
    with hanging(server, tmp_path / "note"):
        everyone = [process.pid for process in server.processes()]
        assert len(everyone) >= 7  # the server, its guard, four workers, a child
        os.kill(server.pid, signal.SIGKILL)
        wait_gone(everyone)
    wait_until(lambda: not list((server.home / "tmp").iterdir()), within=3, what="the removal")


def test_guards_that_end_in_a_row_are_started_at_growing_intervals(serve: Serve) -> None:
    server = serve({}, "zoo.echo")
    for least in (0.5, 1.0):
        killed = time.monotonic()
        replace_guard(server)
        assert time.monotonic() - killed > least


def test_guard_is_started_once_there_is_a_descriptor_for_it(serve: Serve) -> None:
    server = serve({}, "zoo.echo")
    soft, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    guard = guard_of(server)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (3, hard))
    try:
        os.kill(guard, signal.SIGKILL)
        wait_until(
            lambda: "No guard can be started" in server.log(),
            within=10,
            what="the words in the log",
        )
    finally:
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (soft, hard))
    wait_for_another(server, guard)


def test_worker_ends_with_its_server_also_without_a_guard(serve: Serve, tmp_path: Path) -> None:
    server = serve({}, "zoo.hangs", "zoo.echo")
    with hanging(server, tmp_path / "note") as busy:
        workers = [busy, *pids(server, "echo")]
        os.kill(server.pid, signal.SIGSTOP)  # so that it does not replace its guard
        os.kill(guard_of(server), signal.SIGKILL)
        os.kill(server.pid, signal.SIGKILL)
        wait_gone(workers)


ASK = """
import sys
from deepaas.processes import end_with_parent
end_with_parent(int(sys.argv[1]))
print("goes on")
"""


@pytest.mark.parametrize(("parent", "code", "said"), [("its own", 0, "goes on\n"), ("1", 1, "")])
def test_process_whose_parent_has_ended_already_ends(parent: str, code: int, said: str) -> None:
    """The parent may end before the process has set its parent-death signal."""
    parent = str(os.getpid()) if parent == "its own" else parent
    ran = subprocess.run(
        [sys.executable, "-c", ASK, parent], capture_output=True, text=True, timeout=20
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (code, said, "")


def test_guard_that_is_stopped_does_not_hold_up_the_end(serve: Serve) -> None:
    server = serve({}, "zoo.echo")
    everyone = [process.pid for process in server.processes()]
    os.kill(guard_of(server), signal.SIGSTOP)
    os.kill(server.pid, signal.SIGTERM)
    assert server.wait_end() == 0
    assert not any(map(lives, everyone))
    assert list((server.home / "tmp").iterdir()) == []


def test_guard_that_reads_nothing_does_not_hold_up_its_server(tmp_path: Path) -> None:
    """It is replaced, and the next one receives the pids of all workers."""
    guard = Guard(str(tmp_path / "uploads"))
    (stopped,) = psutil.Process().children()

    async def tell() -> None:
        with guard.watched():
            os.kill(stopped.pid, signal.SIGSTOP)
            for session in range(2**30, 2**30 + 20_000):
                guard.add(session)
                guard.remove(session)
            while psutil.Process().children() in ([], [stopped]):
                await asyncio.sleep(0.02)

    try:
        asyncio.run(asyncio.wait_for(tell(), 10))
    finally:
        guard.close()
    assert psutil.Process().children() == []


def test_thread_that_may_end_starts_no_worker() -> None:
    """The kernel kills a worker when the thread that started it ends."""

    async def start() -> None:
        start = messages.Start("a", "zoo.echo", "", 0, False, {})
        with pytest.raises(RuntimeError, match="only the main thread"):
            WorkerHandle(start, "mark", lambda _: None, lambda _: None)

    thread = threading.Thread(target=asyncio.run, args=(start(),))
    thread.start()
    thread.join()
