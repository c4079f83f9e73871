"""Servers that share a state directory and an upload directory, and all their processes.

Every process that they start has a mark in its environment, by which the cluster finds it.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from tests.serving.processes import health
from tests.support import UPLOAD_LOCK, Server, leased_port, wait_until

MARK = "CHAOS_MARK"
MODELS = {"echo": "zoo.busy:echo", "items": "zoo.busy:items"}
WORKERS = 2
ARGS = ("--workers", str(WORKERS), "--restart-delay-max", "1", "--max-trainings", "2")
EACH_WORKERS = {"socket": 4, "anon_inode": 1}
"""The descriptors that a server holds for each worker."""

ROLES = {
    "deepaas.guard.main import watch": "guard",
    "deepaas.worker import main": "worker",
    "deepaas.jobs.supervisor import": "supervisor",
    "deepaas.jobs.child import": "training",
}


@dataclass(frozen=True)
class Member:
    """A process, its role, and the training that it runs, if any."""

    process: psutil.Process
    role: str
    training: str


def _member(process: psutil.Process, mark: str) -> Member | None:
    with contextlib.suppress(psutil.Error, OSError):
        if process.status() == psutil.STATUS_ZOMBIE or process.environ().get(MARK) != mark:
            return None
        line = " ".join(process.cmdline())
        role = next((role for words, role in ROLES.items() if words in line), "other")
        found = re.search(r'"uuid": "([0-9a-f]{32})"', line)
        return Member(process, role, found[1] if found else "")
    return None


@dataclass
class Cluster:
    """The servers; a context manager.

    Records and uploads are in `directory`, or on `disk`. `killed` holds the trainings that had a
    process killed.
    """

    directory: Path
    size: int
    args: tuple[str, ...] = ()
    open_files: int = 0
    disk: Path | None = None
    killed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.mark = uuid.uuid4().hex
        self.directory.mkdir()
        self.state = (self.disk or self.directory) / "state"
        self.uploads = (self.disk or self.directory) / "uploads"
        self.uploads.mkdir()
        self._resources = contextlib.ExitStack()
        self._all: list[Server] = []
        self.servers: list[Server] = []

    def __enter__(self) -> Cluster:
        try:
            self.ports = [self._resources.enter_context(leased_port()) for _ in range(self.size)]
            self.servers = [self._new(port) for port in self.ports]
            for server in self.servers:
                server.start()
            self.wait_ready()
            self._at_start = own_descriptors(self.servers[0].pid)
        except BaseException:
            self._clear()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                for server in self.servers:
                    server.stop()
                wait_until(lambda: not self.members(), within=10, what="the end of all processes")
        finally:
            self._clear()

    def _clear(self) -> None:
        for server in self._all:
            server.kill()
        for member in self.members():
            with contextlib.suppress(psutil.NoSuchProcess):
                member.process.kill()
        self._resources.close()

    def _new(self, port: int) -> Server:
        paths = ("--state-dir", str(self.state), "--upload-dir", str(self.uploads))
        server = Server(
            MODELS,
            args=[*paths, *ARGS, *self.args],
            env={MARK: self.mark},
            port=port,
            open_files=self.open_files,
        )
        self._all.append(server)
        return server

    def replace(self, index: int) -> None:
        """Start another server on the same port in place of one that has ended."""
        self.servers[index].wait_end()
        self.servers[index] = self._new(self.ports[index]).start(wait=False)

    # --- processes and records

    def members(self) -> list[Member]:
        """Return all running processes of this cluster."""
        found = (_member(process, self.mark) for process in psutil.process_iter())
        return [one for one in found if one is not None]

    def strays(self) -> list[str]:
        """Describe zombies, processes that belong to no server, and processes of trainings."""
        own = {pid for server in self.servers for pid in _family(server.pid)}
        found = [f"a zombie: {pid}" for pid in own if _is_zombie(pid)]
        for one in self.members():
            if one.process.pid not in own or one.role in ("supervisor", "training"):
                with contextlib.suppress(psutil.Error):
                    found.append(f"{one.process.pid} {one.process.cmdline()}")
        return found

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the trainings, then the jobs, that the first server lists."""
        for segment in ("train", "jobs"):
            answer = self.servers[0].get(f"/v2/models/echo/{segment}/")
            assert answer.status_code == 200, answer.text
            for record in answer.json():
                yield {**record, "path": f"/v2/models/echo/{segment}/{record['uuid']}"}

    def wait_ready(self) -> None:
        """Wait until every server is ready and every model has all its workers."""
        for server in self.servers:
            server.wait_ready()
            wait_until(lambda: _is_complete(server), within=30, what="all workers")  # noqa: B023

    def log(self) -> str:
        """Return the last lines of the current servers' logs."""
        return "\n".join("\n".join(one.log().splitlines()[-30:]) for one in self.servers)

    # --- leftovers

    def check_nothing_left(self) -> None:
        """Check that only the processes, descriptors and files of idle servers are left."""
        left: list[str] = []

        def nothing() -> bool:
            left[:] = [*self.strays(), *self._files(), *self._descriptors()]
            return not left

        try:
            wait_until(nothing, within=20, what="that nothing is left")
        except AssertionError as error:
            raise AssertionError(f"{error}: {left}") from None

    def _files(self) -> Iterator[str]:
        directories = [path for path in self.uploads.iterdir() if path.is_dir()]
        if len(directories) != self.size:
            yield f"{len(directories)} upload directories: {directories}"
        for path in self.uploads.rglob("*"):
            if path.is_file() and path.name != UPLOAD_LOCK:
                yield f"an upload: {path}"
        locks = {path.name.split("-")[0] for path in (self.state / "servers").iterdir()}
        if locks != {str(server.pid) for server in self.servers}:
            yield f"locks of servers: {locks}"
        yield from (f"files of a training: {path}" for path in (self.state / "work").iterdir())
        yield from (f"a row: {row}" for row in self._rows())
        for server in self.servers:
            yield from (f"a temporary file: {path}" for path in server.temporary_files())

    def _rows(self) -> list[Any]:
        with contextlib.closing(sqlite3.connect(self.state / "trainings.db")) as db:
            return db.execute("SELECT uuid, status FROM records").fetchall()

    def _descriptors(self) -> Iterator[str]:
        """Describe the descriptors that a server holds beyond those it held at the start."""
        for server in self.servers:
            more = own_descriptors(server.pid) - self._at_start
            if more:
                yield f"descriptors of {server.pid}: {more}"


def own_descriptors(pid: int) -> Counter[str]:
    """Count a server's descriptors by kind, without those for its workers."""
    found = Counter(kinds_of_descriptors(pid))
    for _ in filter(_is_worker, _family(pid)):
        found.subtract(EACH_WORKERS)
    return found


def kinds_of_descriptors(pid: int) -> Counter[str]:
    """Count a process's descriptors by kind."""
    found: Counter[str] = Counter()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed after it was listed
            target = os.readlink(path)
            found["file" if target.startswith("/") else target.split(":")[0]] += 1
    return found


def _family(pid: int) -> list[int]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [pid, *(one.pid for one in psutil.Process(pid).children(recursive=True))]
    return []


def _is_zombie(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return False


def _is_worker(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return "deepaas.worker import main" in " ".join(psutil.Process(pid).cmdline())
    return False


def _is_complete(server: Server) -> bool:
    return all(len(health(server, model)["pids"]) == WORKERS for model in MODELS)
