"""The process of a worker: its start, its output and its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence

from deepaas.processes import how_it_ended, own_children, resident_memory
from deepaas.serving.guard import MARK, kill_session

READ_SIZE = 256 * 1024

# The program of a worker. Unlike with -m, the working directory does not shadow installed packages.
_BOOTSTRAP = """\
import gc, sys
gc.disable()  # the imports of this package make no garbage
if not getattr(sys.flags, "safe_path", False): del sys.path[0]
fds_and_server = [int(number) for number in sys.argv[1:5]]
sys.argv[:] = ["deepaas-worker"]
from deepaas.worker import main
gc.freeze()  # else the next collection would look at all modules
gc.enable()
main.main(*fds_and_server)
"""


def spawn(
    name: str, ends: Sequence[socket.socket], output: int | None, variables: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a worker process with its ends of the sockets. Raises OSError."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("only the main thread may start workers: they end with their thread")
    return subprocess.Popen(
        [
            *(sys.executable, "-c", _BOOTSTRAP),
            *(str(end.fileno()) for end in ends),
            str(os.getpid()),
            name,  # for people who list processes
        ],
        pass_fds=[end.fileno() for end in ends],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=os.environ | variables,
        start_new_session=True,
    )


class WorkerProcess:
    """A worker process. The constructor starts it.

    `on_exit` is called with a description of its end, `on_output` with its output. It and all
    processes that it starts have `mark` in their environment. The constructor raises OSError if the
    system has no process or descriptor left.
    """

    def __init__(
        self,
        name: str,
        ends: Sequence[socket.socket],
        variables: Mapping[str, str],
        mark: str,
        on_exit: Callable[[str], None],
        on_output: Callable[[bytes], None] | None = None,
        spawn: Callable[..., subprocess.Popen[bytes]] = spawn,
    ) -> None:
        self.has_ended = False
        self._loop = asyncio.get_running_loop()
        self._on_exit = on_exit
        self._on_output = on_output
        self._output = -1
        with contextlib.ExitStack() as on_failure:
            output = None
            if on_output:
                self._output, output = os.pipe()
                on_failure.callback(os.close, self._output)
                os.set_blocking(self._output, False)
            try:
                self._process = spawn(name, ends, output, {**variables, MARK: mark})
            finally:
                if output is not None:
                    os.close(output)
            self.pid = self._process.pid
            own_children.add(self.pid)
            on_failure.callback(own_children.discard, self.pid)
            on_failure.callback(kill_session, self.pid)
            self._pidfd = os.pidfd_open(self.pid)
            on_failure.pop_all()
        if self._output >= 0:
            self._loop.add_reader(self._output, self._read_output)
        self._loop.add_reader(self._pidfd, self._ended)

    def kill(self) -> None:
        """Kill the process and all that it has started."""
        if not self.has_ended:
            kill_session(self.pid)

    def size(self) -> int:
        """Return the resident memory of the process in bytes; 0 if it has ended."""
        return resident_memory(self.pid)

    def _read_output(self) -> None:
        try:
            data = os.read(self._output, READ_SIZE)
        except BlockingIOError:
            return
        if data and self._on_output:
            self._on_output(data)
        elif not data:
            self._loop.remove_reader(self._output)

    def _ended(self) -> None:
        self._loop.remove_reader(self._pidfd)
        kill_session(self.pid)  # its children, before the session id can be reused
        ending = how_it_ended(self._process.wait())
        own_children.discard(self.pid)
        self.has_ended = True
        self._on_exit(ending)

    def close(self) -> None:
        """Close all descriptors. The process must have ended."""
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        if self._output < 0:
            return
        self._loop.remove_reader(self._output)
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._output, READ_SIZE):
                if self._on_output:
                    self._on_output(data)
        os.close(self._output)
