"""The guard process: it kills the processes that workers leave behind when the server was killed.

The server writes a line to the stdin of this process when a worker starts and when it ends. When
the pipe closes, the guard kills the remaining workers, whatever they are doing, with all the
processes that they have started, and removes the uploads. A worker cannot do that: one that is
stuck in native code does nothing else.

To keep the process small, this module imports no installed package and little of the standard
library.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

from deepaas.processes import kill_marked

MARK = "DEEPAAS_WORKER"
"""The environment variable that marks the processes started by a worker, in any session."""


def kill_session(session: int) -> None:
    """Kill a worker and those of its children that are still in its session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(session, signal.SIGKILL)


def watch(directory: str) -> None:
    """Read stdin until the server has exited, then kill the remaining workers and remove
    `directory`."""
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
