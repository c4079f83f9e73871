"""Converts the settings to the options of each part of the server.

The HTTP modules are imported inside functions, so that the workers start before that import.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from deepaas.cmd.metrics import are_wanted
from deepaas.cmd.state import state_dir, weights_variables
from deepaas.cmd.threads import worker_variables
from deepaas.config.settings import Settings, SignInSettings
from deepaas.exceptions import ConfigurationError, StorageError
from deepaas.jobs.scheduler import TrainingOptions
from deepaas.jobs.spec import JobLimits
from deepaas.model.loading import ModelSource
from deepaas.protocol.messages import CallOptions
from deepaas.serving.options import PoolOptions, WorkerOptions

if TYPE_CHECKING:
    from deepaas.api import ApiSettings
    from deepaas.api.callbacks import CallbackOptions
    from deepaas.auth.plugins import Authenticator
    from deepaas.events import Events

logger = logging.getLogger("deepaas")

VARIABLE = "DEEPAAS_TOKENS"
"""The environment variable of `deepaas.auth.tokens`, which is imported only if it is needed."""


def pool_options(
    settings: Settings,
    source: ModelSource,
    log: dict[str, object],
    open_files: int,
    upload_dir: str,
) -> PoolOptions:
    """Return the options of a model.

    Its workers may open `open_files` descriptors, and set up their log from `log`.
    """
    models, predictions = settings.models, settings.predictions
    workers = WorkerOptions(
        workers=models.workers,
        warm=models.warm,
        max_requests=models.worker_max_requests,
        max_memory=models.worker_max_memory,
        start_timeout=models.start_timeout,
        restart_delay_max=models.restart_delay_max,
        stop_timeout=settings.server.stop_timeout,
        calls=CallOptions(
            max_batch_size=predictions.max_batch_size,
            max_batch_wait_ms=predictions.max_batch_wait_ms,
            max_concurrency=predictions.max_concurrency,
            stream_buffer=predictions.stream_buffer,
        ),
        log=log,
        open_files=open_files,
        result_dir=upload_dir,
        variables={
            **worker_variables(models.worker_threads, models.workers),
            **weights_variables(settings.trainings, source),
        },
    )
    return PoolOptions(
        queue_size=predictions.queue_size,
        predict_timeout=predictions.predict_timeout,
        cancel_running=predictions.cancel_running,
        spill_dir=upload_dir,
        worker_options=workers,
    )


def training_options(
    settings: Settings, sources: Sequence[ModelSource], log: dict[str, object], open_files: int
) -> TrainingOptions:
    """Return the options of trainings and of asynchronous predictions."""
    trainings, jobs = settings.trainings, settings.predictions
    return TrainingOptions(
        at_once={"train": trainings.max_trainings, "predict": jobs.max_jobs},
        max_queued={"train": trainings.max_queued_trainings, "predict": jobs.max_queued_jobs},
        max_incoming={"train": trainings.max_incoming_trainings, "predict": jobs.max_incoming_jobs},
        warm={"train": trainings.train_warm, "predict": settings.models.warm},
        kept={"train": trainings.training_ttl, "predict": jobs.result_ttl},
        sweep_seconds=trainings.sweep_interval,
        reserve=trainings.state_reserve,
        lock_timeout=trainings.state_lock_timeout,
        keep_running=trainings.keep_trainings,
        exclusive=trainings.train_exclusive,
        renew=trainings.reload_after_train,
        log=log,
        open_files=open_files,
        limits=JobLimits(
            cancel_timeout=trainings.cancel_timeout,
            exit_timeout=trainings.train_exit_timeout,
            log_size=trainings.train_log_size,
            reports_size=trainings.train_metrics_size,
            result_size=trainings.train_result_size,
            max_batch_size=jobs.max_batch_size,
            nice=trainings.train_nice,
        ),
        variables={source.name: weights_variables(trainings, source) for source in sources},
    )


def callback_options(settings: Settings) -> CallbackOptions:
    """Return the options of callbacks. Raises ConfigurationError for an unreadable secret file."""
    from deepaas.api.callbacks import CallbackOptions, NoSecretError, read_secret

    callbacks = settings.callbacks
    hosts = frozenset(host.strip().lower() for host in callbacks.allow_callbacks if host.strip())
    if not hosts:
        return CallbackOptions()
    options = CallbackOptions(
        hosts=hosts,
        timeout=callbacks.callback_timeout,
        attempts=callbacks.callback_attempts,
        at_once=callbacks.max_callbacks,
        per_receiver=callbacks.max_callbacks_per_receiver,
    )
    if given := callbacks.callback_secret_file:
        return replace(options, secret=read_secret(Path(given), make=False))
    try:
        path = state_dir(settings.trainings) / "callback.secret"
    except StorageError:  # `open_trainings` has logged it
        return CallbackOptions()
    options = replace(options, secret_file=path)
    try:
        return replace(options, secret=read_secret(path, make=True))
    except NoSecretError as error:  # the disk may be full; retried before the first callback
        logger.warning("Callbacks cannot be sent now: %s", error)
        return options


def open_sign_in(settings: SignInSettings, models: Iterable[str]) -> Authenticator | None:
    """Return what finds out which client sends a request, or None without a sign-in.

    Raises ConfigurationError. Tokens without --auth are an error: the operator expects a sign-in,
    but there would be none.
    """
    if not settings.auth:
        given = [settings.token_file and "--token-file", os.environ.get(VARIABLE) and VARIABLE]
        if names := " and ".join(filter(None, given)):
            raise ConfigurationError(
                f"{names} has tokens, but no sign-in is required; add --auth tokens"
            )
        return None
    from deepaas.auth.plugins import Options, load

    return load(settings.auth, Options(settings.token_file, frozenset(models)))


def api_settings(
    settings: Settings,
    upload_dir: str,
    callbacks: CallbackOptions,
    address: str,
    authenticator: Authenticator | None,
    models: Iterable[str],
    events: Events,
) -> ApiSettings:
    """Return the settings of the HTTP interface. `address` is the IP address that is bound.

    Raises ConfigurationError if a plug-in cannot be used, or if an origin, a host or a proxy is
    wrong.
    """
    from deepaas.api import ApiSettings
    from deepaas.http.body import BodyLimits
    from deepaas.http.cross_site import SiteRules
    from deepaas.http.forwarded import TrustedProxies
    from deepaas.http.kernel import KernelSettings
    from deepaas.http.plugins import Options, load_middleware, load_routes

    server, limits = settings.server, settings.limits
    base_path = "/" + server.base_path.strip("/")
    base_path = "" if base_path == "/" else base_path
    plugin_options = Options(base_path, frozenset(models), events)
    return ApiSettings(
        authenticator=authenticator,
        public_health=settings.sign_in.public_health,
        metrics=are_wanted(settings.metrics) and not settings.metrics.metrics_port,
        middleware=load_middleware(server.middleware, plugin_options),
        routes=load_routes(server.routes, plugin_options),
        base_path=base_path,
        predict=server.predict_endpoint,
        train=server.train_endpoint,
        doc=server.doc_endpoint,
        admin=server.admin_endpoint,
        server_timing=server.server_timing,
        kernel=KernelSettings(
            send_timeout=limits.send_timeout,
            max_unsent=limits.max_unsent,
            proxies=TrustedProxies.of(server.trusted_proxies),
            limits=BodyLimits(
                head=limits.client_max_head,
                heads_memory=limits.max_heads_memory,
                size=limits.client_max_size,
                decompressed=limits.client_max_decompressed,
                parts=limits.client_max_parts,
                text=limits.client_max_text,
                json=limits.client_max_json,
                rate=limits.client_min_rate,
                rate_window=limits.client_rate_window,
                receive_timeout=limits.receive_timeout,
                directory=upload_dir,
            ),
        ),
        log_unknown_arguments=settings.log.log_unknown_arguments,
        callback_hosts=callbacks.hosts,
        sites=SiteRules.of(server.allow_origins, server.allow_hosts, server.listen_ip, address),
    )
