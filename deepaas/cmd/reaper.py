"""Reaps orphans if the server is process 1, as in a container, or a subreaper.

A process whose parent has exited becomes a child of process 1, or of the nearest "subreaper" above
it. When it exits, it stays a zombie until its new parent calls waitpid.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
from collections.abc import Iterator

from deepaas import processes

logger = logging.getLogger("deepaas")

LOOK_SECONDS = 1.0

LOOKS = 2
"""A zombie is reaped at this look. The server's own children are reaped elsewhere, at once."""

LOOKS_OF_LEADERS = 10
"""The same for session leaders: the server's own children are, orphans rarely are."""

PR_GET_CHILD_SUBREAPER = 37


def gets_orphans() -> bool:
    """Return whether orphans become children of this process."""
    subreaper = ctypes.c_int(0)
    ctypes.CDLL(None).prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(subreaper), 0, 0, 0)
    return os.getpid() == 1 or bool(subreaper.value)


@contextlib.contextmanager
def reaping_orphans() -> Iterator[None]:
    """Reap orphans while the block runs, if this process gets any."""
    task = asyncio.create_task(_Reaper().run()) if gets_orphans() else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()


class _Reaper:
    """Reaps child processes that this process did not start."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._look()

    def _look(self) -> None:
        zombies = processes.zombies() if _has_zombies() else {}
        seen = {
            pid: self._seen.get(pid, 0) + 1 for pid in zombies if pid not in processes.own_children
        }
        for pid, times in seen.items():
            if times >= (LOOKS_OF_LEADERS if zombies[pid] == pid else LOOKS):
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
                    logger.debug("Reaped process %d, an orphan", pid)
        self._seen = seen


def _has_zombies() -> bool:
    """Return whether this process has a zombie child. The child is not reaped."""
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False
