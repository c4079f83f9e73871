"""Which process is meant: pids are used again, a pid with its start time is not."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from deepaas.processes import stat_of

LOCK_SECONDS = 2.0
"""How long a lock is tried for: whoever looks whether it is held has it for a moment."""


def identity(pid: int) -> str:
    """The process that has this pid now, as text; empty if there is none."""
    fields = stat_of(pid)
    return f"{pid}:{fields[19]}" if fields else ""


def is_alive(process: str) -> bool:
    """Whether the process runs; a zombie does not."""
    pid, _, started = process.partition(":")
    fields = stat_of(int(pid or 0))
    return bool(fields) and fields[19] == started and fields[0] != "Z"


def pid_of(process: str) -> int:
    """The pid in an identity; 0 if that is empty."""
    return int(process.partition(":")[0] or 0)


def send_signal(process: str, signum: signal.Signals) -> bool:
    """Send a signal to exactly this process; False if it has ended."""
    try:
        pidfd = os.pidfd_open(pid_of(process))
    except (OSError, ValueError):
        return False
    try:
        if not is_alive(process):
            return False
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signum)
            return True
        return False
    finally:
        os.close(pidfd)


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that these have, without zombies."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := stat_of(int(entry))) and fields[0] != "Z":
            children.setdefault(int(fields[1]), []).append(int(entry))
    found = []
    wanted = [pid]
    while wanted:
        more = children.get(wanted.pop(), [])
        found += more
        wanted += more
    return found


def boot_id() -> str:
    """A name for the time since the machine was started; empty if there is none."""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()
    return ""


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock of a file while the block runs; False if another process has it."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            is_mine = _lock(fd)
            if is_mine and not _is_in_place(fd, path):
                continue  # it was removed before it was locked
            yield is_mine
            return
        finally:
            os.close(fd)


def _is_in_place(fd: int, path: Path) -> bool:
    """Whether a path leads to this very file."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _lock(fd: int) -> bool:
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:  # noqa: PERF203
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock of a file, in whatever container it runs.

    True also if that cannot be found out now, as when too many files are open.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def server_lives(state: Path, server: str) -> bool:
    """Whether the server of this name is running on a state directory."""
    return is_locked(state / "servers" / server)
