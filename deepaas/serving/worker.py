"""One worker process, as the server sees it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

from deepaas.exceptions import DeepaasError
from deepaas.model.v2.exchange import Reply
from deepaas.serving import messages
from deepaas.serving.guard import MARK, kill_session

logger = logging.getLogger("deepaas.serving")

READ_SIZE = 256 * 1024
MAX_FDS = 16  # more than one packet of a stream socket ever carries

# What a worker runs. The working directory must not shadow what is installed, as it would with -m.
_BOOTSTRAP = """\
import sys
if not getattr(sys.flags, "safe_path", False): del sys.path[0]
fds = [int(fd) for fd in sys.argv[1:4]]
sys.argv[:] = ["deepaas-worker"]
from deepaas.serving import host
host.main(*fds)
"""


class StartError(DeepaasError):
    """A worker could not become ready; the text says what went wrong, and when."""


class Pending:
    """A call on its way: its packet, and the future of its reply."""

    __slots__ = ("future", "id", "packet")

    def __init__(self, call_id: int, packet: bytes, future: asyncio.Future[Reply]) -> None:
        self.id = call_id
        self.packet = packet
        self.future = future


class Worker:
    """A worker process: started when made, ready after `ready()`, ended after `exited` is done.

    `calls` holds what was handed over and not answered, oldest first; the worker has begun the
    first of them at the most. `on_reply` is called after each reply. All that the worker starts
    carries `mark` in its environment. Making one raises OSError if the system has no process or
    descriptor for it.
    """

    def __init__(
        self,
        start: messages.Start,
        mark: str,
        on_reply: Callable[[Worker], None],
        on_output: Callable[[bytes], None] | None = None,
    ) -> None:
        self.name = f"{start.name}[{start.index}]"
        self.mark = mark
        self.calls: dict[int, Pending] = {}
        self.answered = 0
        self.phase = "starting"
        self.seconds_to_ready = 0.0
        self._began = time.monotonic()
        self._loop = asyncio.get_running_loop()
        self._on_reply = on_reply
        self._on_output = on_output
        self._reader = messages.ReplyReader()
        self._control_buffer = b""
        self._output = -1
        self._ready: asyncio.Future[messages.Ready] = self._loop.create_future()
        self.exited: asyncio.Future[str] = self._loop.create_future()
        self._open(start)

    def __repr__(self) -> str:
        return f"<Worker {self.name} pid {self.pid} {self.phase}, {len(self.calls)} calls>"

    def _open(self, start: messages.Start) -> None:
        with contextlib.ExitStack() as on_failure:

            def pair(kind: socket.SocketKind) -> tuple[socket.socket, socket.socket]:
                ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
                on_failure.callback(ours.close)
                on_failure.callback(theirs.close)
                ours.setblocking(False)
                return ours, theirs

            # The worker's end of the requests stays open here too, to read back what it has not
            # begun; the other two are closed as soon as the worker has them.
            self._requests, self._unread = pair(socket.SOCK_SEQPACKET)
            self._replies, replies = pair(socket.SOCK_STREAM)
            self._control, control = pair(socket.SOCK_STREAM)
            buffer = 4 * messages.MAX_PACKET
            self._requests.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
            output = None
            if self._on_output:
                self._output, output = os.pipe()
                on_failure.callback(os.close, self._output)
                os.set_blocking(self._output, False)
            try:
                self._process = self._spawn([self._unread, replies, control], output)
            finally:
                replies.close()
                control.close()
                if output is not None:
                    os.close(output)
            self.pid = self._process.pid
            on_failure.callback(kill_session, self.pid)
            self._pidfd = os.pidfd_open(self.pid)
            on_failure.pop_all()
        if self._output >= 0:
            self._loop.add_reader(self._output, self._read_output)
        self._loop.add_reader(self._pidfd, self._process_ended)
        self._loop.add_reader(self._replies, self._guarded, self._read_replies)
        self._loop.add_reader(self._control, self._guarded, self._read_control)
        self._control.send(messages.encode_control(start))

    def _spawn(self, ends: list[socket.socket], output: int | None) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                *(sys.executable, "-c", _BOOTSTRAP),
                *(str(end.fileno()) for end in ends),
                self.name,  # for those who list processes
            ],
            pass_fds=[end.fileno() for end in ends],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | {MARK: self.mark},
            start_new_session=True,
        )

    async def ready(self) -> messages.Ready:
        """Wait until the worker takes calls. Raises StartError if it does not come to that."""
        return await asyncio.shield(self._ready)

    def hand_over(self, pending: Pending) -> bool:
        """Put a call into the worker's socket; False if that is full."""
        try:
            self._requests.send(pending.packet)
        except BlockingIOError:
            return False
        self.calls[pending.id] = pending
        return True

    def take_back(self, most: int) -> list[Pending]:
        """Read back up to `most` calls that the worker has not begun, oldest first."""
        taken: list[Pending] = []
        while len(taken) < most:
            try:
                packet = self._unread.recv(messages.CALL_HEADER, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            if not packet:  # nothing more can come: the server has closed its end
                break
            taken.append(self.calls.pop(messages.call_id_of(packet)))
        return taken

    async def stop(self, timeout: float) -> None:
        """Let the worker finish what it was handed, then end; kill it after `timeout` seconds."""
        self.phase = "stopping"
        self._requests.close()
        done, _ = await asyncio.wait([self.exited], timeout=timeout)
        if not done:
            logger.warning("Worker %s did not end in %g s and is killed", self.name, timeout)
            self.kill()
            await asyncio.shield(self.exited)

    def kill(self) -> None:
        """End the process and all it has started, at once."""
        if not self.exited.done():
            kill_session(self.pid)

    def _guarded(self, read: Callable[[], None]) -> bool:
        """Read, and end a worker that sends what it should not: its model writes to its sockets."""
        try:
            read()
        except Exception:
            logger.exception("Worker %s sends what cannot be read and is killed", self.name)
            self.kill()
            return False
        return True

    def _read_replies(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self._replies, READ_SIZE, MAX_FDS)
        except (BlockingIOError, ConnectionResetError):
            return
        if not data:
            self._loop.remove_reader(self._replies)  # its end is told by the process
            return
        for call_id, reply in self._reader.feed(data, fds):
            self.answered += 1
            pending = self.calls.pop(call_id, None)
            if pending is not None and not pending.future.done():
                pending.future.set_result(reply)
            elif reply.fd >= 0:
                os.close(reply.fd)
        self._on_reply(self)

    def _read_control(self) -> None:
        try:
            data = self._control.recv(READ_SIZE)
        except (BlockingIOError, ConnectionResetError):
            return
        if not data:
            self._loop.remove_reader(self._control)
            return
        *lines, self._control_buffer = (self._control_buffer + data).split(b"\n")
        for line in lines:
            self._on_control(messages.decode_control(line))

    def _on_control(self, message: messages.ControlMessage) -> None:
        match message:
            case messages.Phase(phase):
                self.phase = phase
            case messages.Ready():
                self.phase = "ready"
                self.seconds_to_ready = time.monotonic() - self._began
                if not self._ready.done():
                    self._ready.set_result(message)
            case messages.Failed(phase, cause) if not self._ready.done():
                self._ready.set_exception(StartError(f"failed while {phase}: {cause}"))

    def _read_output(self) -> None:
        try:
            data = os.read(self._output, READ_SIZE)
        except BlockingIOError:
            return
        if data and self._on_output:
            self._on_output(data)
        elif not data:
            self._loop.remove_reader(self._output)

    def _process_ended(self) -> None:
        self._loop.remove_reader(self._pidfd)
        kill_session(self.pid)  # what it has started; before its id can be reused
        ending = _ending(self._process.wait())
        self._drain(self._read_replies, self._replies)
        self._drain(self._read_control, self._control)
        if not self._ready.done():
            self._ready.set_exception(StartError(f"{ending} while {self.phase}"))
        self._ready.exception()  # nobody may be waiting for it
        self.phase = "dead"
        self.exited.set_result(ending)

    def _drain(self, read: Callable[[], None], sock: socket.socket) -> None:
        """Read what the process sent before it ended."""
        while _has_data(sock) and self._guarded(read):
            pass

    def close(self) -> None:
        """Release all descriptors. The process must have ended, and `take_back` been called."""
        for fd in (self._pidfd, self._replies, self._control):
            self._loop.remove_reader(fd)
        for sock in (self._requests, self._unread, self._replies, self._control):
            sock.close()
        os.close(self._pidfd)
        if self._output >= 0:
            self._loop.remove_reader(self._output)
            with contextlib.suppress(BlockingIOError):
                while data := os.read(self._output, READ_SIZE):
                    if self._on_output:
                        self._on_output(data)
            os.close(self._output)
        for fd in self._reader.take_fds():
            os.close(fd)


def _has_data(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except (BlockingIOError, ConnectionResetError):
        return False


def _ending(returncode: int) -> str:
    """How a process ended, for people."""
    if returncode >= 0:
        return f"exited with code {returncode}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = "unknown"
    return f"was ended by signal {-returncode} ({name})"
