"""The parameters of a job, passed from the server to the supervisor process and on to the child."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

ID = "DEEPAAS_TRAINING_ID"
"""The environment variable that marks the processes of a job; its value is the uuid."""


@dataclass(frozen=True)
class JobLimits:
    """Bounds for one training or prediction; sizes in bytes, times in seconds."""

    cancel_timeout: float = 3  # between SIGTERM and SIGKILL
    exit_timeout: float = 30  # for the process to end after train has returned
    log_size: int = 100 * 1024 * 1024  # 0: no limit
    reports_size: int = 1024 * 1024
    result_size: int = 1024 * 1024
    max_batch_size: int = 0  # 0: the model's value
    nice: int = 0


@dataclass(frozen=True)
class JobSpec:
    """A job: it calls the function `kind` of the model at `target`, see `loading.ModelSource`."""

    uuid: str
    kind: str
    model: str
    target: str
    folder: str
    warm: bool = True
    log: Mapping[str, object] = field(default_factory=dict)
    open_files: int = 0  # limit of open files of the process; 0: unchanged
    limits: JobLimits = field(default_factory=JobLimits)
    variables: Mapping[str, str] = field(default_factory=dict)  # added to the environment
    request_id: str = ""  # of the request that made the job; "" if it is not known

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> JobSpec:
        values = json.loads(text)
        return cls(**{**values, "limits": JobLimits(**values["limits"])})


class JobDirectory:
    """The paths of the files of one job."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.uploads = directory / "uploads"
        self.artifacts = directory / "artifacts"
        self.log = directory / "log"
        self.model_log = directory / "model-log"
        self.call = directory / "call"
        self.arguments = directory / "arguments"
        self.reports = directory / "reports.jsonl"
        self.result = directory / "result"
        self.lock = directory / "lock"
        self.supervisor_log = directory / "supervisor.log"
        self.cancelled = directory / "cancelled"

    @classmethod
    def of(cls, state: Path, uuid: str) -> JobDirectory:
        """Return the directory of a record in a state directory."""
        return cls(state / "work" / uuid)

    def make(self) -> None:
        """Create the directories, private to the user. Raises OSError."""
        self.directory.mkdir(mode=0o700, parents=True)
        for directory in (self.uploads, self.artifacts, self.log):
            directory.mkdir(mode=0o700)

    def mark_cancelled(self) -> None:
        """Note that the job is being cancelled, where that cannot be written to its record."""
        with contextlib.suppress(OSError):
            self.cancelled.touch(mode=0o600)

    def clear(self) -> None:
        """Remove all files except those of the supervisor process, which may still run."""
        for directory in (self.artifacts, self.uploads, self.log, self.model_log):
            shutil.rmtree(directory, ignore_errors=True)
        for path in (self.result, self.reports, self.call, self.arguments):
            with contextlib.suppress(OSError):
                path.unlink()
