"""A process that is stopped while it holds the lock of the records, as by a debugger."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

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


def is_stopped(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED
