"""The worker's ends of the reply and control connections."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

from deepaas.exceptions import StorageError
from deepaas.log import get_logger
from deepaas.model.v2.exchange import Reply
from deepaas.protocol import messages

logger = get_logger("deepaas.worker")

PIECE = 64 * 1024
"""Maximum bytes of one part of a stream, and of replies that are sent together."""

HOLD_SECONDS = 0.2e-3
"""Maximum time that a reply is delayed, to send it together with others."""


class Control:
    """The control connection: messages from the server other than calls."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._buffer = b""
        self._received: deque[messages.ControlMessage] = deque()

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self) -> messages.ControlMessage:
        """Wait for the next message. Raises EOFError if the server has closed the connection."""
        while not self._received:
            self._read(0)
        return self._received.popleft()

    def poll(self) -> messages.ControlMessage | None:
        """Return the next message, or None if there is none yet.

        Raises EOFError if the server has closed the connection.
        """
        if not self._received:
            try:
                self._read(socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
        return self._received.popleft() if self._received else None

    def send(self, message: messages.ControlMessage) -> None:
        self._socket.sendall(messages.encode_control(message))

    def _read(self, flags: int) -> None:
        data = self._socket.recv(64 * 1024, flags)
        if not data:
            raise EOFError
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        self._received.extend(map(messages.decode_control, lines))


class ReplySender:
    """Sends replies. The server always reads, so no method blocks for long."""

    def __init__(self, sock: socket.socket, directory: str = "") -> None:
        """Send on `sock`; store large bodies in files in `directory`."""
        self._socket = sock
        self._directory = directory or None

    def send(self, call_id: int, reply: Reply) -> None:
        """Send a complete reply, and close its descriptor."""
        if len(reply.body) > messages.MAX_INLINE:
            reply = self._with_body_in_file(reply)
        data = messages.encode_reply(call_id, reply)
        if reply.fd < 0:
            self._socket.sendall(data)
            return
        try:
            sent = socket.send_fds(self._socket, [data], [reply.fd])
        finally:
            os.close(reply.fd)
        self._socket.sendall(data[sent:])

    def send_all(self, replies: Iterable[tuple[int, Reply]]) -> None:
        """Send replies from an iterator; those that are produced quickly are sent together.

        Each send wakes the server up, and may have to wait for it.
        """
        made: list[bytes] = []
        size = 0
        began = time.monotonic()
        for call_id, reply in replies:
            if reply.fd >= 0 or len(reply.body) > messages.MAX_INLINE:
                self._socket.sendall(b"".join(made))
                made.clear()
                self.send(call_id, reply)
                continue
            made.append(messages.encode_reply(call_id, reply))
            size += len(reply.body)
            if size >= PIECE or time.monotonic() - began > HOLD_SECONDS:
                self._socket.sendall(b"".join(made))
                made.clear()
                size = 0
                began = time.monotonic()
        if made:
            self._socket.sendall(b"".join(made))

    def _with_body_in_file(self, reply: Reply) -> Reply:
        """Return the reply with its body in a file, or an error reply if it cannot be stored."""
        size = len(reply.body)
        try:
            with tempfile.TemporaryFile(dir=self._directory) as file:
                file.write(reply.body)
                file.flush()
                return replace(reply, body=b"", fd=os.dup(file.fileno()))
        except OSError as error:
            reason = f"There is no room for the response of {size} bytes: {error.strerror}"
            logger.error("%s (in %s)", reason, self._directory or tempfile.gettempdir())
            failed = Reply(StorageError.status, reason=reason, code=StorageError.code)
            failed.measured = reply.measured
            return failed

    def send_stream(
        self, call_id: int, message: messages.Opened | messages.Part | messages.Closed
    ) -> None:
        """Send the start, a part or the end of a streamed reply."""
        self._socket.sendall(messages.encode_stream(call_id, message))


class Flow:
    """Counts the bytes of a stream that the worker has sent and the client has not yet received."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._in_flight = 0

    @property
    def is_open(self) -> bool:
        """Whether another part may be sent; one part may exceed the limit."""
        return self._in_flight < self._limit

    def sent(self, size: int) -> None:
        self._in_flight += size

    def taken(self, size: int) -> None:
        self._in_flight -= size


def pieces(data: bytes) -> Iterator[bytes]:
    """Yield `data` in parts of at most PIECE bytes."""
    if len(data) <= PIECE:
        if data:
            yield data
        return
    for start in range(0, len(data), PIECE):
        yield data[start : start + PIECE]
