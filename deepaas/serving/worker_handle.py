"""One worker process, as the server sees it."""

from __future__ import annotations

import array
import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from deepaas import log
from deepaas.exceptions import DeepaasError
from deepaas.model.v2.exchange import Calling, Reply
from deepaas.processes import how_it_ended, own_children
from deepaas.protocol import messages
from deepaas.serving.concurrency import ConcurrencyEstimator
from deepaas.serving.guard import MARK, kill_session
from deepaas.serving.prediction import Prediction, ReplyStream

logger = logging.getLogger("deepaas.serving")

READ_SIZE = 256 * 1024
DEPTH = 16
"""Calls in the socket of a worker that takes one at a time."""

DISCONNECTED_SECONDS = 0.1
"""How long a worker that has closed its sockets may take to end."""

MAX_FDS = 16  # more than one packet of a stream socket ever carries
ANCILLARY = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)
PAGE = os.sysconf("SC_PAGE_SIZE")


# What a worker runs. The working directory must not shadow what is installed, as it would with -m.
_BOOTSTRAP = """\
import sys
if not getattr(sys.flags, "safe_path", False): del sys.path[0]
fds_and_server = [int(number) for number in sys.argv[1:5]]
sys.argv[:] = ["deepaas-worker"]
from deepaas.worker import main
main.main(*fds_and_server)
"""


class StartError(DeepaasError):
    """A worker could not become ready; the text says what went wrong.

    `lines` are the same, one for each cause; `calls` are those that have led to it, for the log.
    """

    def __init__(self, text: str, lines: Sequence[str] = (), calls: str = "") -> None:
        super().__init__(text)
        self.lines = [*lines] or [text]
        self.calls = calls

    def log(self, subject: str) -> None:
        """Log the causes, the subject of whose sentences is given, and the calls once."""
        for line in self.lines[:-1]:
            logger.error("%s %s", subject, line)
        logger.error("%s %s", subject, self.lines[-1], extra=log.calls(self.calls))


def _failure(message: messages.Failed) -> StartError:
    verb = {"importing": "imported", "warming": "warmed"}.get(message.phase, "loaded")
    lines = [f"cannot be {verb}: {line}" for line in message.lines]
    return StartError(f"cannot be {verb}: {message.cause}", lines, message.calls)


class LostDescriptorsError(DeepaasError):
    """A worker has sent a file, and the kernel could not hand it over."""


class WorkerHandle:
    """A worker process: started when made, ended when `exited` is done.

    It takes calls when `ready` is done, which is a StartError if it does not come to that.
    `calls` holds what was handed over and not answered, oldest first. `on_room` is called when
    there may be room for more, `on_disconnected` when it can get no more. All that the worker
    starts carries `mark` in its environment. Making one raises OSError if the system has no process
    or descriptor for it.
    """

    def __init__(
        self,
        start: messages.Start,
        mark: str,
        on_room: Callable[[WorkerHandle], None],
        on_disconnected: Callable[[WorkerHandle], None],
        on_output: Callable[[bytes], None] | None = None,
    ) -> None:
        self.name = start.worker
        self.index = start.index
        self.mark = mark
        self.calls: dict[int, Prediction] = {}
        self.answered = 0
        self.progress = 0.0  # when it last sent something, by the loop's clock
        self.calling = Calling("one")
        self.depth = 1  # the most calls in its socket
        self.description: dict[str, Any] = {}
        self.end_reason = ""  # why it is to end, once that is decided
        self.replacement_pending = False  # a successor is being started
        self.died_alone = False  # of a call whose batch had been the end of another worker
        self.size_at_start = 0
        self.phase = "starting"
        self.seconds_to_ready = 0.0
        self.began = time.monotonic()
        self._stream_buffer = start.limits.get("stream_buffer", 1)
        self._loop = asyncio.get_running_loop()
        self._on_room = on_room
        self._on_disconnected = on_disconnected
        self._on_output = on_output
        self._reader = messages.ReplyReader()
        self._concurrency = ConcurrencyEstimator()
        self._wants_room = False
        self._garbled = False
        self._control_buffer = b""
        self._untold = bytearray()
        self._output = -1
        self.ready: asyncio.Future[messages.Ready] = self._loop.create_future()
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
                self._process = self._spawn(
                    [self._unread, replies, control], output, start.variables
                )
            finally:
                replies.close()
                control.close()
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
        self._loop.add_reader(self._pidfd, self._process_ended)
        self._loop.add_reader(self._replies, self._guarded, self._read_replies)
        self._loop.add_reader(self._control, self._guarded, self._read_control)
        self._control.send(messages.encode_control(start))

    def _spawn(
        self, ends: list[socket.socket], output: int | None, variables: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("only the main thread may start workers: they end with their thread")
        return subprocess.Popen(
            [
                *(sys.executable, "-c", _BOOTSTRAP),
                *(str(end.fileno()) for end in ends),
                str(os.getpid()),
                self.name,  # for those who list processes
            ],
            pass_fds=[end.fileno() for end in ends],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | variables | {MARK: self.mark},
            start_new_session=True,
        )

    def hand_over(self, prediction: Prediction) -> bool:
        """Put a call into the worker's socket; False if that is full."""
        packet = prediction.packet
        now = self._loop.time()
        if self.calling.kind == "batch":
            concurrency = self._concurrency.with_one_more(len(self.calls) + 1, now, self.progress)
            packet = messages.with_concurrency(
                packet, messages.ALONE if prediction.alone else concurrency
            )
        try:
            self._requests.send(packet)
        except BlockingIOError:
            if not self._wants_room:
                self._wants_room = True
                self._loop.add_writer(self._requests, self._has_room)
            return False
        prediction.worker = self
        prediction.since = now
        self.calls[prediction.id] = prediction
        return True

    def _has_room(self) -> None:
        self._stop_waiting_for_room()
        self._on_room(self)

    def _stop_waiting_for_room(self) -> None:
        if self._wants_room:
            self._wants_room = False
            self._loop.remove_writer(self._requests)

    def reclaim(self, most: int) -> list[Prediction]:
        """Read back up to `most` calls that the worker has not begun, oldest first."""
        taken: list[Prediction] = []
        while len(taken) < most:
            try:
                packet = self._unread.recv(messages.CALL_HEADER, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            if not packet:  # nothing more can come: the server has closed its end
                break
            prediction = self.calls.pop(messages.call_id_of(packet), None)
            if prediction is not None:  # a worker can answer a call that it has not read
                prediction.worker = None
                taken.append(prediction)
        return taken

    def cancel(self, prediction: Prediction) -> None:
        """Tell the worker, once, that nobody waits for a call that it has begun."""
        if not prediction.cancelled:
            prediction.cancelled = True
            self._tell(messages.Cancel(prediction.id))

    def _tell(self, message: messages.ControlMessage) -> None:
        if not self._untold:
            self._loop.add_writer(self._control, self._tell_on)
        self._untold += messages.encode_control(message)
        self._tell_on()

    def _tell_on(self) -> None:
        """Send of what there is to tell as much as the worker can be sent now."""
        try:
            del self._untold[: self._control.send(self._untold)]
        except BlockingIOError:  # it has not listened for long
            return
        except OSError:  # it has ended
            self._untold.clear()
        if not self._untold:
            self._loop.remove_writer(self._control)

    async def stop(self, timeout: float) -> None:
        """Let the worker finish what it was handed, then end; kill it after `timeout` seconds."""
        self.phase = "stopping"
        self._stop_waiting_for_room()
        self._requests.close()
        done, _ = await asyncio.wait([self.exited], timeout=timeout)
        if not done:
            logger.warning("Worker %s did not end in %g s and is killed", self.name, timeout)
            self.kill()
            await asyncio.shield(self.exited)

    def size(self) -> int:
        """Bytes of memory that the process has; 0 if it has ended."""
        try:
            with open(f"/proc/{self.pid}/statm") as file:
                return int(file.read().split()[1]) * PAGE
        except (OSError, IndexError):
            return 0

    def kill(self) -> None:
        """End the process and all it has started, at once."""
        if not self.exited.done():
            kill_session(self.pid)

    def _guarded(self, read: Callable[[], None]) -> bool:
        """Read, and end a worker that sends what it should not: its model writes to its sockets."""
        if self._garbled:
            return False
        try:
            read()
            return True
        except LostDescriptorsError as error:
            logger.error("Worker %s is killed: %s (ulimit -n)", self.name, error)
        except Exception:
            logger.exception("Worker %s sends what cannot be read and is killed", self.name)
        self._garbled = True
        self.kill()
        return False

    def _read_replies(self) -> None:
        try:
            data, fds = _receive(self._replies)
        except (BlockingIOError, ConnectionResetError):
            return
        if not data:
            self._loop.remove_reader(self._replies)
            self._disconnected()
            return
        self.progress = self._loop.time()
        for call_id, message in self._reader.feed(data, fds):
            if type(message) is Reply:
                prediction = self.calls.pop(call_id, None)
                if prediction is None or prediction.stream is not None:
                    if prediction is not None:
                        self.calls[call_id] = prediction
                    message.discard()
                    raise ValueError(f"a reply to call {call_id}, which does not wait for one")
                self.answered += 1
                prediction.answer(message)
                prediction.end()
            else:
                self._read_stream(self.calls[call_id], message)
        self._on_room(self)

    def _read_stream(self, prediction: Prediction, message: messages.ReplyMessage) -> None:
        prediction.since = self.progress
        match message:
            case messages.Opened(headers, unknown) if prediction.stream is None:
                prediction.stream = ReplyStream(
                    partial(self._taken, prediction), self._stream_buffer
                )
                prediction.answer(Reply(headers=headers, stream=prediction.stream, unknown=unknown))
                if prediction.abandoned:
                    self.cancel(prediction)
            case messages.Part(data) if prediction.stream is not None:
                if not prediction.abandoned:
                    prediction.stream.feed(data)
            case messages.Closed() if prediction.stream is not None:
                self.answered += 1
                del self.calls[prediction.id]
                prediction.stream.close(message)
                prediction.end()
            case _:
                raise ValueError(f"parts of a stream for call {prediction.id} in a wrong order")

    def _taken(self, prediction: Prediction, size: int) -> None:
        prediction.since = self._loop.time()
        self._tell(messages.Taken(prediction.id, size))

    def _read_control(self) -> None:
        try:
            data = self._control.recv(READ_SIZE)
        except (BlockingIOError, ConnectionResetError):
            return
        if not data:
            self._loop.remove_reader(self._control)
            self._disconnected()
            return
        lines, self._control_buffer = messages.cut_lines(self._control_buffer + data)
        for line in lines:
            self._on_control(messages.decode_control(line))

    def _on_control(self, message: messages.ControlMessage) -> None:
        if self.ready.done():  # nothing that it says later means anything
            return
        match message:
            case messages.Phase(phase):
                self.phase = phase
            case messages.Ready(description):
                self.calling = _calling(description["calling"])
                self.phase = "ready"
                self.depth = _depth(self.calling)
                self.description = description
                self.seconds_to_ready = time.monotonic() - self.began
                self.ready.set_result(message)
            case messages.Failed():
                self.ready.set_exception(_failure(message))

    def _disconnected(self) -> None:
        """The worker has ended, as it will be told; or its model has closed the sockets."""
        if self.phase == "ready":
            self.phase = "disconnected"
            self._loop.call_later(DISCONNECTED_SECONDS, self.kill)
            self._on_disconnected(self)

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
        ending = how_it_ended(self._process.wait())
        own_children.discard(self.pid)
        self._drain(self._read_replies, self._replies)
        self._drain(self._read_control, self._control)
        if not self.ready.done():
            self.ready.set_exception(StartError(f"{ending} while {self.phase}"))
        self.ready.exception()  # nobody may be waiting for it
        self.phase = "dead"
        self.exited.set_result(ending)

    def _drain(self, read: Callable[[], None], sock: socket.socket) -> None:
        """Read what the process sent before it ended."""
        while _has_data(sock) and self._guarded(read):
            pass

    def close(self) -> None:
        """Release all descriptors. The process must have ended, and `reclaim` been called."""
        for fd in (self._pidfd, self._replies, self._control):
            self._loop.remove_reader(fd)
        self._stop_waiting_for_room()
        self._loop.remove_writer(self._control)
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


_CUT = int(socket.MSG_CTRUNC)  # an operation on the enum takes as long as receiving
_buffer = bytearray(READ_SIZE)  # for all workers: nothing else runs while it is used
_view = memoryview(_buffer)


def _receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """What has come, and the descriptors that came with it. Quicker than socket.recv_fds, which
    makes room for as much as could come each time.

    Raises LostDescriptorsError if not all of the descriptors could be received: then it is not
    known to which reply the others belong.
    """
    size, extra, flags, _ = sock.recvmsg_into([_buffer], ANCILLARY, socket.MSG_CMSG_CLOEXEC)
    if not extra and not flags & _CUT:  # as most have none
        return bytes(_view[:size]), []
    fds = array.array("i")
    for level, kind, data in extra:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    if flags & _CUT:
        for fd in fds:
            os.close(fd)
        raise LostDescriptorsError("the server has no descriptor left for a file it has sent")
    return bytes(_view[:size]), fds.tolist()


def _calling(described: dict[str, Any]) -> Calling:
    """How the model is called, as its worker says. Raises an exception if that makes no sense."""
    calling = Calling(**described)
    is_kind = calling.kind in ("one", "many", "batch")
    if not is_kind or type(calling.at_once) is not int or calling.at_once < 1:
        raise ValueError(f"the server does not know this manner of calling a model: {calling}")
    return Calling(calling.kind, calling.at_once, float(calling.wait))


def _depth(calling: Calling) -> int:
    """How many calls a worker is handed: what it works on, and what it would wait for otherwise.

    Those that it has not begun can be taken back at any time.
    """
    match calling.kind:
        case "many":
            return calling.at_once
        case "batch":
            return 2 * calling.at_once
        case _:
            return DEPTH


def _has_data(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except (BlockingIOError, ConnectionResetError):
        return False
