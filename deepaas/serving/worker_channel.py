"""The server's ends of the three sockets between it and a worker."""

from __future__ import annotations

import array
import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator
from typing import Protocol

from deepaas.exceptions import DeepaasError
from deepaas.protocol import messages

logger = logging.getLogger("deepaas.serving")

READ_SIZE = 256 * 1024
MAX_FDS = 16  # more than one packet of a stream socket ever carries
ANCILLARY = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)


class LostDescriptorsError(DeepaasError):
    """A worker has sent a file that the kernel could not pass to the server."""


class ChannelEvents(Protocol):
    """The handler of a channel."""

    def on_replies(self, replies: Iterator[tuple[int, messages.ReplyMessage]]) -> None:
        """Handle replies of the worker, each with the id of its call.

        May raise ValueError for a reply that no worker sends.
        """

    def on_control(self, message: messages.ControlMessage) -> None:
        """Handle a control message of the worker."""

    def on_writable(self) -> None:
        """Handle that the socket of the requests was full and has room again."""

    def on_disconnected(self) -> None:
        """Handle a socket that the worker has closed."""

    def on_garbage(self) -> None:
        """Handle an invalid message of the worker. Nothing more is read from it."""


class WorkerChannel:
    """The sockets of a worker: `requests` and `control` to it, `replies` and `control` from it.

    `worker_ends` are the worker's ends, in the order of its arguments. The constructor raises
    OSError if the system has no descriptors left.
    """

    def __init__(self, name: str, events: ChannelEvents) -> None:
        self.is_broken = False
        """Whether the worker has sent an invalid message."""
        self._name = name
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._reader = messages.ReplyReader()
        self._waits_for_room = False
        self._control_buffer = b""
        self._unsent = bytearray()
        with contextlib.ExitStack() as on_failure:

            def pair(kind: socket.SocketKind) -> tuple[socket.socket, socket.socket]:
                ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
                on_failure.callback(ours.close)
                on_failure.callback(theirs.close)
                ours.setblocking(False)
                return ours, theirs

            # The worker's end of the requests stays open here too, to read back calls that the
            # worker has not begun; the other two are closed as soon as the worker has them.
            self._requests, self._unread = pair(socket.SOCK_SEQPACKET)
            self._replies, replies = pair(socket.SOCK_STREAM)
            self._control, control = pair(socket.SOCK_STREAM)
            buffer = 4 * messages.MAX_PACKET
            self._requests.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
            on_failure.pop_all()
        self.worker_ends = [self._unread, replies, control]

    def open(self, start: messages.Start) -> None:
        """Send the first message and start reading, once the worker process has its ends."""
        for end in self.worker_ends[1:]:
            end.close()
        self._loop.add_reader(self._replies, self._read_checked, self._read_replies)
        self._loop.add_reader(self._control, self._read_checked, self._read_control)
        self._control.send(messages.encode_control(start))

    # --- to the worker

    def send_call(self, packet: bytes) -> bool:
        """Send a call; return False if the socket is full. Then `on_writable` is called later."""
        try:
            self._requests.send(packet)
        except BlockingIOError:
            if not self._waits_for_room:
                self._waits_for_room = True
                self._loop.add_writer(self._requests, self._has_room)
            return False
        return True

    def _has_room(self) -> None:
        self._stop_waiting_for_room()
        self._events.on_writable()

    def _stop_waiting_for_room(self) -> None:
        if self._waits_for_room:
            self._waits_for_room = False
            self._loop.remove_writer(self._requests)

    def read_back(self) -> int | None:
        """Read back the oldest call that the worker has not read; return its id, or None."""
        try:
            packet = self._unread.recv(messages.CALL_HEADER, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        return messages.call_id_of(packet) if packet else None  # no packet: the server has closed

    def close_requests(self) -> None:
        """Send no more calls. The worker ends when it has answered all calls."""
        self._stop_waiting_for_room()
        self._requests.close()

    def tell(self, message: messages.ControlMessage) -> None:
        """Send a control message; if the socket is full, the rest is sent later."""
        if not self._unsent:
            self._loop.add_writer(self._control, self._send_unsent)
        self._unsent += messages.encode_control(message)
        self._send_unsent()

    def _send_unsent(self) -> None:
        try:
            del self._unsent[: self._control.send(self._unsent)]
        except BlockingIOError:  # the worker is not reading its messages
            return
        except OSError:  # the worker has ended
            self._unsent.clear()
        if not self._unsent:
            self._loop.remove_writer(self._control)

    # --- from the worker

    def _read_checked(self, read: Callable[[], None]) -> bool:
        """Read; return False if the worker has sent an invalid message.

        That happens if its model writes to its sockets.
        """
        if self.is_broken:
            return False
        try:
            read()
            return True
        except LostDescriptorsError as error:
            logger.error("Worker %s is killed: %s (ulimit -n)", self._name, error)
        except Exception:
            logger.exception("Worker %s sends invalid messages and is killed", self._name)
        self.is_broken = True
        self._events.on_garbage()
        return False

    def _read_replies(self) -> None:
        try:
            data, fds = _receive(self._replies)
        except (BlockingIOError, ConnectionResetError):
            return
        if data:
            self._events.on_replies(self._reader.feed(data, fds))
        else:
            self._loop.remove_reader(self._replies)
            self._events.on_disconnected()

    def _read_control(self) -> None:
        try:
            data = self._control.recv(READ_SIZE)
        except (BlockingIOError, ConnectionResetError):
            return
        if not data:
            self._loop.remove_reader(self._control)
            self._events.on_disconnected()
            return
        lines, self._control_buffer = messages.cut_lines(self._control_buffer + data)
        for line in lines:
            self._events.on_control(messages.decode_control(line))

    def drain(self) -> None:
        """Read all data that the worker sent before it ended."""
        for sock, read in (
            (self._replies, self._read_replies),
            (self._control, self._read_control),
        ):
            while _has_data(sock) and self._read_checked(read):
                pass

    def close(self) -> None:
        """Close all descriptors."""
        for sock in (self._replies, self._control):
            self._loop.remove_reader(sock)
        self._stop_waiting_for_room()
        self._loop.remove_writer(self._control)
        for sock in (self._requests, self._replies, self._control, *self.worker_ends):
            sock.close()
        for fd in self._reader.take_fds():
            os.close(fd)


_CUT = int(socket.MSG_CTRUNC)  # an int: an operation on the enum takes as long as receiving
_buffer = bytearray(READ_SIZE)  # shared by all workers: no other code runs while it is used
_view = memoryview(_buffer)


def _receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """Receive bytes and the descriptors that came with them.

    This is faster than socket.recv_fds, which allocates room for the maximum each time. Raises
    LostDescriptorsError if some descriptors could not be received: then it is unknown to which
    replies the others belong.
    """
    size, extra, flags, _ = sock.recvmsg_into([_buffer], ANCILLARY, socket.MSG_CMSG_CLOEXEC)
    if not extra and not flags & _CUT:  # most replies have no descriptor
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


def _has_data(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except (BlockingIOError, ConnectionResetError):
        return False
