"""Identities of processes: a pid can be reused, a pid with its start time cannot."""

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
"""Retry this long to get a lock: a prober holds it briefly."""


def identity(pid: int) -> str:
    """Return the identity of the process with this pid; empty if there is no such process."""
    fields = stat_of(pid)
    return f"{pid}:{fields[19]}" if fields else ""


def is_alive(process: str) -> bool:
    """Return whether the process runs; a zombie does not."""
    pid, _, started = process.partition(":")
    fields = stat_of(int(pid or 0))
    return bool(fields) and fields[19] == started and fields[0] != "Z"


def pid_of(process: str) -> int:
    """Return the pid in an identity; 0 if that is empty."""
    return int(process.partition(":")[0] or 0)


def send_signal(process: str, signum: signal.Signals) -> bool:
    """Send a signal to exactly this process; return False if it has ended."""
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
    """Return the pids of the children of a process, of their children and so on, without
    zombies."""
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
    """Return the kernel's id of the current boot; empty if it cannot be read."""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()
    return ""


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock of a file while the block runs; yield False if another process holds it."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            is_mine = _lock(fd)
            if is_mine and not _is_same_file(fd, path):
                continue  # it was removed before it was locked
            yield is_mine
            return
        finally:
            os.close(fd)


def _is_same_file(fd: int, path: Path) -> bool:
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
    """Return whether a living process, in any container, holds the lock of a file.

    Also return True if that cannot be checked now, for example if too many files are open.
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
