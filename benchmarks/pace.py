"""Sends requests at a fixed rate, whether or not earlier responses have arrived.

The time of a request counts from the moment when it was due, not from when it was sent. So if the
server (or the sender) stalls, the delayed requests count as late and are never left out.

wrk sends the next request when a response arrives, so it cannot do this. h2load sends the requests
of all its connections together every few milliseconds, and counts from when they were sent.
"""

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers import REQUEST_SECONDS, BenchmarkError, Server

SOURCE = Path(__file__).with_name("pace.c")


@dataclass(frozen=True)
class Pace:
    """The results of one run; times in milliseconds."""

    asked: float
    held: float
    """Responses a second; lower than `asked` if the server does not keep up."""
    p50: float
    p99: float
    late: float
    """How late 99 % of the requests were sent at most; their times include this delay."""

    @property
    def spread(self) -> float:
        return self.p99 / self.p50


def pace(server: Server, rate: float, seconds: int) -> Pace:
    """Do one run, and verify one response before and after, as `drive` does."""
    with server.awake(), tempfile.NamedTemporaryFile() as message:
        server.verify()
        message.write(_message(server))
        message.flush()
        count = max(1, round(rate * seconds))
        command = [_program(), str(server.port), str(rate), str(count), message.name]
        limit = seconds + 2 * REQUEST_SECONDS
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=limit)
        except subprocess.TimeoutExpired:
            raise server.fault(f"does not answer {rate:.0f} requests a second") from None
        if run.returncode:
            raise server.fault(f"at {rate:.0f} requests a second: {run.stderr.strip()[:300]}")
        server.verify()
        server.tidy()
    took, p50, p99, late = map(float, run.stdout.split())
    held = count / max(took, count / rate)
    return Pace(asked=rate, held=held, p50=p50 * 1e3, p99=p99 * 1e3, late=late * 1e3)


@functools.cache
def _program() -> str:
    """Compile the sender: in Python it would need as much processor time as the server."""
    directory = tempfile.mkdtemp(prefix="pace-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    program = os.path.join(directory, "pace")
    compiled = subprocess.run(["cc", "-O2", "-o", program, SOURCE], capture_output=True, text=True)
    if compiled.returncode:
        raise BenchmarkError(f"{SOURCE} cannot be compiled: {compiled.stderr[:500]}")
    return program


def _message(server: Server) -> bytes:
    request = server.kind.request(server.case)
    head = (
        f"POST {server.kind.path(server.case)} HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{server.port}\r\n"
        f"Content-Type: {request.content_type}\r\n"
        f"Content-Length: {len(request.body)}\r\n\r\n"
    )
    return head.encode() + request.body
