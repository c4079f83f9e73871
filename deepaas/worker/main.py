"""The worker process.

The main thread does all the work, and there are no other threads. So a model finds the same
environment as in a script, and may fork.
"""

from __future__ import annotations

import gc
import logging
import resource
import socket
import sys

from deepaas import log, stdio
from deepaas.model.loading import package_of
from deepaas.model.v2.exchange import CallingKind
from deepaas.model.v2.failures import causes_of, let_go, traceback_of
from deepaas.model_log import ModelLog
from deepaas.processes import end_with_parent
from deepaas.protocol import messages
from deepaas.worker.host import Host
from deepaas.worker.reply_sender import Control, ReplySender

logger = log.get_logger("deepaas.worker")


def main(request_fd: int, reply_fd: int, control_fd: int, server: int) -> None:
    """Run a worker on the three sockets that the server passes on; `server` is the server's pid."""
    end_with_parent(server)
    sockets = [socket.socket(fileno=fd) for fd in (request_fd, reply_fd, control_fd)]
    for sock in sockets:
        sock.set_inheritable(False)
    requests, replies, control_socket = sockets
    stdio.forgive()
    streams = stdio.StandardStreams()
    control = Control(control_socket)
    start = control.receive()
    assert isinstance(start, messages.Start)
    if start.open_files:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (start.open_files, hard))
    options = log.LogOptions(**start.log)  # type: ignore[arg-type]
    log.setup(options, must_open=False)  # a missing log file must not stop the worker
    names = {"model": start.name, "worker": start.worker}
    ModelLog(names, log.handle).begin(options.level)
    phase = ""

    def on_phase(new: str) -> None:
        nonlocal phase
        phase = new
        control.send(messages.Phase(new))

    try:
        host = Host(start, streams, on_phase)
        description = host.description()
    except BaseException as error:
        let_go(error)
        streams.restore()
        control.send(_failed(start, phase, error))
        sys.exit(1)
    gc.collect()
    gc.freeze()
    control.send(messages.Ready(description))
    serve(host, requests, ReplySender(replies, start.result_dir), control)


def _failed(start: messages.Start, phase: str, error: BaseException) -> messages.Failed:
    """Return the message that says why a model cannot be served; the server logs it once."""
    cause, lines = causes_of(error, package_of(start.target))
    calls = traceback_of(error, with_own_frames=logger.isEnabledFor(logging.DEBUG))
    return messages.Failed(phase, cause, lines, calls)


def serve(host: Host, requests: socket.socket, replies: ReplySender, control: Control) -> None:
    """Process calls, in the way that the model requires, until the server closes the connection."""
    match host.calling.kind:
        case CallingKind.CONCURRENT:
            from deepaas.worker.concurrent import ConcurrentLoop

            host.runtime.loop.run_until_complete(
                ConcurrentLoop(host, requests, replies, control).serve()
            )
        case CallingKind.BATCH:
            from deepaas.worker.batching import BatchingLoop

            BatchingLoop(host, requests, replies).serve()
        case _:
            from deepaas.worker.sequential import SequentialLoop

            SequentialLoop(host, requests, replies, control).serve()
