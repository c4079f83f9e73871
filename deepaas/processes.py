"""Other processes: those with a mark in their environment, parents, and what a signal is called.

The guard of a server imports this without any installed package, and is to stay small.
"""

from __future__ import annotations

import contextlib
import os
import signal

ROUNDS = 3
"""One that was forking when it was killed may have left a child, which is found the next time."""

PR_SET_PDEATHSIG = 1

own_children: set[int] = set()
"""The children of this process that it reaps itself."""


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; `parent` is the parent's pid.

    The kernel does so when the *thread* that has started this process ends. If the parent has ended
    already, this process ends at once.
    """
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def kill_marked(mark: str) -> set[int]:
    """Kill the processes that have a variable in their environment whose `NAME=value` begins so.

    With "\\0" at its end the mark is the whole value. The result has the pids of these processes,
    some of which may take a moment to end.
    """
    wanted = f"\0{mark}".encode()
    killed: set[int] = set()
    for _ in range(ROUNDS):
        found = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
        marked = [pid for pid in found if wanted in _environment(pid)]
        for pid in marked:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        if not marked:
            break
    return killed


def _environment(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return b"\0" + file.read()
    except OSError:  # it has ended, or is someone else's
        return b""


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def how_it_ended(returncode: int) -> str:
    """How a process ended, for people."""
    if returncode >= 0:
        return f"exited with code {returncode}"
    return f"was ended by signal {-returncode} ({signal_name(-returncode)})"


def zombies() -> dict[int, int]:
    """The children of this process that have ended, but have not been reaped; their sessions."""
    parent = str(os.getpid())
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            fields = stat_of(int(entry))
            if fields and fields[0] == "Z" and fields[1] == parent:
                found[int(entry)] = int(fields[3])
    return found


def runs(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    fields = stat_of(pid)
    return bool(fields) and fields[0] not in "ZX"


def stat_of(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the state on; empty if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as file:  # a name may be no text
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []
