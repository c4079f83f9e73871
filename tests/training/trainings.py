"""Helpers for tests of trainings: servers with a state directory, requests, processes."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.support import Server, wait_until

SUPERVISOR = "deepaas.jobs.supervisor import"
"""A part of the command line that only supervisors have."""

ENDED = ("done", "error", "cancelled")
END_SECONDS = 120.0
"""A training that takes longer is considered to hang; it starts several processes in sequence."""


@dataclass
class Place:
    """A directory where trainings of `zoo.trains` record their start and wait for `gate`."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def open_gate(self) -> None:
        (self.path / "gate").touch()

    @property
    def attempts(self) -> list[str]:
        """The process ids of the trainings that have started here, in order."""
        file = self.path / "attempts"
        return file.read_text().split() if file.exists() else []

    def wait_for_attempt(self) -> None:
        wait_until(lambda: self.attempts, within=END_SECONDS, what="a training that begins")

    @property
    def children(self) -> list[int]:
        """The process ids of the children of a training; empty until all have started."""
        file = self.path / "children"
        return [int(pid) for pid in file.read_text().split()] if file.exists() else []

    def wait_until_deaf(self) -> None:
        """Wait until the training ignores SIGTERM."""
        wait_until(lambda: "deaf" in self.attempts, within=END_SECONDS, what="one that is deaf")

    def wait_for_children(self) -> None:
        wait_until(lambda: len(self.children) == 3, within=END_SECONDS, what="three children")

    @property
    def running_children(self) -> list[int]:
        """The process ids of the children that still run."""
        return [pid for pid in self.children if _has_pid(pid)]


@dataclass
class Trainings:
    """The trainings of a model, over HTTP. `segment` is "train" or "jobs"."""

    server: Server
    model: str = "trains"
    segment: str = "train"

    @property
    def path(self) -> str:
        return f"/v2/models/{self.model}/{self.segment}/"

    def post(self, **arguments: Any) -> httpx.Response:
        values = {name: str(value) for name, value in arguments.items()}
        return self.server.post(f"/v2/models/{self.model}/train/", params=values)

    def begin(self, **arguments: Any) -> str:
        """Start a training, and return its uuid; fail if it is refused."""
        answer = self.post(**arguments)
        assert answer.status_code == 200, answer.text
        uuid: str = answer.json()["uuid"]
        return uuid

    def get(self, uuid: str) -> Any:
        answer = self.server.get(f"{self.path}{uuid}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def list(self, **query: Any) -> Any:
        answer = self.server.get(self.path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def delete(self, uuid: str) -> httpx.Response:
        return self.server.request("DELETE", f"{self.path}{uuid}")

    def log(self, uuid: str) -> str:
        answer = self.server.get(f"{self.path}{uuid}/logs")
        assert answer.status_code == 200, answer.text
        return answer.text

    def wait(self, uuid: str, *statuses: str, within: float = END_SECONDS) -> Any:
        """Wait for one of these statuses (default: any end), and return the record."""
        record: dict[str, Any] = {}

        def there() -> bool:
            record.update(self.get(uuid))
            return record["status"] in (statuses or ENDED)

        wait_until(there, within=within, what=f"{statuses or ENDED} of {uuid}")
        return record

    def wait_gone(self, uuid: str) -> None:
        """Wait until no process of the training is left."""
        wait_until(lambda: not of_training(uuid), within=END_SECONDS, what=f"the end of {uuid}")


def of_training(uuid: str) -> list[psutil.Process]:
    """Return the processes of a training: its supervisor, its process, and their children."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            marked = process.environ().get("DEEPAAS_TRAINING_ID") == uuid
            if marked or any(uuid in word for word in process.cmdline()):
                found.append(process)
    return found


def supervisor_of(uuid: str) -> psutil.Process:
    """Return the supervisor process of a training."""
    (supervisor,) = [one for one in of_training(uuid) if SUPERVISOR in " ".join(one.cmdline())]
    return supervisor


def pid_of_work(uuid: str) -> int:
    """Return the process id of the process that trains: the child of the supervisor."""
    (child,) = supervisor_of(uuid).children()
    return child.pid


def kill_server(server: Server, moment: Callable[[], object] = lambda: None) -> None:
    """Send SIGKILL to the server process when `moment` returns, and wait until its workers exit."""
    workers = [one for one in server.processes() if one.pid != server.pid]
    moment()
    os.kill(server.pid, signal.SIGKILL)
    server.wait_end()
    gone = [one for one in workers if not _is_of_a_training(one)]
    wait_until(lambda: not any(map(_runs, gone)), within=10, what="the end of the workers")


def _has_pid(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return _runs(psutil.Process(pid))
    return False


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _is_of_a_training(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        is_marked = "DEEPAAS_TRAINING_ID" in process.environ()
        return is_marked or SUPERVISOR in " ".join(process.cmdline())
    return False


def stop_server(server: Server) -> None:
    """Stop the server process with SIGTERM; its trainings may go on."""
    os.kill(server.pid, signal.SIGTERM)
    assert server.wait_end() == 0


@dataclass
class Site:
    """A state directory, and the servers that use it."""

    state: Path
    models: Mapping[str, str] = field(default_factory=lambda: {"trains": "zoo.trains"})
    servers: list[Server] = field(default_factory=list)
    reloads: bool = False  # replacing the workers after a training takes time

    def serve(self, *args: str, **kwargs: Any) -> Trainings:
        """Start another server, and return its trainings."""
        quick = () if self.reloads else ("--noreload-after-train",)
        args = ("--state-dir", str(self.state), *quick, *args)
        values = {"models": self.models, "args": args, **kwargs}
        server = Server(**values)
        self.servers.append(server)
        return Trainings(server.start())

    def processes(self) -> list[psutil.Process]:
        """Return all processes that run for trainings of this state directory."""
        work = str(self.state / "work")
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                is_marked = process.environ().get("DEEPAAS_TRAINING_DIR", "").startswith(work)
                is_supervisor = SUPERVISOR in " ".join(process.cmdline())
                if is_marked or (is_supervisor and str(self.state) in process.cmdline()):
                    found.append(process)
        return found

    def wait_idle(self, within: float = END_SECONDS) -> None:
        """Wait until no process runs for a training."""
        wait_until(lambda: not self.processes(), within=within, what="the end of all processes")

    def close(self) -> None:
        """Stop all servers; fail if a process of any training is left."""
        try:
            for server in self.servers:
                if server.exit_code() is None:
                    stop_server(server)
            self.wait_idle(within=10)
        finally:
            for server in self.servers:
                server.kill()
            for process in self.processes():
                process.kill()


@contextlib.contextmanager
def no_process_left(within: float = 10.0) -> Iterator[set[str]]:
    """Yield a set for the uuids of trainings; at the end of the block none may have a process left.

    Any such process is killed.
    """
    uuids: set[str] = set()
    try:
        yield uuids
        deadline = time.monotonic() + within
        while any(of_training(uuid) for uuid in uuids) and time.monotonic() < deadline:
            time.sleep(0.05)
        left = [one.cmdline() for uuid in uuids for one in of_training(uuid)]
        assert not left
    finally:
        for uuid in uuids:
            for process in of_training(uuid):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
