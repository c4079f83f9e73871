"""Other processes: those with a mark in their environment, and what a signal is called.

The guard of a server imports this without any installed package, and is to stay small.
"""

from __future__ import annotations

import contextlib
import os
import signal

ROUNDS = 3
"""One that was forking when it was killed may have left a child, which is found the next time."""


def kill_marked(mark: str) -> None:
    """Kill the processes that have a variable in their environment whose `NAME=value` begins so.

    With "\\0" at its end the mark is the whole value.
    """
    wanted = f"\0{mark}".encode()
    for _ in range(ROUNDS):
        found = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
        marked = [pid for pid in found if wanted in _environment(pid)]
        for pid in marked:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not marked:
            return


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
