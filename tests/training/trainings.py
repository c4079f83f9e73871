"""What tests of trainings share: a server with a state directory, and what is done with it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.support import Server, wait_until

ENDED = ("done", "error", "cancelled")
END_SECONDS = 30.0


@dataclass
class Place:
    """A directory in which trainings of `zoo.trains` note that they begin, and wait at a gate."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def open_gate(self) -> None:
        (self.path / "gate").touch()

    @property
    def attempts(self) -> list[str]:
        """The pids of the trainings that have begun here, in order."""
        file = self.path / "attempts"
        return file.read_text().split() if file.exists() else []

    def wait_for_attempt(self) -> None:
        wait_until(lambda: self.attempts, within=END_SECONDS, what="a training that begins")

    @property
    def children(self) -> list[int]:
        """The pids of what a training has started; empty until all is started."""
        file = self.path / "children"
        return [int(pid) for pid in file.read_text().split()] if file.exists() else []


@dataclass
class Trainings:
    """The trainings of a model, over HTTP. `segment` is "train", or "jobs"."""

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
        """Begin a training, and fail if it is refused; its uuid."""
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
        """Wait until it has one of these statuses, or has ended; the record then."""
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
    """The processes that run for a training: its keeper, its own, and what that has started."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            marked = process.environ().get("DEEPAAS_TRAINING_ID") == uuid
            if marked or any(uuid in word for word in process.cmdline()):
                found.append(process)
    return found


def keeper_of(uuid: str) -> psutil.Process:
    """The process that keeps a training."""
    (keeper,) = [one for one in of_training(uuid) if "import keeper" in " ".join(one.cmdline())]
    return keeper


def pid_of_work(uuid: str) -> int:
    """The process that does the work of a training: the child of its keeper."""
    (child,) = keeper_of(uuid).children()
    return child.pid


def kill_server(server: Server) -> None:
    """SIGKILL the server process alone, and wait until its workers have ended, too."""
    workers = [one for one in server.processes() if one.pid != server.pid]
    os.kill(server.pid, signal.SIGKILL)
    server.wait_end()
    gone = [one for one in workers if not _is_of_a_training(one)]
    wait_until(lambda: not any(map(_runs, gone)), within=10, what="the end of the workers")


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _is_of_a_training(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return "deepaas.training" in " ".join(process.cmdline())
    return False


@contextlib.contextmanager
def no_process_left(within: float = 10.0) -> Iterator[set[str]]:
    """A set for the uuids of trainings, of which no process must be left at the end of the block.

    They are killed if there are any.
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
