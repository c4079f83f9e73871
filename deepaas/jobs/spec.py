"""How a training is to be run: what the server tells the keeper, and the keeper the process."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

ID = "DEEPAAS_TRAINING_ID"
"""The variable by which the processes of a training are known; its value is the uuid."""


@dataclass(frozen=True)
class JobLimits:
    """Bounds for one training or prediction; sizes in bytes, times in seconds."""

    cancel_timeout: float = 3  # between SIGTERM and SIGKILL
    exit_timeout: float = 30  # for the process to end after train has returned
    log_size: int = 100 * 1024 * 1024  # 0: no limit
    reports_size: int = 1024 * 1024
    result_size: int = 1024 * 1024
    max_batch_size: int = 0  # 0: as the model says
    nice: int = 0


@dataclass(frozen=True)
class JobSpec:
    """What to run: the function `kind` of the model at `target`, see `loading.ModelSource`."""

    uuid: str
    kind: str
    model: str
    target: str
    folder: str
    warm: bool = True
    log: Mapping[str, object] = field(default_factory=dict)
    open_files: int = 0  # what the process is limited to; 0: as it is
    limits: JobLimits = field(default_factory=JobLimits)
    variables: Mapping[str, str] = field(default_factory=dict)  # added to the environment

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> JobSpec:
        values = json.loads(text)
        return cls(**{**values, "limits": JobLimits(**values["limits"])})


class JobDirectory:
    """Where the files of one training lie."""

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
        self.supervisor_log = directory / "keeper.log"

    @classmethod
    def of(cls, state: Path, uuid: str) -> JobDirectory:
        """The one of a record in a state directory."""
        return cls(state / "work" / uuid)

    def make(self) -> None:
        """Make the directories, private to the user. Raises OSError."""
        self.directory.mkdir(mode=0o700, parents=True)
        for directory in (self.uploads, self.artifacts, self.log):
            directory.mkdir(mode=0o700)

    def clear(self) -> None:
        """Remove all files but those of the keeper, which may still be running."""
        for directory in (self.artifacts, self.uploads, self.log, self.model_log):
            shutil.rmtree(directory, ignore_errors=True)
        for path in (self.result, self.reports, self.call, self.arguments):
            with contextlib.suppress(OSError):
                path.unlink()
