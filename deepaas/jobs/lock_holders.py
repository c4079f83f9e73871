"""Which processes hold the locks of a file, so that an error can name them.

The kernel lists all locks in /proc/locks. Asking it through a descriptor of the file would be
wrong: closing that descriptor would release the locks that SQLite has on the file.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from deepaas.processes import stat_of

_STATES = {"T": "stopped", "t": "stopped by a debugger", "D": "waiting for a disk"}


def lock_holders(files: Iterable[Path]) -> list[int]:
    """Return the pids of other processes that have locked one of these files for writing.

    Processes that this one cannot see, for example of another container, are missing.
    """
    wanted = set()
    for file in files:
        with contextlib.suppress(OSError):
            status = file.stat()
            device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
            wanted.add(f"{device}:{status.st_ino}")
    found = set()
    with contextlib.suppress(OSError), open("/proc/locks") as locks:
        for line in locks:
            # For example "1: POSIX  ADVISORY  WRITE 19625 fe:00:2203886 120 120".
            fields = line.split()
            if len(fields) == 8 and fields[3] == "WRITE" and fields[5] in wanted:
                found.add(int(fields[4]))
    return sorted(pid for pid in found if pid > 0 and pid != os.getpid())


def describe(pids: Iterable[int]) -> str:
    """Return the names of these processes, or "another process" if the list is empty."""
    return " and ".join(map(_describe, pids)) or "another process"


def _describe(pid: int) -> str:
    fields = stat_of(pid)
    state = _STATES.get(fields[0], "") if fields else ""
    return f"process {pid} ({state})" if state else f"process {pid}"
