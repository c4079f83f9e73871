"""The options as typed values: one frozen dataclass for each group.

The fields have the names of the options; `docs/options.md` explains them. Times are in seconds and
sizes in bytes unless an option says otherwise.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from deepaas.config.reading import Options


@dataclass(frozen=True)
class ServerSettings:
    """The addresses, endpoints and directories of the server, and how it stops."""

    listen_ip: str
    listen_port: int
    base_path: str
    predict_endpoint: bool
    train_endpoint: bool
    doc_endpoint: bool
    debug_endpoint: bool
    debug_size: int
    admin_endpoint: bool
    allow_origins: list[str]
    allow_hosts: list[str]
    trusted_proxies: list[str]
    middleware: list[str]
    routes: list[str]
    fast_path: bool
    server_timing: bool
    upload_dir: str
    drain_timeout: float
    stop_timeout: float


@dataclass(frozen=True)
class SignInSettings:
    """Whether clients have to sign in, and how."""

    auth: str
    token_file: str
    public_health: bool


@dataclass(frozen=True)
class ModelSettings:
    """How models are loaded, and how their workers run."""

    model_name: str
    workers: int
    worker_threads: int
    warm: bool
    start_timeout: float
    start_grace: float
    listen_early: bool
    restart_delay_max: int
    worker_max_requests: int
    worker_max_memory: int
    reload: bool


@dataclass(frozen=True)
class PredictionSettings:
    """The limits of predictions and of asynchronous predictions (jobs)."""

    queue_size: int
    predict_timeout: float
    cancel_running: bool
    max_batch_size: int
    max_batch_wait_ms: int
    max_concurrency: int
    stream_buffer: int
    max_jobs: int
    max_queued_jobs: int
    max_incoming_jobs: int
    result_ttl: float


@dataclass(frozen=True)
class TrainingSettings:
    """How trainings run, and where their records are kept."""

    state_dir: str
    weights_dir: str
    state_reserve: int
    state_lock_timeout: float
    max_trainings: int
    max_queued_trainings: int
    max_incoming_trainings: int
    train_warm: bool
    train_exclusive: bool
    train_exclusive_timeout: float
    reload_after_train: bool
    keep_trainings: bool
    train_nice: int
    cancel_timeout: float
    train_exit_timeout: float
    train_log_size: int
    train_metrics_size: int
    train_result_size: int
    training_ttl: float
    sweep_interval: float


@dataclass(frozen=True)
class CallbackSettings:
    """Which callbacks are sent, and how."""

    allow_callbacks: list[str]
    callback_secret_file: str
    callback_timeout: float
    callback_attempts: int
    max_callbacks: int
    max_callbacks_per_receiver: int


@dataclass(frozen=True)
class LimitSettings:
    """The limits for clients."""

    client_max_size: int
    client_max_decompressed: int
    client_max_json: int
    client_max_parts: int
    client_max_text: int
    client_max_line: int
    client_max_head: int
    max_heads_memory: int
    client_min_rate: int
    client_rate_window: float
    receive_timeout: float
    send_timeout: float
    max_unsent: int
    max_connections: int


@dataclass(frozen=True)
class MetricsSettings:
    """Whether there are metrics, and where. If `metrics` is None, prometheus-client decides."""

    metrics: bool | None
    metrics_port: int
    metrics_ip: str
    metrics_buckets: list[float]


@dataclass(frozen=True)
class LogSettings:
    """Which records are logged, and where."""

    debug: bool
    log_level: str
    log_file: str
    use_json: bool
    log_unknown_arguments: int
    access_log: bool


@dataclass(frozen=True)
class Settings:
    """All options of the server. `model` names the models that are not installed."""

    model: list[str]
    server: ServerSettings
    sign_in: SignInSettings
    models: ModelSettings
    predictions: PredictionSettings
    trainings: TrainingSettings
    callbacks: CallbackSettings
    limits: LimitSettings
    metrics: MetricsSettings
    log: LogSettings


def settings_of(options: Options) -> Settings:
    """Return the values of the options, by group."""
    groups = {
        "server": ServerSettings,
        "sign_in": SignInSettings,
        "models": ModelSettings,
        "predictions": PredictionSettings,
        "trainings": TrainingSettings,
        "callbacks": CallbackSettings,
        "limits": LimitSettings,
        "metrics": MetricsSettings,
        "log": LogSettings,
    }
    values: dict[str, Any] = {
        name: group(**{field.name: options[field.name] for field in dataclasses.fields(group)})
        for name, group in groups.items()
    }
    return Settings(model=options.model, **values)
