"""Ends what workers leave behind: their children, and all of it when the server was killed.

The server tells this process, through a pipe, of every worker that starts and ends. When the pipe
closes it kills the workers that are left, whatever they are doing, with all they have started, and
removes the uploads. A worker could not see to that itself: one that is stuck in native code does
nothing else.

It is imported without any installed package, and little of the standard library, to be small.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

from deepaas.processes import kill_marked

MARK = "DEEPAAS_WORKER"
"""The variable by which the processes that a worker has started are known, in any session."""


def kill_session(session: int) -> None:
    """Kill a worker and those of its children that are in its session still."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(session, signal.SIGKILL)


def watch(directory: str) -> None:
    """The process itself: read until the server has gone, then clean up."""
    import shutil

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    sessions = set()
    for line in sys.stdin:
        session = int(line[1:])
        if line[0] == "+":
            sessions.add(session)
        else:
            sessions.discard(session)
    for session in sessions:
        kill_session(session)
    kill_marked(f"{MARK}={os.path.basename(directory)}/")
    shutil.rmtree(directory, ignore_errors=True)
