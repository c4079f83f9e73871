"""Opens the trainings of the server, and gives them control over the workers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from deepaas import log
from deepaas.cmd.options import training_options
from deepaas.cmd.orphans import sweeping_servers
from deepaas.cmd.state import state_dir
from deepaas.config.settings import Settings
from deepaas.events import Events
from deepaas.exceptions import (
    ConfigurationError,
    NotReadyError,
    ReloadInProgressError,
    StorageError,
)
from deepaas.jobs.service import JobService
from deepaas.model.loading import ModelSource
from deepaas.serving.pool import Pool

logger = logging.getLogger("deepaas")

SUSPENDED = "is being trained and predicts again after the training"
RETRY_SECONDS = 0.5


class Workers:
    """Stops, starts and replaces the workers; implements `jobs.loaded_weights.Stage`."""

    def __init__(self, pools: Sequence[Pool], timeout: float) -> None:
        self._pools = {pool.name: pool for pool in pools}
        self._timeout = timeout

    async def clear(self, model: str) -> None:
        logger.info("The workers of model %s are stopped for a training", model)
        await self._pools[model].suspend(SUSPENDED, self._timeout)

    async def set(self, model: str) -> None:
        pool = self._pools[model]
        if not pool.status.is_draining:
            logger.info("The workers of model %s are started again", model)
        await pool.resume()

    async def renew(self, model: str) -> None:
        """Reload the model. Wait for a reload in progress first: it may use the old weights."""
        while True:
            with contextlib.suppress(ReloadInProgressError):
                with contextlib.suppress(NotReadyError):  # it loads the new weights later
                    await self._pools[model].reload()
                return
            await asyncio.sleep(RETRY_SECONDS)

    def oldest(self, model: str) -> float | None:
        return self._pools[model].oldest


async def open_trainings(
    settings: Settings,
    sources: Sequence[ModelSource],
    pools: Sequence[Pool],
    process: log.LogOptions,
    open_files: int,
    events: Events,
) -> tuple[JobService | None, str]:
    """Open the state directory; return the service and "", or None and the reason.

    If the state directory cannot be used, raises ConfigurationError if --state-dir names it. If it
    is the default one, log a warning and return None.
    """
    if not (settings.server.train_endpoint or settings.server.predict_endpoint):
        return None, "they are switched off"
    workers = Workers(pools, settings.trainings.train_exclusive_timeout)
    try:
        directory = state_dir(settings.trainings)
        options = training_options(settings, sources, process.as_dict(), open_files)
        service = JobService(directory, options, sources, workers, events)
        async with sweeping_servers(directory):
            await service.open()
    except StorageError as error:
        if settings.trainings.state_dir:
            raise ConfigurationError(str(error)) from None
        logger.warning("Trainings are not possible: %s", error)
        return None, str(error)
    return service, ""
