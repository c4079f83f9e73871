"""The worker process: loads a model, warms it, describes it, then receives, calls and sends.

The main thread does all of that and there is no other, so a model finds what it would find in a
script of its own, and may fork.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import socket
import sys
from collections.abc import Callable
from typing import Any, TextIO

from deepaas import log
from deepaas.model import loading
from deepaas.model.v2.arguments import Arguments
from deepaas.model.v2.description import describe_function
from deepaas.model.v2.exchange import NOT_IMPLEMENTED, Call, Reply
from deepaas.model.v2.failures import (
    describe,
    prepare_for_model,
    reply_to,
)
from deepaas.model.v2.results import ResultSchema, encode, to_plain
from deepaas.model.v2.wrapper import ModelWrapper, stock_metadata
from deepaas.serving import messages

logger = logging.getLogger("deepaas.worker")


class Control:
    """The worker's end of the control connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._reader = sock.makefile("rb")

    def receive(self) -> messages.ControlMessage:
        """The next message. Raises EOFError if the server has gone."""
        line = self._reader.readline()
        if not line:
            raise EOFError
        return messages.decode_control(line)

    def send(self, message: messages.ControlMessage) -> None:
        self._socket.sendall(messages.encode_control(message))


class Host:
    """The model, ready to answer calls."""

    def __init__(
        self, start: messages.Start, streams: StandardStreams, on_phase: Callable[[str], None]
    ) -> None:
        """Import the model, read its arguments, warm it. What its code raises comes out."""
        self._streams = streams
        self._pid = os.getpid()
        on_phase("importing")
        self.model = ModelWrapper(start.name, loading.load(start.target, start.folder))
        on_phase("describing")
        self.arguments = Arguments(self.model.fields("predict"))
        schema = self.model.schema
        self.schema = None if schema is None else ResultSchema(schema)
        if start.warm:
            on_phase("warming")
            self.model.warm()
        prepare_for_model()

    def description(self) -> dict[str, Any]:
        """What the server needs to know of the model, in plain data."""
        try:
            metadata = {to_plain(str(k)): to_plain(v) for k, v in self.model.metadata().items()}
        except Exception:
            logger.exception("get_metadata of model %s failed", self.model.name)
            metadata = stock_metadata(self.model.name)
        return {
            "metadata": metadata,
            "predict": describe_function(self.arguments, self.schema),
            "has": [name for name in ("predict", "train") if self.model.has(name)],
        }

    def answer(self, call: Call) -> Reply:
        """The reply to a call, whatever the model does short of ending the process."""
        try:
            arguments, media_type = self.arguments.load(call)
            predict = self.model.function("predict")
            if predict is None:
                return Reply(501, reason=NOT_IMPLEMENTED, code="not_implemented")
            value = predict(**arguments)
            self._recover()
            return encode(value, media_type, self.schema)
        except BaseException as error:
            self._recover()
            return self._failed(error)

    def _recover(self) -> None:
        """Undo what the model's code may have done to this process."""
        if os.getpid() != self._pid:
            os._exit(1)  # a child that it has forked, and that must not answer in our place
        self._streams.restore()

    def _failed(self, error: BaseException) -> Reply:
        prepare_for_model()
        reply = reply_to(error)
        if reply.status >= 500:
            with contextlib.suppress(BaseException):  # an exception whose own text raises
                logger.error("predict of model %s failed", self.model.name, exc_info=error)
        return reply


class StandardStreams:
    """stdout and stderr as they were at the start, for a model that closes them."""

    def __init__(self) -> None:
        self._saved = {fd: os.dup(fd) for fd in (1, 2)}
        self._streams: dict[str, TextIO] = {"stdout": sys.stdout, "stderr": sys.stderr}

    def restore(self) -> None:
        for fd, name in ((1, "stdout"), (2, "stderr")):
            try:
                os.fstat(fd)
            except OSError:
                os.dup2(self._saved[fd], fd)
            if self._streams[name].closed:
                stream = open(fd, "w", buffering=1, closefd=False, errors="backslashreplace")  # noqa: SIM115
                self._streams[name] = stream
                setattr(sys, name, stream)


def serve(host: Host, requests: socket.socket, replies: socket.socket) -> None:
    """Answer calls one after another, until the server closes the connection."""
    buffer = bytearray(messages.MAX_PACKET)
    view = memoryview(buffer)
    while True:
        size = requests.recv_into(buffer)
        if not size:
            return
        call_id, call = messages.decode_call(view[:size])
        reply = host.answer(call)
        data = messages.encode_reply(call_id, reply)
        if reply.fd < 0:
            replies.sendall(data)
        else:
            _send_with_descriptor(replies, data, reply.fd)


def _send_with_descriptor(replies: socket.socket, data: bytes, fd: int) -> None:
    try:
        sent = socket.send_fds(replies, [data], [fd])
    finally:
        os.close(fd)
    replies.sendall(data[sent:])


def main(request_fd: int, reply_fd: int, control_fd: int) -> None:
    """Run a worker on the three sockets that the server has passed on."""
    sockets = [socket.socket(fileno=fd) for fd in (request_fd, reply_fd, control_fd)]
    for sock in sockets:
        sock.set_inheritable(False)
    requests, replies, control_socket = sockets
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    streams = StandardStreams()
    control = Control(control_socket)
    start = control.receive()
    assert isinstance(start, messages.Start)
    log.setup(log.LogOptions(**start.log))  # type: ignore[arg-type]
    phase = ""

    def on_phase(new: str) -> None:
        nonlocal phase
        phase = new
        control.send(messages.Phase(new))

    try:
        host = Host(start, streams, on_phase)
        description = host.description()
    except BaseException as error:
        streams.restore()
        logger.error("Model %s failed while %s", start.name, phase, exc_info=error)
        control.send(messages.Failed(phase, describe(error)))
        sys.exit(1)
    gc.collect()
    gc.freeze()
    control.send(messages.Ready(description))
    serve(host, requests, replies)
