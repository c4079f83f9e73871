"""The servers that are compared. A further one is one more row in `KINDS`."""

import contextlib
import ctypes
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.cases import Case, Request, native

HERE = Path(__file__).resolve().parent
START_SECONDS = 90.0
STOP_SECONDS = 10.0
REQUEST_SECONDS = 30.0
ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
PR_SET_PDEATHSIG = 1


class BenchmarkError(Exception):
    """The figures would mean nothing: say why, and stop."""


@dataclass(frozen=True)
class Launch:
    """What the start command of a server may use."""

    program: Path
    case: Case
    port: int
    home: Path
    """An empty directory: the server's working directory, ended with it."""


@dataclass(frozen=True)
class Kind:
    """A kind of server: how it starts, where it listens, what it takes and answers."""

    name: str
    title: str
    command: Callable[[Launch], list[str]]
    path: Callable[[Case], str]
    packages: tuple[str, ...]
    """Whose versions the header shows."""
    program: Path | None = None
    """What is started unless `--program NAME=PATH` says otherwise; None: only when it does."""
    environment: Callable[[Launch], dict[str, str]] = field(default=lambda launch: {})
    request: Callable[[Case], Request] = native
    answer: Callable[[bytes], object] = field(default=lambda body: json.loads(body)["predictions"])
    leaves_uploads: bool = False
    """It never removes the files it was sent: the driver does, or the disk would fill up."""


def _bare_command(launch: Launch) -> list[str]:
    program, port, case = str(launch.program), str(launch.port), launch.case.name
    return [program, "-m", "benchmarks.bare", "--port", port, "--case", case]


def _deepaas_command(launch: Launch) -> list[str]:
    settings = launch.home / "empty.conf"
    settings.touch()
    return [
        str(launch.program),
        *("--config-file", str(settings)),
        *("--listen-ip", "127.0.0.1"),
        *("--listen-port", str(launch.port)),
        *("--model-name", launch.case.name),
        *("--workers", "1"),
    ]


def _deepaas_environment(launch: Launch) -> dict[str, str]:
    """Make the models visible as an installed package would.

    A copy, since the directory above this one holds a `deepaas` that must not hide the one the
    program belongs to.
    """
    packages = launch.home / "packages"
    information = packages / "benchmark_model-1.0.dist-info"
    information.mkdir(parents=True)
    shutil.copy(HERE / "model.py", packages / "benchmark_model.py")
    metadata = "Metadata-Version: 2.1\nName: benchmark-model\nVersion: 1.0\n"
    (information / "METADATA").write_text(metadata)
    name = launch.case.name
    entry = f"[deepaas.v2.model]\n{name} = benchmark_model:{name}\n"
    (information / "entry_points.txt").write_text(entry)
    return {"PYTHONPATH": str(packages)}


_SERVER_PACKAGES = ("deepaas", "aiohttp", "uvloop", "orjson", "marshmallow", "webargs")

KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            name="bare",
            title="bare aiohttp handler, model in-process",
            program=Path(sys.executable),
            command=_bare_command,
            environment=lambda launch: {"PYTHONPATH": str(HERE.parent)},
            path=lambda case: "/predict",
            packages=("aiohttp", "uvloop", "orjson"),
        ),
        Kind(
            name="deepaas",
            title="this project, one worker, no access log (as the bare handler)",
            program=Path(sys.executable).with_name("deepaas-run"),
            command=lambda launch: [*_deepaas_command(launch), "--noaccess-log"],
            environment=_deepaas_environment,
            path=lambda case: f"/v2/models/{case.name}/predict/",
            packages=_SERVER_PACKAGES,
        ),
        Kind(
            name="deepaas-log",
            title="this project, one worker, with its default access log",
            program=Path(sys.executable).with_name("deepaas-run"),
            command=_deepaas_command,
            environment=_deepaas_environment,
            path=lambda case: f"/v2/models/{case.name}/predict/",
            packages=_SERVER_PACKAGES,
        ),
        Kind(
            name="reference",
            title="reference release, one worker, with its access log (it has no option for it)",
            command=_deepaas_command,
            environment=_deepaas_environment,
            path=lambda case: f"/v2/models/{case.name}/predict/",
            packages=_SERVER_PACKAGES,
            leaves_uploads=True,
        ),
    )
}


@dataclass
class Server:
    """A running server."""

    kind: Kind
    case: Case
    port: int
    home: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.kind.path(self.case)}"

    def verify(self) -> None:
        """One request: the answer must be 200, and right."""
        try:
            self.ask()
        except (OSError, http.client.HTTPException) as error:
            raise self.fault(f"does not answer: {error!r}") from error

    def ask(self) -> None:
        """As `verify`, for a server that may not listen yet."""
        request = self.kind.request(self.case)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=REQUEST_SECONDS)
        headers = {"Content-Type": request.content_type}
        with contextlib.closing(connection):
            connection.request("POST", self.kind.path(self.case), request.body, headers)
            response = connection.getresponse()
            body = response.read()
        if response.status != 200:
            raise self.fault(f"answered {response.status}: {body[:300]!r}")
        try:
            answer = self.kind.answer(body)
        except (ValueError, LookupError, TypeError) as error:
            raise self.fault(f"no answer in {body[:300]!r}") from error
        if not self.case.accepts(answer):
            raise self.fault(f"answered {answer!r}, not {self.case.expected!r}")

    def tidy(self) -> None:
        if self.kind.leaves_uploads:
            for path in (self.home / "tmp").iterdir():
                if path.is_file():
                    path.unlink(missing_ok=True)
            os.sync()  # or the next one to be measured would wait for the disk

    def fault(self, text: str) -> BenchmarkError:
        """The error to raise when this server did wrong: what, and the end of its log."""
        log = (self.home / "log").read_text(errors="replace")[-3000:]
        name = self.kind.name
        return BenchmarkError(
            f"{name}, case {self.case.name}: {text}\n--- log of {name} ---\n{log}"
        )


@contextlib.contextmanager
def running(kind: Kind, program: Path, case: Case) -> Iterator[Server]:
    """Start a server, hand it out once it answers rightly, and end it whatever happens."""
    with tempfile.TemporaryDirectory(prefix="benchmark-", ignore_cleanup_errors=True) as directory:
        home = Path(directory)
        launch = Launch(program, case, _free_port(), home)
        server = Server(kind, case, launch.port, home, _start(kind, launch))
        try:
            _wait(server)
            yield server
        finally:
            _stop(server.process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _start(kind: Kind, launch: Launch) -> subprocess.Popen[bytes]:
    (launch.home / "tmp").mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DEEPAAS", "PYTHON"))}
    environment |= {"TMPDIR": str(launch.home / "tmp"), **kind.environment(launch)}
    libc = ctypes.CDLL(None)

    def end_with_the_driver() -> None:
        if sys.platform == "linux":
            libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))

    with (launch.home / "log").open("wb") as log:
        try:
            return subprocess.Popen(
                kind.command(launch),
                cwd=launch.home,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=end_with_the_driver,
            )
        except OSError as error:
            raise BenchmarkError(f"{kind.name}: cannot start {launch.program}: {error}") from error


def _wait(server: Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        if (code := server.process.poll()) is not None:
            raise server.fault(f"ended with {code} instead of serving")
        try:
            return server.ask()
        except (OSError, http.client.HTTPException) as error:
            if time.monotonic() > deadline:
                raise server.fault(f"does not answer: {error!r}") from error
        time.sleep(0.1)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end; then kill all that is left of its group. Not to be interrupted."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_SECONDS)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
