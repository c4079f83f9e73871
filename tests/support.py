"""Helpers of all tests: they run a real `deepaas-run`, install models, lease ports and send bytes.

A server imports the models of `tests/zoo` as `zoo.<module>`. Each server gets a directory with the
requested entry points and a link to the zoo, and only that directory is added to `PYTHONPATH`. So
the tests do not depend on the environment in which the server is installed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import psutil

HOST = "127.0.0.1"
GROUP = "deepaas.v2.model"
ZOO = Path(__file__).resolve().parent / "zoo"

UPLOAD_LOCK = ".server-lock"
"""The name of a file in the upload directory; a running server keeps it locked."""

# These timeouts stop tests that hang. They are not limits on speed, since other processes may keep
# the cores busy. Timeouts for events are below 30 s, the time for which a server drains by default.
READY_SECONDS = 120.0
STOP_SECONDS = 25.0
ANSWER_SECONDS = 60.0
LEAST_GUARD_SECONDS = 25.0

# Below the ephemeral ports of the kernel, so that no client socket takes one of them.
FIRST_PORT = 20_000
PORTS_PER_WORKER = 400
MOST_WORKERS = 31

_program = Path(sys.executable).with_name("deepaas-run")
_patience = ["--start-grace", "600"]
"""Tests with several models wait for all of them, even on a busy machine."""


def use_program(path: str | os.PathLike[str]) -> None:
    """Start all further servers from this `deepaas-run`."""
    global _program
    _program = Path(os.path.abspath(path))
    _patience.clear()  # another release may not have these options


def program() -> Path:
    """Return the path of the `deepaas-run` under test."""
    return _program


# --- ports -----------------------------------------------------------------------------------


def _own_ports() -> list[int]:
    """Return the ports of this pytest-xdist worker, in an order that differs between test runs."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    index = 1 + int(worker.removeprefix("gw")) if worker.startswith("gw") else 0
    first = FIRST_PORT + (index % MOST_WORKERS) * PORTS_PER_WORKER
    start = os.getpid() % PORTS_PER_WORKER
    return [first + (start + step) % PORTS_PER_WORKER for step in range(PORTS_PER_WORKER)]


def _can_be_bound(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


@contextlib.contextmanager
def leased_port() -> Iterator[int]:
    """Reserve a port that no other test on this machine uses while the block runs."""
    locks = Path(tempfile.gettempdir()) / "deepaas-test-ports"
    locks.mkdir(exist_ok=True)
    for port in _own_ports():
        lock = os.open(locks / str(port), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if _can_be_bound(port):
                yield port
                return
        finally:
            os.close(lock)
    raise RuntimeError("every port of this worker is taken")


# --- models and environment ------------------------------------------------------------------


def install_models(
    directory: Path, models: Mapping[str, str], executable: Path | None = None
) -> Path:
    """Make a directory that offers `models` (name -> "module:attr") as entry points.

    On `PYTHONPATH` the directory acts like an installed distribution, and `zoo` can be imported
    from it. Models that are installed beside the executable are hidden: of two distributions with
    the same name Python uses the first on the path, and the one written here has no entry points.
    """
    for name in _installed_with_models((executable or program()).with_name("python")):
        _write_distribution(directory, name, "")
    lines = [f"{name} = {target}\n" for name, target in models.items()]
    _write_distribution(directory, "zoo-models", f"[{GROUP}]\n" + "".join(lines))
    link = directory / "zoo"
    if not link.exists():
        link.symlink_to(ZOO, target_is_directory=True)
    return directory


def _write_distribution(directory: Path, name: str, entry_points: str) -> None:
    info = directory / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)


@functools.cache
def _installed_with_models(python: Path) -> list[str]:
    """Return the names of the distributions with models in an environment, except DEEPaaS."""
    code = f"""
from importlib.metadata import distributions
for one in distributions():
    if any(point.group == {GROUP!r} for point in one.entry_points):
        print(one.metadata["Name"])
"""
    ran = subprocess.run(
        [str(python), "-I", "-c", code], stdout=subprocess.PIPE, text=True, check=True, timeout=60
    )
    return [name for name in ran.stdout.split() if name.lower() != "deepaas"]


NO_CERTIFICATES = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}
"""Servers start faster without certificates: aiohttp spends a third of its import on loading them.
No test connects to an external server."""


def _overlay() -> list[str]:
    """Return the directory with another release of aiohttp that `make test-aiohttp` tests."""
    overlay = os.environ.get("AIOHTTP_OVERLAY")
    return [overlay] if overlay else []


def environment(home: Path, *path: Path, extra: Mapping[str, str | None]) -> dict[str, str]:
    """Return the environment of a program under test, without the settings of the caller.

    Its home and its temporary directory are in `home`; `path` becomes `PYTHONPATH`. A value of None
    in `extra` removes the variable.
    """
    env = {key: value for key, value in os.environ.items() if not _is_private(key)}
    temporary = home / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    env |= {
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "PYTHONPATH": os.pathsep.join([*map(str, path), *_overlay()]),
        "PYTHONUNBUFFERED": "1",
    }
    for key, value in extra.items():
        if value is None:
            env.pop(key, None)
        else:
            env[key] = value
    return env


def _is_private(key: str) -> bool:
    return key.startswith(("PYTEST_", "DEEPAAS_", "XDG_", "PYTHON", "COV_", "VIRTUAL_ENV"))


@dataclass
class Finished:
    """The exit code and the output of a program that has exited."""

    code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


def run_program(
    directory: Path,
    args: Sequence[str],
    *,
    models: Mapping[str, str] | None = None,
    env: Mapping[str, str | None] | None = None,
    executable: Path | None = None,
    cwd: Path | None = None,
    timeout: float = READY_SECONDS,
) -> Finished:
    """Run `deepaas-run` (or a program beside it) until it exits; `directory` is its home."""
    directory.mkdir(parents=True, exist_ok=True)
    site = install_models(directory / "site", models or {}, executable)
    with subprocess.Popen(
        [str(executable or program()), *args],
        env=environment(directory, site, extra={**NO_CERTIFICATES, **(env or {})}),
        cwd=cwd or directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
    return Finished(process.returncode, stdout, stderr)


def version() -> str:
    """Return the last word that `deepaas-run --version` prints."""
    with tempfile.TemporaryDirectory() as directory:
        finished = run_program(Path(directory), ["--version"])
    words = finished.stdout.split()
    if finished.code or not words:
        raise RuntimeError(f"{program()} --version failed:\n{finished.output}")
    return words[-1]


# --- bytes on the wire -----------------------------------------------------------------------


@dataclass
class RawAnswer:
    """A response as received from the socket."""

    status_line: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def status(self) -> int:
        return int(self.status_line.split(" ", 2)[1])

    @property
    def reason(self) -> str:
        parts = self.status_line.split(" ", 2)
        return parts[2] if len(parts) == 3 else ""

    def header(self, name: str) -> str | None:
        """Return the value of a header, or None; raise ValueError if it was sent more than once."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        if len(values) > 1:
            raise ValueError(f"{name} was sent {len(values)} times: {values}")
        return values[0] if values else None


def send_raw(port: int, data: bytes, *, timeout: float = ANSWER_SECONDS) -> RawAnswer:
    """Send bytes on a new connection, and read one response with any status."""
    deadline = time.monotonic() + timeout
    with socket.create_connection((HOST, port), timeout=timeout) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)  # a refusal can come before all is sent; it says why
        received = b""
        while b"\r\n\r\n" not in received:
            received += _more(connection, deadline, received)
        head, _, rest = received.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        headers = [(key, value.strip()) for key, _, value in (ln.partition(":") for ln in lines)]
        answer = RawAnswer(status_line, headers, b"")
        if data.startswith(b"HEAD ") or answer.status in (204, 304):
            return answer
        answer.body = _read_body(connection, deadline, answer, rest)
        return answer


def _read_body(connection: socket.socket, deadline: float, answer: RawAnswer, rest: bytes) -> bytes:
    if (answer.header("Transfer-Encoding") or "").lower() == "chunked":
        body = b""
        while True:
            while b"\r\n" not in rest:
                rest += _more(connection, deadline, rest)
            size_line, _, rest = rest.partition(b"\r\n")
            size = int(size_line.split(b";")[0], 16)
            while len(rest) < size + 2:
                rest += _more(connection, deadline, rest)
            body, rest = body + rest[:size], rest[size + 2 :]
            if size == 0:
                return body
    length = answer.header("Content-Length")
    if length is not None:
        while len(rest) < int(length):
            rest += _more(connection, deadline, rest)
        return rest[: int(length)]
    while chunk := _receive(connection, deadline):
        rest += chunk
    return rest


def _more(connection: socket.socket, deadline: float, so_far: bytes) -> bytes:
    chunk = _receive(connection, deadline)
    if not chunk:
        raise ConnectionError(f"the server closed the connection after {so_far!r}")
    return chunk


def _receive(connection: socket.socket, deadline: float) -> bytes:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("no whole answer in time")
    connection.settimeout(left)
    return connection.recv(65536)


# --- the server ------------------------------------------------------------------------------


class ServerEndedError(RuntimeError):
    """`deepaas-run` exited, or did not open its port in time; the message contains its log."""


@dataclass
class Server:
    """A `deepaas-run` process; use it as a context manager, or call `start()` and `stop()`.

    `models` maps entry-point names to "module" or "module:attr". `args` are further flags. `config`
    is the text of a configuration file for `--config-file`. A value of None in `env` removes the
    variable. Without `cwd` the server runs in a new directory. Without `port` it leases one; with
    `listen=False` the port comes from `args`, `env` or `config`. With `stderr` only stdout goes to
    the log, and stderr to that file. `redirect` contains shell redirections for the start, such as
    ">&-". `open_files` limits the descriptors. `launcher` is a command that runs the program given
    as its arguments.
    """

    models: Mapping[str, str] = field(default_factory=dict)
    args: Sequence[str] = ()
    env: Mapping[str, str | None] = field(default_factory=dict)
    config: str | None = None
    cwd: Path | None = None
    port: int = 0
    listen: bool = True
    executable: Path | None = None
    stderr: Path | None = None
    open_files: int = 0
    launcher: Sequence[str] = ()
    ready_seconds: float = READY_SECONDS
    redirect: str = ""

    def __post_init__(self) -> None:
        self._resources = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._family: dict[int, psutil.Process] = {}
        self._last_log = ""

    # Lifecycle

    def start(self, *, wait: bool = True) -> Server:
        """Start the process; with `wait`, return when its port accepts connections."""
        try:
            self._start()
            if wait:
                self.wait_ready()
        except BaseException:
            self._end(signal.SIGKILL)
            self._resources.close()
            raise
        return self

    def _start(self) -> None:
        home = Path(tempfile.mkdtemp(prefix="deepaas-test-"))
        self._resources.callback(shutil.rmtree, home, ignore_errors=True)
        self.home = home
        if not self.port:
            self.port = self._resources.enter_context(leased_port())
        args = [*self.launcher, str(self.executable or program())]
        if self.open_files:
            args = ["sh", "-c", f'ulimit -n {self.open_files}; exec "$@"', "sh", *args]
        if self.config is not None:
            (home / "given.conf").write_text(self.config)
            args += ["--config-file", str(home / "given.conf")]
        if self.listen:
            args += ["--listen-ip", HOST, "--listen-port", str(self.port)]
        args += [*(_patience if self.executable is None else ()), *self.args]
        if self.redirect:
            args = ["/bin/sh", "-c", f'exec "$0" "$@" {self.redirect}', *args]
        log = self._resources.enter_context((home / "log").open("wb"))
        errors = self._resources.enter_context(self.stderr.open("wb")) if self.stderr else log
        site = install_models(home / "site", self.models, self.executable)
        self._process = subprocess.Popen(
            args,
            env=environment(home, site, extra={**NO_CERTIFICATES, **self.env}),
            cwd=self.cwd or home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=errors,
            start_new_session=True,
        )
        self._client = self._resources.enter_context(
            httpx.Client(
                base_url=self.url,
                timeout=ANSWER_SECONDS,
                trust_env=False,
                verify=False,
                limits=httpx.Limits(max_keepalive_connections=0),
            )
        )

    def wait_ready(self) -> None:
        """Wait until the port accepts connections; fail with the log if the process exits first."""
        deadline = time.monotonic() + self.ready_seconds
        while time.monotonic() < deadline:
            if self.exit_code() is not None:
                raise ServerEndedError(f"ended with {self.exit_code()}:\n{self._last_words()}")
            if self.is_open():
                return
            time.sleep(0.02)
        raise ServerEndedError(f"no port after {self.ready_seconds} s:\n{self._last_words()}")

    def is_open(self) -> bool:
        """Tell whether the port accepts a connection now."""
        try:
            socket.create_connection((HOST, self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def stop(self, *, within: float = STOP_SECONDS) -> int:
        """Send SIGTERM, and return the exit code.

        Fail if the process hangs, or if a process of its session or a child is left. Kill what is
        left in any case. As in `wait_until`, the time is not a limit on speed.
        """
        try:
            return self._stop(max(within, STOP_SECONDS))
        finally:
            self._keep_log()
            self._resources.close()

    def _keep_log(self) -> None:
        """Keep the log readable after the directory of the server is removed."""
        self._last_log = self.log()

    def _stop(self, within: float) -> int:
        process = self._started()
        if process.poll() is None:
            self.processes()
            process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(timeout=within)
        except subprocess.TimeoutExpired:
            self._end(signal.SIGKILL)
            raise AssertionError(
                f"SIGTERM did not end it in {within} s:\n{self._last_words()}"
            ) from None
        left = self._left_behind(grace=LEAST_GUARD_SECONDS)
        if left:
            described = ", ".join(left)
            self._end(signal.SIGKILL)
            raise AssertionError(f"it left behind: {described}\n{self._last_words()}")
        return code

    def kill(self) -> None:
        """Kill the server and all its children."""
        self._end(signal.SIGKILL)
        self._keep_log()
        self._resources.close()

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        for process in [*self.processes(), *self._family.values()]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        self._process.wait(timeout=STOP_SECONDS)

    def _left_behind(self, grace: float) -> list[str]:
        deadline = time.monotonic() + grace
        while True:
            everyone = self._family | {one.pid: one for one in self._session()}
            alive = [one for one in everyone.values() if _runs(one)]
            if not alive or time.monotonic() > deadline:
                return [_describe(one) for one in alive]
            time.sleep(0.02)

    def _session(self) -> list[psutil.Process]:
        """Return the processes of the session that the server was started in."""
        leader = self._started().pid
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, psutil.Error, PermissionError):
                if os.getsid(process.pid) == leader and _runs(process):
                    found.append(process)
        return found

    def processes(self) -> list[psutil.Process]:
        """Return the process of the server and all its running descendants."""
        with contextlib.suppress(psutil.NoSuchProcess):
            top = psutil.Process(self._started().pid)
            for process in [top, *top.children(recursive=True)]:
                self._family[process.pid] = process
        for process in self._session():
            self._family[process.pid] = process
        return [process for process in self._family.values() if _runs(process)]

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.stop()
        else:
            self.kill()

    # State and output

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the server was not started")
        return self._process

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        return self._started().pid

    def exit_code(self) -> int | None:
        """Return the exit code, or None while the process runs."""
        return self._started().poll()

    def wait_end(self, within: float = STOP_SECONDS) -> int:
        """Wait until the process exits. As in `wait_until`, the time is not a limit on speed."""
        return self._started().wait(timeout=max(within, STOP_SECONDS))

    def log(self) -> str:
        """Return the stdout and stderr of the process so far."""
        path = self.home / "log"
        return path.read_text(errors="replace") if path.exists() else self._last_log

    def _last_words(self) -> str:
        return "\n".join(self.log().splitlines()[-60:])

    def temporary_files(self) -> list[Path]:
        """Return the files in the temporary directory, except `UPLOAD_LOCK`."""
        found = (path for path in (self.home / "tmp").rglob("*") if path.is_file())
        return sorted(path for path in found if path.name != UPLOAD_LOCK)

    def uploads(self) -> list[Path]:
        """Return the files in the subdirectories of the temporary directory."""
        return [path for path in self.temporary_files() if path.parent != self.home / "tmp"]

    # Requests

    def request(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """Send a request on a separate connection, without following redirects."""
        return self._client.request(method, path, **kwargs)

    def get(self, path: str, **kwargs: Any) -> httpx.Response:
        return self.request("GET", path, **kwargs)

    def post(self, path: str, **kwargs: Any) -> httpx.Response:
        return self.request("POST", path, **kwargs)

    def predict(self, model: str, **kwargs: Any) -> httpx.Response:
        """POST to the model's predict endpoint."""
        return self.post(f"/v2/models/{model}/predict/", **kwargs)

    def raw(self, data: bytes, *, timeout: float = ANSWER_SECONDS) -> RawAnswer:
        """Send bytes unchanged on a new connection, and read one response."""
        return send_raw(self.port, data, timeout=timeout)

    def raw_request(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout: float = ANSWER_SECONDS,
    ) -> RawAnswer:
        """Send a request whose target is sent unchanged."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {HOST}:{self.port}", "Connection: close"]
        lines += [f"{key}: {value}" for key, value in (headers or {}).items()]
        if body or method in ("POST", "PUT", "PATCH"):
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        return self.raw(head + body, timeout=timeout)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline()) or process.name()}"
    except psutil.Error:
        return str(process.pid)


def predictions(response: httpx.Response) -> Any:
    """Return the predictions of a model without a schema; fail if the response has another form."""
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    answer = response.json()
    assert set(answer) == {"status", "predictions"}
    assert answer["status"] == "OK"
    return answer["predictions"]


@dataclass
class Part:
    """One part of a multipart form; it is sent unchanged."""

    name: str
    body: bytes = b""
    filename: str | None = None
    content_type: str | None = None

    def encode(self) -> bytes:
        disposition = f'form-data; name="{self.name}"'
        if self.filename is not None:
            disposition += f'; filename="{self.filename}"'
        head = f"Content-Disposition: {disposition}\r\n"
        if self.content_type is not None:
            head += f"Content-Type: {self.content_type}\r\n"
        return head.encode() + b"\r\n" + self.body + b"\r\n"


def multipart(*parts: Part) -> dict[str, Any]:
    """Return the keyword arguments of a request that sends these parts as a multipart form."""
    boundary = b"deepaas-test-boundary"
    body = b"".join(b"--" + boundary + b"\r\n" + part.encode() for part in parts)
    return {
        "content": body + b"--" + boundary + b"--\r\n",
        "headers": {"Content-Type": f"multipart/form-data; boundary={boundary.decode()}"},
    }


def wait_until(condition: Callable[[], Any], *, within: float, what: str = "the condition") -> None:
    """Poll until `condition()` is true; fail after a timeout.

    `within` is not a limit on speed, since other processes may keep the cores busy: the timeout is
    at least `LEAST_GUARD_SECONDS`.
    """
    guard = max(within, LEAST_GUARD_SECONDS)
    deadline = time.monotonic() + guard
    pause = 0.01
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} was not met within {guard} s")
        time.sleep(pause)
        pause = min(0.1, 1.2 * pause)  # most conditions are met soon; poll less often later
