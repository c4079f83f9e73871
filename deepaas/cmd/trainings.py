"""Trainings in the life of the server: what they are made with, and what they do to the workers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from deepaas import log
from deepaas.cmd.orphans import sweeping_servers
from deepaas.cmd.state import state_dir, weights_variables
from deepaas.exceptions import (
    ConfigurationError,
    NotReadyError,
    ReloadInProgressError,
    StorageError,
)
from deepaas.jobs.scheduler import TrainingOptions
from deepaas.jobs.service import JobService
from deepaas.jobs.spec import Limits
from deepaas.model.loading import ModelSource
from deepaas.serving.pool import Pool

if TYPE_CHECKING:
    from oslo_config.cfg import ConfigOpts

    from deepaas.api.callbacks import CallbackOptions

logger = logging.getLogger("deepaas")

SUSPENDED = "is being trained, and predicts again when that is over"
RETRY_SECONDS = 0.5


class Workers:
    """The workers of the models, as trainings see them; see `training.loaded_weights.Stage`."""

    def __init__(self, pools: Sequence[Pool], timeout: float) -> None:
        self._pools = {pool.name: pool for pool in pools}
        self._timeout = timeout

    async def clear(self, model: str) -> None:
        logger.info("The workers of model %s make room for a training", model)
        await self._pools[model].suspend(SUSPENDED, self._timeout)

    async def set(self, model: str) -> None:
        pool = self._pools[model]
        if not pool.status.is_draining:
            logger.info("The workers of model %s are started again", model)
        await pool.resume()

    async def renew(self, model: str) -> None:
        """Reload; what is being reloaded already may have read the old weights."""
        while True:
            with contextlib.suppress(ReloadInProgressError):
                with contextlib.suppress(NotReadyError):  # new ones come when it is ready again
                    await self._pools[model].reload()
                return
            await asyncio.sleep(RETRY_SECONDS)

    def oldest(self, model: str) -> float | None:
        return self._pools[model].oldest


async def open_trainings(
    conf: ConfigOpts,
    sources: Sequence[ModelSource],
    pools: Sequence[Pool],
    process: log.LogOptions,
    open_files: int,
) -> tuple[JobService | None, str]:
    """The trainings; or None, and why there can be none.

    Raises ConfigurationError if the state directory that was asked for cannot be used. Without the
    default one, models are served all the same.
    """
    if not (conf.train_endpoint or conf.predict_endpoint):
        return None, "they are switched off"
    workers = Workers(pools, conf.train_exclusive_timeout)
    try:
        directory = state_dir(conf)
        options = replace(
            options_of(conf, process, open_files),
            variables={source.name: weights_variables(conf, source) for source in sources},
        )
        service = JobService(directory, options, sources, workers)
        async with sweeping_servers(directory):
            await service.open()
    except StorageError as error:
        if conf.state_dir:
            raise ConfigurationError(str(error)) from None
        logger.warning("There can be no trainings: %s", error)
        return None, str(error)
    return service, ""


def options_of(conf: ConfigOpts, process: log.LogOptions, open_files: int) -> TrainingOptions:
    return TrainingOptions(
        at_once={"train": conf.max_trainings, "predict": conf.max_jobs},
        max_queued={"train": conf.max_queued_trainings, "predict": conf.max_queued_jobs},
        max_incoming={"train": conf.max_incoming_trainings, "predict": conf.max_incoming_jobs},
        warm={"train": conf.train_warm, "predict": conf.warm},
        kept={"train": conf.training_ttl, "predict": conf.result_ttl},
        sweep_seconds=conf.sweep_interval,
        reserve=conf.state_reserve,
        keep_running=conf.keep_trainings,
        exclusive=conf.train_exclusive,
        renew=conf.reload_after_train,
        log=process.as_dict(),
        open_files=open_files,
        limits=Limits(
            cancel_timeout=conf.cancel_timeout,
            exit_timeout=conf.train_exit_timeout,
            log_size=conf.train_log_size,
            reports_size=conf.train_metrics_size,
            result_size=conf.train_result_size,
            max_batch_size=conf.max_batch_size,
            nice=conf.train_nice,
        ),
    )


def callback_options(conf: ConfigOpts) -> CallbackOptions:
    """Raises ConfigurationError if the secret cannot be read."""
    from deepaas.api.callbacks import CallbackOptions, NoSecretError, read_secret

    hosts = frozenset(host.strip().lower() for host in conf.allow_callbacks if host.strip())
    if not hosts:
        return CallbackOptions()
    options = CallbackOptions(
        hosts=hosts,
        timeout=conf.callback_timeout,
        attempts=conf.callback_attempts,
        at_once=conf.max_callbacks,
        per_receiver=conf.max_callbacks_per_receiver,
    )
    if conf.callback_secret_file:
        return replace(options, secret=read_secret(Path(conf.callback_secret_file), make=False))
    try:
        path = state_dir(conf) / "callback.secret"
    except StorageError:  # there can be no trainings, as the log says
        return CallbackOptions()
    options = replace(options, secret_file=path)
    try:
        return replace(options, secret=read_secret(path, make=True))
    except NoSecretError as error:  # the disk may be full; it is tried again before it is needed
        logger.warning("Nothing can be called back now: %s", error)
        return options
