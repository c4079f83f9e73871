"""Keepers, as the server sees them: those it has started, and those of a server before it."""

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
"""How long the end of processes that were killed is waited for."""


class SupervisorHandle:
    """The keeper of one training, whoever has started it."""

    def __init__(self, place: JobDirectory, process: subprocess.Popen[bytes] | None = None) -> None:
        self._place = place
        self._process = process
        self._began = time.monotonic()
        self.identity = identity.identity(process.pid) if process else ""

    @classmethod
    def start(cls, state: Path, spec: JobSpec) -> SupervisorHandle:
        """Start the keeper of a training. Raises StorageError if that is not possible."""
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
        """For how many seconds it has been there; None if a server before has started it."""
        return time.monotonic() - self._began if self._process is not None else None

    @property
    def lives(self) -> bool:
        """Whether the training has a keeper: this one, one of a server before, or elsewhere."""
        if self._process is not None and self._process.poll() is None:
            return True
        return identity.is_locked(self._place.lock)

    def tell(self, process: str, signum: signal.Signals) -> bool:
        """Send a signal to the process, which the record knows by this identity; False if it is not
        here."""
        return identity.send_signal(process or self.identity, signum)

    def last_words(self) -> str:
        """What it wrote before it failed, for people; may be empty."""
        with contextlib.suppress(OSError, IndexError):
            lines = self._place.supervisor_log.read_text(errors="replace").split("\n")
            return [line for line in lines if line.strip()][-1][:MOST_OF_A_REASON]
        return ""

    def disown(self) -> None:
        """Let the process go on when this one ends."""
        if self._process is not None:
            self._process.returncode = self._process.returncode or 0


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def reap(uuid: str) -> None:
    """Kill what is left of a training whose keeper was killed; return when it has ended."""
    killed = kill_marked(f"{ID}={uuid}\0")
    deadline = time.monotonic() + REAP_SECONDS
    while any(map(runs, killed)) and time.monotonic() < deadline:
        time.sleep(0.01)
