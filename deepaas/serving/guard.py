"""Ends what workers leave behind: their children, and all of it when the server was killed.

The guard is a small process that the server tells, through a pipe, of every worker that starts and
ends. When the pipe closes it kills the workers that are left, whatever they are
doing, with all they have started, and removes the uploads. A worker could not see to that itself:
one that is stuck in native code does nothing else.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

from deepaas.processes import kill_marked

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Without any installed package, so that it is small.
_BOOTSTRAP = """\
import sys
sys.path.append(sys.argv[1])
from deepaas.serving.guard import watch
watch(sys.argv[2])
"""

MARK = "DEEPAAS_WORKER"
"""The variable by which the processes that a worker has started are known, in any session."""


class Guard:
    """The server's side: say `add` and `remove`, and `close` at an orderly end.

    `token` begins the marks of all workers of this server.
    """

    def __init__(self, directory: str) -> None:
        """Start the process; it will remove `directory`, whose name is the token."""
        self.token = os.path.basename(directory)
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _BOOTSTRAP, _ROOT, directory],
            stdin=subprocess.PIPE,
            start_new_session=True,  # out of reach of what kills the server's group
        )

    def add(self, session: int) -> None:
        """A worker has started, the leader of its session."""
        self._say(f"+{session}\n")

    def remove(self, session: int) -> None:
        """A worker and its session have ended."""
        self._say(f"-{session}\n")

    def close(self) -> None:
        """Let the process end; what is left of workers ends with it."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # someone has killed it
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()


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
