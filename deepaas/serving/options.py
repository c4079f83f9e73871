"""Options of a model's workers and limits of its calls."""

from __future__ import annotations

from dataclasses import dataclass, field

from deepaas.protocol.messages import CallOptions


@dataclass(frozen=True)
class WorkerOptions:
    """How the workers of a model are started and ended. Times in seconds; 0 means no limit."""

    workers: int = 1
    warm: bool = True
    max_requests: int = 0
    max_memory: int = 0  # MB
    start_timeout: float = 3600
    restart_delay_max: float = 60
    stop_timeout: float = 5
    calls: CallOptions = field(default_factory=CallOptions)
    log: dict[str, object] = field(default_factory=dict)
    result_dir: str = ""  # for large results; empty: the system's directory for temporary files
    open_files: int = 0  # limit of open files of the process; 0: that of the server
    variables: dict[str, str] = field(default_factory=dict)  # added to the environment


@dataclass(frozen=True)
class PoolOptions:
    """The limits of the calls of a model. A timeout of 0 seconds means no limit."""

    queue_size: int = 1000
    predict_timeout: float = 0
    cancel_running: bool = False
    spill_dir: str = ""
    worker_options: WorkerOptions = field(default_factory=WorkerOptions)
