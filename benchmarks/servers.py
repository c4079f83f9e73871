"""The servers that are compared. To add one, add a row to `KINDS`."""

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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.cases import CASES, ONLY_OURS, Case, Request, json_request, native
from benchmarks.functions import MAX_BATCH_SIZE

HERE = Path(__file__).resolve().parent
START_SECONDS = 90.0
STOP_SECONDS = 10.0
REQUEST_SECONDS = 30.0
ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
PR_SET_PDEATHSIG = 1

MLSERVER_BATCH_SECONDS = 0.002
"""1, 5 and 10 ms gave the same number of requests a second, within the noise."""


class BenchmarkError(Exception):
    """The benchmark stops, because its figures would mean nothing; the message says why."""


class NotReady(Exception):
    """The server listens, but does not serve the model yet."""


@dataclass(frozen=True)
class Launch:
    """The values that the start command of a server may use."""

    program: Path
    case: Case
    port: int
    home: Path
    """An empty directory: the server's working directory, which is removed with the server."""


@dataclass(frozen=True)
class Kind:
    """A kind of server: its start command, its path, and the form of requests and responses."""

    name: str
    title: str
    command: Callable[[Launch], list[str]]
    path: Callable[[Case], str]
    packages: tuple[str, ...]
    """The packages whose versions the header shows."""
    lacks: frozenset[str] = frozenset()
    """The names of the cases that it cannot serve."""
    program: Path | None = None
    """The default program; with None, the server needs `--program NAME=PATH`."""
    environment: Callable[[Launch], dict[str, str]] = field(default=lambda launch: {})
    request: Callable[[Case], Request] = native
    answer: Callable[[bytes], object] = field(default=lambda body: json.loads(body)["predictions"])
    leaves_uploads: bool = False
    """The server never removes uploaded files, so the driver does; otherwise the disk fills up."""
    spins: bool = False
    """The server keeps a core busy without requests: it is suspended while others are measured."""
    refuses_early: frozenset[int] = frozenset()
    """The statuses that it sends until its model is loaded."""

    def __post_init__(self) -> None:
        assert self.lacks <= CASES.keys(), f"{self.name} lacks an unknown case"

    def serves(self, case: Case) -> bool:
        return case.name not in self.lacks


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
    """Make the models visible like an installed package.

    They are copied: the parent directory has a `deepaas` that must not hide the one of the program.
    """
    packages = launch.home / "packages"
    package, information = packages / "benchmarks", packages / "benchmark_model-1.0.dist-info"
    for directory in (package, information):
        directory.mkdir(parents=True)
    for name in ("__init__.py", "functions.py", "model.py"):
        shutil.copy(HERE / name, package)
    metadata = "Metadata-Version: 2.1\nName: benchmark-model\nVersion: 1.0\n"
    (information / "METADATA").write_text(metadata)
    name = launch.case.name
    entry = f"[deepaas.v2.model]\n{name} = benchmarks.model:{name}\n"
    (information / "entry_points.txt").write_text(entry)
    return {"PYTHONPATH": str(packages), "XDG_STATE_HOME": str(launch.home / "state")}


def _deepaas_answer(body: bytes) -> object:
    """Return the prediction, or the sum of a stream with one number per line."""
    values = [json.loads(line) for line in body.splitlines()]
    return values[0]["predictions"] if isinstance(values[0], dict) else sum(values)


def _source_environment(launch: Launch) -> dict[str, str]:
    return {"PYTHONPATH": str(HERE.parent)}


def _app_command(name: str, *more: str) -> Callable[[Launch], list[str]]:
    """Return the start command of a peer that has an app file."""

    def command(launch: Launch) -> list[str]:
        program, port, case = str(launch.program), str(launch.port), launch.case.name
        module = f"benchmarks.peers.{name}"
        return [program, "-m", module, "--port", port, "--case", case, *more]

    return command


def _bento_command(launch: Launch) -> list[str]:
    return [
        *(str(launch.program), "-m", "bentoml", "serve", "--quiet"),
        *("--host", "127.0.0.1", "--port", str(launch.port)),
        "benchmarks.peers.bento_app:service",
    ]


def _bento_environment(launch: Launch) -> dict[str, str]:
    return {
        **_source_environment(launch),
        "BENCHMARK_CASE": launch.case.name,
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(launch.home / "bentoml"),
    }


def _bento_request(case: Case) -> Request:
    """Return the case's request; a batched one has a list of calls, here with one item."""
    if case.name != "batch":
        return native(case)
    return json_request({"batch": [case.arguments]})


def _bento_answer(body: bytes) -> object:
    answer = json.loads(body)
    return answer[0] if isinstance(answer, list) else answer["predictions"]


def _mlserver_request(case: Case) -> Request:
    """Return the case's request. MLServer batches only V2 requests: one column per argument."""
    if case.name != "batch" or case.arguments is None:
        return native(case)
    columns = [
        {"name": name, "datatype": "FP64", "shape": [1], "data": [value]}
        for name, value in case.arguments.items()
    ]
    return json_request({"inputs": columns})


def _mlserver_answer(body: bytes) -> object:
    answer = json.loads(body)
    return answer["outputs"][0]["data"][0] if "outputs" in answer else answer["predictions"]


def _mlserver_command(launch: Launch) -> list[str]:
    """Write the settings, and return the command. Without `debug`, there is no access log."""
    name = launch.case.name
    settings: dict[str, object] = {
        "host": "127.0.0.1",
        "http_port": launch.port,
        "grpc_port": _free_port(),
        "debug": False,
        "gzip_enabled": False,
        "metrics_endpoint": None,
        "parallel_workers": 1,
    }
    model: dict[str, object] = {
        "name": name,
        "implementation": f"benchmarks.peers.mlserver_model.{name}",
    }
    if name == "batch":
        model |= {"max_batch_size": MAX_BATCH_SIZE, "max_batch_time": MLSERVER_BATCH_SECONDS}
    (launch.home / "settings.json").write_text(json.dumps(settings))
    (launch.home / "model-settings.json").write_text(json.dumps(model))
    return [str(launch.program), "-c", "from mlserver.cli import main; main()", "start", "."]


_PEER_PACKAGES = ("fastapi", "starlette", "uvicorn", "uvloop", "httptools", "orjson")

_DEEPAAS = Kind(
    name="deepaas",
    title="this project, one worker, no access log (as the bare handler)",
    program=Path(sys.executable).with_name("deepaas-run"),
    command=lambda launch: [*_deepaas_command(launch), "--noaccess-log"],
    environment=_deepaas_environment,
    path=lambda case: f"/v2/models/{case.name}/predict/",
    packages=("deepaas", "aiohttp", "uvloop", "orjson", "marshmallow", "webargs"),
    answer=_deepaas_answer,
)

KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            name="bare",
            title="bare aiohttp handler, model in-process",
            program=Path(sys.executable),
            command=_bare_command,
            environment=_source_environment,
            path=lambda case: "/predict",
            packages=("aiohttp", "uvloop", "orjson"),
            lacks=ONLY_OURS | {"batch"},
        ),
        _DEEPAAS,
        replace(
            _DEEPAAS,
            name="before",
            title="this project at another revision, one worker, no access log",
            program=None,
        ),
        replace(
            _DEEPAAS,
            name="deepaas-log",
            title="this project, one worker, with its default access log",
            command=_deepaas_command,
        ),
        replace(
            _DEEPAAS,
            name="reference",
            title="reference release, one worker, with its access log (it has no option for it)",
            program=None,
            command=_deepaas_command,
            lacks=ONLY_OURS | {"batch"},
            leaves_uploads=True,
        ),
        Kind(
            name="litserve",
            title="LitServe, one API process, one worker, ZeroMQ, no access log",
            command=_app_command("litserve_app"),
            environment=_source_environment,
            path=lambda case: "/predict",
            packages=("litserve", *_PEER_PACKAGES, "pyzmq"),
            lacks=ONLY_OURS,
            spins=True,
        ),
        Kind(
            name="litserve-2",
            title="LitServe, the same with two API processes",
            command=_app_command("litserve_app", "--api-servers", "2"),
            environment=_source_environment,
            path=lambda case: "/predict",
            packages=("litserve", *_PEER_PACKAGES, "pyzmq"),
            lacks=ONLY_OURS,
            spins=True,
        ),
        Kind(
            name="bentoml",
            title="BentoML, one worker, model in the HTTP process, no metrics, no access log",
            command=_bento_command,
            environment=_bento_environment,
            path=lambda case: "/predict",
            packages=("bentoml", *_PEER_PACKAGES),
            lacks=ONLY_OURS,
            request=_bento_request,
            answer=_bento_answer,
        ),
        Kind(
            name="mlserver",
            title="MLServer, one parallel worker, JSON custom handler, no metrics, no access log",
            command=_mlserver_command,
            environment=_source_environment,
            path=lambda case: "/v2/models/batch/infer" if case.name == "batch" else "/predict",
            packages=("mlserver", *_PEER_PACKAGES),
            request=_mlserver_request,
            answer=_mlserver_answer,
            lacks=ONLY_OURS | {"upload"},
            refuses_early=frozenset({400, 404}),
        ),
        Kind(
            name="mosec",
            title="mosec, one worker, JSON by orjson",
            command=_app_command("mosec_app"),
            environment=_source_environment,
            path=lambda case: "/inference",
            packages=("mosec", "orjson"),
            lacks=ONLY_OURS | {"upload"},
        ),
    )
}


@dataclass
class Server:
    """A server process that is being measured."""

    kind: Kind
    case: Case
    port: int
    home: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.kind.path(self.case)}"

    def verify(self) -> None:
        """Send one request; the response must have status 200 and the correct result."""
        try:
            self.ask()
        except (NotReady, OSError, http.client.HTTPException) as error:
            raise self.fault(f"does not answer: {error!r}") from error

    def ask(self) -> None:
        """Do the same as `verify`, but raise NotReady or OSError if the server is not ready."""
        request = self.kind.request(self.case)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=REQUEST_SECONDS)
        headers = {"Content-Type": request.content_type}
        with contextlib.closing(connection):
            connection.request("POST", self.kind.path(self.case), request.body, headers)
            response = connection.getresponse()
            body = response.read()
        if response.status in self.kind.refuses_early:
            raise NotReady(f"answers {response.status}")
        if response.status != 200:
            raise self.fault(f"answered {response.status}: {body[:300]!r}")
        try:
            answer = self.kind.answer(body)
        except (ValueError, LookupError, TypeError) as error:
            raise self.fault(f"no answer in {body[:300]!r}") from error
        if not self.case.accepts(answer):
            raise self.fault(f"answered {answer!r}, not {self.case.expected!r}")

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """Resume the server for the block, in which it is measured; see `Kind.spins`."""
        self._signal(signal.SIGCONT)
        yield
        self.rest()

    def rest(self) -> None:
        self._signal(signal.SIGSTOP)

    def _signal(self, number: signal.Signals) -> None:
        if self.kind.spins:
            os.killpg(self.process.pid, number)

    def tidy(self) -> None:
        if self.kind.leaves_uploads:
            for path in (self.home / "tmp").iterdir():
                if path.is_file():
                    path.unlink(missing_ok=True)
            os.sync()  # otherwise the next measurement would wait for the disk

    def fault(self, text: str) -> BenchmarkError:
        """Return an error about this server, with the end of its log."""
        log = (self.home / "log").read_text(errors="replace")[-3000:]
        name = self.kind.name
        return BenchmarkError(
            f"{name}, case {self.case.name}: {text}\n--- log of {name} ---\n{log}"
        )


@contextlib.contextmanager
def running(kind: Kind, program: Path, case: Case) -> Iterator[Server]:
    """Start a server, yield it when it gives the correct result, and stop it after the block."""
    with tempfile.TemporaryDirectory(prefix="benchmark-", ignore_cleanup_errors=True) as directory:
        home = Path(directory)
        launch = Launch(program, case, _free_port(), home)
        server = Server(kind, case, launch.port, home, _start(kind, launch))
        try:
            _wait(server)
            yield server
        finally:
            _stop(server.process)


@contextlib.contextmanager
def all_running(programs: Mapping[str, Path], case: Case) -> Iterator[list[Server]]:
    """Start all servers that can serve the case, and yield them."""
    with contextlib.ExitStack() as stack:
        servers = []
        for name, program in programs.items():
            if KINDS[name].serves(case):
                server = stack.enter_context(running(KINDS[name], program, case))
                server.rest()
                servers.append(server)
        yield servers


def left_out(programs: Mapping[str, Path], case: Case) -> list[str]:
    return [name for name in programs if not KINDS[name].serves(case)]


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
            raise server.fault(f"exited with {code} at the start")
        try:
            return server.ask()
        except (NotReady, OSError, http.client.HTTPException) as error:
            if time.monotonic() > deadline:
                raise server.fault(f"does not answer: {error!r}") from error
        time.sleep(0.1)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Terminate the server, then kill the rest of its process group, with signals blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        process.terminate()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGCONT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_SECONDS)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
