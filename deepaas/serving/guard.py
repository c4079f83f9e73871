"""A small process that cleans up when the server was killed and could not do it itself.

The server tells it, through a pipe, of every worker that starts and ends. When the pipe closes the
guard kills the workers that are left, whatever they are doing, and removes the uploads. A worker
alone could not see to that: one that is stuck in native code does nothing else.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys


class Guard:
    """The server's side: say `add` and `remove`, and `close` at an orderly end."""

    def __init__(self, directory: str) -> None:
        """Start the process; it will remove `directory`."""
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", os.path.abspath(__file__), directory],
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
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(session, signal.SIGKILL)
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    watch(sys.argv[1])
