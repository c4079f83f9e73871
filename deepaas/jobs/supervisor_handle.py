"""The server's handles of supervisor processes, including those that an earlier server started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

from deepaas.exceptions import DiskFullError, StorageError
from deepaas.jobs import identity
from deepaas.jobs.commands import command
from deepaas.jobs.reserve import FULL
from deepaas.jobs.spec import ID, JobDirectory, JobSpec
from deepaas.processes import kill_marked, runs

MOST_OF_A_REASON = 400

REAP_SECONDS = 5.0
"""How long to wait for killed processes to end."""


class SupervisorHandle:
    """The supervisor process of one training, started by this server or by another."""

    def __init__(self, place: JobDirectory, process: subprocess.Popen[bytes] | None = None) -> None:
        self._place = place
        self._process = process
        self._began = time.monotonic()
        self.identity = identity.identity(process.pid) if process else ""

    @classmethod
    def start(cls, state: Path, spec: JobSpec) -> SupervisorHandle:
        """Start the supervisor process of a training. Raises StorageError if that fails."""
        place = JobDirectory.of(state, spec.uuid)
        try:
            with open(place.supervisor_log, "ab", opener=_private) as errors:
                process = subprocess.Popen(
                    command("supervisor", str(state), spec.to_json()),
                    stdin=subprocess.DEVNULL,
                    stdout=errors,
                    stderr=errors,
                    start_new_session=True,
                )
        except OSError as error:
            kind = DiskFullError if error.errno in FULL else StorageError
            raise kind(f"The training could not be started: {error}") from error
        return cls(place, process)

    @property
    def age(self) -> float | None:
        """For how many seconds it has run; None if another server has started it."""
        return time.monotonic() - self._began if self._process is not None else None

    @property
    def lives(self) -> bool:
        """Whether the training has a supervisor process, in this container or another."""
        if self._process is not None and self._process.poll() is None:
            return True
        return identity.is_locked(self._place.lock)

    def tell(self, process: str, signum: signal.Signals) -> bool:
        """Send a signal to the process with this identity, which comes from the record.

        If the identity is empty, signal the process that this handle started. Return False if no
        such process runs here.
        """
        return identity.send_signal(process or self.identity, signum)

    def last_words(self) -> str:
        """Return the last line that it wrote before it failed; may be empty."""
        with contextlib.suppress(OSError, IndexError):
            lines = self._place.supervisor_log.read_text(errors="replace").split("\n")
            return [line for line in lines if line.strip()][-1][:MOST_OF_A_REASON]
        return ""

    def disown(self) -> None:
        """Let the process continue when this one exits."""
        if self._process is not None:
            self._process.returncode = self._process.returncode or 0


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def reap(uuid: str) -> None:
    """Kill the processes of a training whose supervisor process has died; return when they have
    ended."""
    killed = kill_marked(f"{ID}={uuid}\0")
    deadline = time.monotonic() + REAP_SECONDS
    while any(map(runs, killed)) and time.monotonic() < deadline:
        time.sleep(0.01)
