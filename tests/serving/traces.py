"""The resources of a server, to check that it holds no more of them afterwards."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support import Server, wait_until


@dataclass
class Traces:
    """The server's descriptors by kind, its number of processes, and its temporary files."""

    descriptors: Counter[str]
    processes: int
    files: list[str]


def traces(server: Server) -> Traces:
    """Wait until the server has no connection, and return its resources."""
    wait_until(lambda: not _connections(server), within=10, what="the end of the connections")
    return _traces(server)


def _connections(server: Server) -> int:
    found = psutil.Process(server.pid).net_connections("tcp")
    return len([one for one in found if one.status != psutil.CONN_LISTEN])


def _traces(server: Server) -> Traces:
    directory = Path(f"/proc/{server.pid}/fd")
    kinds = Counter(_kind(path) for path in directory.iterdir())
    temporary = sorted(path.name for path in (server.home / "tmp").rglob("*"))
    return Traces(kinds, len(server.processes()), temporary)


def _kind(path: Path) -> str:
    """Return the target of a descriptor without its inode number."""
    try:
        return os.readlink(path).split(":[")[0]
    except FileNotFoundError:
        return "closed meanwhile"


def wait_for_traces(server: Server, wanted: Traces, *, within: float = 10) -> None:
    """Wait until the server has exactly these resources."""
    found = [wanted]

    def same() -> bool:
        found[0] = _traces(server)
        return found[0] == wanted

    try:
        wait_until(same, within=within, what="an end to what was opened")
    except AssertionError as error:
        raise AssertionError(f"{error}: {found[0]}, not {wanted}") from None


def seconds_of_work(server: Server, *, workers: bool = False) -> float:
    """Return the CPU seconds that the server's process has used. Other load does not increase them.

    With `workers`, this is the sum over all its processes.
    """
    counted = server.processes() if workers else [psutil.Process(server.pid)]
    times = [process.cpu_times() for process in counted]
    return sum(one.user + one.system for one in times)


def memory(server: Server) -> int:
    """Return the resident memory of the server's process in bytes."""
    return int(psutil.Process(server.pid).memory_info().rss)
