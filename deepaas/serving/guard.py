"""The server's handle of the guard, a small process that cleans up when the server was killed.

See `deepaas.guard.main` for its work. A guard that has ended is replaced. Until then, the kernel
would end the workers with their server, but not the processes that they have started.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from deepaas.guard.main import MARK, kill_session
from deepaas.processes import how_it_ended, own_children

if TYPE_CHECKING:
    import asyncio

__all__ = ["MARK", "Guard", "kill_session"]

logger = logging.getLogger("deepaas.serving")

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Imports no installed package, to keep the process small.
_BOOTSTRAP = """\
import sys
sys.path.append(sys.argv[1])
from deepaas.guard.main import watch
watch(sys.argv[2])
"""


CLOSE_SECONDS = 5.0
"""How long a guard may take to end before it is killed."""

FIRST_DELAY = 0.5
MAX_DELAY = 60.0
"""Seconds before a new guard is started after several have ended in a row."""

STEADY_SECONDS = 10.0
"""A guard that ran this long did not fail at its start: the next one is started at once."""


class Guard:
    """The guard process: call `add` and `remove` for workers, and `close` at a normal end.

    `token` is the beginning of the marks of all workers of this server.
    """

    def __init__(self, directory: str) -> None:
        """Start the process. It will remove `directory`, whose name is the token."""
        self.token = os.path.basename(directory)
        self._directory = directory
        self._sessions: set[int] = set()
        self._loop: asyncio.AbstractEventLoop | None = None  # watches for the process's end
        self._started_at = 0.0
        self._delay = 0.0
        self._retry: asyncio.TimerHandle | None = None
        self._start()

    def _start(self) -> None:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _BOOTSTRAP, _ROOT, self._directory],
            stdin=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # signals to the server's process group must not reach it
        )
        assert process.stdin is not None
        try:
            self._pidfd = os.pidfd_open(process.pid)
        except OSError:
            process.kill()  # before its pipe is closed, or it would kill all workers
            process.wait()
            raise
        own_children.add(process.pid)
        os.set_blocking(process.stdin.fileno(), False)  # a suspended guard does not read
        self._process = process

    def add(self, session: int) -> None:
        """Add a worker that has started; it is the leader of its session."""
        self._sessions.add(session)
        self._write_line(f"+{session}\n")

    def remove(self, session: int) -> None:
        """Remove a worker that has ended with its session."""
        self._sessions.discard(session)
        self._write_line(f"-{session}\n")

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Replace the process whenever it ends, while the block runs."""
        import asyncio  # not at the top: some importers do not need it

        self._loop = asyncio.get_running_loop()
        self._watch()
        try:
            yield
        finally:
            if self._pidfd >= 0:
                self._loop.remove_reader(self._pidfd)
            if self._retry is not None:
                self._retry.cancel()

    def _watch(self) -> None:
        assert self._loop is not None
        self._started_at = self._loop.time()
        self._loop.add_reader(self._pidfd, self._has_ended)

    def close(self) -> None:
        """Let the process end; it kills the remaining processes of the workers."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:  # it is suspended, or waits for a disk
            self._process.kill()
            self._process.wait()
        own_children.discard(self._process.pid)
        self._close_pidfd()

    def _close_pidfd(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def _has_ended(self) -> None:
        assert self._loop is not None
        assert self._process.stdin is not None
        self._loop.remove_reader(self._pidfd)
        self._close_pidfd()
        self._process.stdin.close()
        ending = how_it_ended(self._process.wait())
        own_children.discard(self._process.pid)
        logger.warning("The guard (pid %d) %s; another one is started", self._process.pid, ending)
        if self._loop.time() - self._started_at >= STEADY_SECONDS:
            self._delay = 0.0
            self._restart()
        else:
            self._restart_later()

    def _restart_later(self) -> None:
        assert self._loop is not None
        self._delay = min(MAX_DELAY, max(FIRST_DELAY, 2 * self._delay))
        self._retry = self._loop.call_later(self._delay, self._restart)

    def _restart(self) -> None:
        """Start a new process and send it all workers."""
        assert self._loop is not None
        try:
            self._start()
        except OSError as error:
            logger.error("No guard can be started: %s", error)
            self._restart_later()
            return
        self._watch()
        for session in self._sessions:
            self._write_line(f"+{session}\n")

    def _write_line(self, line: str) -> None:
        assert self._process.stdin is not None
        if self._process.stdin.closed:
            return  # the next guard gets all workers
        try:
            os.write(self._process.stdin.fileno(), line.encode())
        except BrokenPipeError:  # it has ended
            pass
        except BlockingIOError:  # it does not read: kill it, and another one is started
            self._process.kill()
