"""A process that is stopped while it holds the lock of the records, as by a debugger."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from deepaas.jobs.lock_holders import lock_holders
from tests.support import wait_until
from tests.training.trainings import END_SECONDS

HOLDER = """
import os, signal, sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
db.execute(sys.argv[2])
db.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""

WRITES = "SELECT 1"
READS_TOO = "PRAGMA locking_mode=EXCLUSIVE"


@contextlib.contextmanager
def locked(state: Path, mode: str = WRITES) -> Iterator[int]:
    """Let a process stop that has begun to write; yield its pid. It is killed when the block
    ends."""
    args = [sys.executable, "-c", HOLDER, str(state / "trainings.db"), mode]
    with subprocess.Popen(args, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"locked\n"
            wait_until(lambda: is_stopped(process.pid), within=END_SECONDS, what="its stop")
            yield process.pid
        finally:
            process.kill()


def stop_without_lock(process: psutil.Process, state: Path) -> None:
    """Stop a process at a moment when it does not hold the lock of the records."""
    _stop_at(process, lambda: process.pid not in lock_holders(_files(state)))


def stop_while_it_writes(process: psutil.Process, state: Path) -> None:
    """Stop a process at a moment when it holds the lock of the records."""
    _stop_at(process, lambda: process.pid in lock_holders(_files(state)))


def _files(state: Path) -> list[Path]:
    return [state / "trainings.db", state / "trainings.db-shm"]


def _stop_at(process: psutil.Process, is_right: Callable[[], bool]) -> None:
    def is_stopped_in_time() -> bool:
        process.suspend()
        wait_until(lambda: is_stopped(process.pid), within=END_SECONDS, what="its stop")
        if is_right():
            return True
        process.resume()
        return False

    wait_until(is_stopped_in_time, within=END_SECONDS, what="the right moment for a stop")


def is_stopped(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED
