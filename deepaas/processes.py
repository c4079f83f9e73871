"""Functions for other processes: kill marked processes, read their state, name signals.

The guard process imports this module without any installed package, so it must stay small.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

ROUNDS = 3
"""A process that was forking when it was killed may leave a child; the next round finds it."""

STARTING_SECONDS = 1.0
"""How long `kill_marked` waits for processes whose environment cannot be read yet."""

PR_SET_PDEATHSIG = 1

PAGE = os.sysconf("SC_PAGE_SIZE")

own_children: set[int] = set()
"""The children of this process that it reaps itself; the general reaper skips them."""


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; `parent` is the parent's pid.

    The kernel does so when the *thread* that started this process ends. If the parent has already
    ended, this process exits immediately.
    """
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def resident_memory(pid: int) -> int:
    """Return the resident memory of a process in bytes; 0 if it has ended."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


def kill_marked(mark: str) -> set[int]:
    """Kill the processes with an environment variable whose `NAME=value` starts with `mark`.

    If `mark` ends with "\\0", the whole value must match. Return the pids of the killed processes;
    some of them may still run for a moment.
    """
    wanted = f"\0{mark}".encode()
    killed: set[int] = set()
    rounds = ROUNDS
    until = time.monotonic() + STARTING_SECONDS
    while rounds:
        found = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
        environments = {pid: _environment(pid) for pid in found}
        marked = [pid for pid, environment in environments.items() if wanted in environment]
        for pid in marked:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        if marked:
            rounds -= 1
            continue
        empty = [pid for pid, environment in environments.items() if environment == b"\0"]
        if not any(map(is_starting, empty)) or time.monotonic() > until:
            break
        time.sleep(0.001)
    return killed


def is_starting(pid: int) -> bool:
    """Return whether a process has begun to run a program whose environment is not set up yet.

    Its parent may already see that the program runs.
    """
    fields = stat_of(pid)
    if len(fields) <= _ENV_END or fields[0] in "ZX":
        return False
    return fields[_SIZE] != "0" and fields[_ENV_END] == "0"  # kernel threads have no memory


_SIZE, _ENV_END = 20, 48
"""The numbers of vsize and env_end in `stat_of`; see proc_pid_stat(5)."""


def _environment(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return b"\0" + file.read()
    except OSError:  # it has ended, or belongs to another user
        return b""


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def how_it_ended(returncode: int) -> str:
    """Return a text that says how a process ended."""
    if returncode >= 0:
        return f"exited with code {returncode}"
    return f"was ended by signal {-returncode} ({signal_name(-returncode)})"


def zombies() -> dict[int, int]:
    """Return the children that have ended but have not been reaped: pid -> session id."""
    parent = str(os.getpid())
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            fields = stat_of(int(entry))
            if fields and fields[0] == "Z" and fields[1] == parent:
                found[int(entry)] = int(fields[3])
    return found


def runs(pid: int) -> bool:
    """Return whether the process exists and has not ended."""
    fields = stat_of(pid)
    return bool(fields) and fields[0] not in "ZX"


def stat_of(pid: int) -> list[str]:
    """Return the fields of /proc/<pid>/stat from the state on; [] if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as file:  # names may not be UTF-8
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []
