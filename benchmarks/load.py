"""Runs wrk against one server, and raises an error if anything fails."""

import shutil
import subprocess
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers import REQUEST_SECONDS, BenchmarkError, Server

MARK = "BENCHMARK"
ERRORS = ("connect", "read", "write", "timeout", "status")

SCRIPT = """\
local file = assert(io.open("{body}", "rb"))
wrk.method = "POST"
wrk.body = file:read("*a")
wrk.headers["Content-Type"] = "{content_type}"
file:close()

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("{mark} %d %d %d %d %d %d %d %d %d\\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect, e.read, e.write, e.timeout, e.status))
end
"""


VARYING = """
local number = 0

function request()
  number = number + 1
  wrk.headers["X-Request-Id"] = "{run}-" .. number
  return wrk.format()
end
"""


@dataclass(frozen=True)
class Run:
    """The results of wrk; times in milliseconds."""

    requests: int
    rate: float
    p50: float
    p99: float


def find_wrk() -> str:
    if (program := shutil.which("wrk")) is None:
        raise BenchmarkError("wrk is not installed: `apt-get install wrk` (or your system's way)")
    return program


def drive(server: Server, connections: int, seconds: int) -> Run:
    """Send the case's request again and again, and verify one response before and after.

    The second check also waits until the server has processed the remaining requests of wrk.
    """
    with server.awake():
        server.verify()
        with tempfile.TemporaryDirectory(prefix="benchmark-") as directory:
            script = _write_script(server, Path(directory))
            run = _wrk(server, script, connections, seconds)
        server.verify()
        server.tidy()
    return run


def _write_script(server: Server, directory: Path) -> Path:
    request = server.kind.request(server.case)
    body, script = directory / "body", directory / "post.lua"
    body.write_bytes(request.body)
    text = SCRIPT.format(body=body, content_type=request.content_type, mark=MARK)
    if server.case.varies:
        text += VARYING.format(run=uuid.uuid4().hex)
    script.write_text(text)
    return script


def _wrk(server: Server, script: Path, connections: int, seconds: int) -> Run:
    command = [
        *(find_wrk(), "--threads", "1", "--connections", str(connections)),
        *("--duration", f"{seconds}s", "--timeout", f"{REQUEST_SECONDS:.0f}s"),
        *("--script", str(script), server.url),
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds + 30, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise server.fault("wrk does not exit") from error
    said = f"{done.stdout}{done.stderr}"
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode != 0 or len(lines) != 1:
        raise server.fault(f"wrk failed with {done.returncode}:\n{said}")
    requests, duration, p50, p99, *counts = (int(word) for word in lines[0].split()[1:])
    errors = {name: count for name, count in zip(ERRORS, counts, strict=True) if count}
    if errors or "Non-2xx" in said or "Socket errors" in said:
        raise server.fault(f"{connections} connections: wrk reports errors {errors}:\n{said}")
    if requests == 0:
        raise server.fault(f"{connections} connections: no response in {seconds} s")
    return Run(requests, requests / (duration / 1e6), p50 / 1e3, p99 / 1e3)
