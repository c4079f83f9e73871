"""Note when a training's weights are in use: every worker that predicts was loaded after it."""

from __future__ import annotations

import logging
import time
from typing import Protocol

from deepaas.exceptions import ReloadFailedError
from deepaas.jobs.state import State
from deepaas.jobs.store import Record

logger = logging.getLogger("deepaas.training")


class Stage(Protocol):
    """The workers of the models, which trainings stop, start and replace."""

    async def clear(self, model: str) -> None:
        """End the workers of a model; return when they have ended."""

    async def set(self, model: str) -> None:
        """Start the workers of a model again."""

    async def renew(self, model: str) -> None:
        """Replace the workers of a model by newly loaded ones. Raises ReloadFailedError if that
        fails."""

    def oldest(self, model: str) -> float | None:
        """Return when the oldest worker that predicts was started, by `time.monotonic`.

        Return None if no worker predicts.
        """


class Weights:
    """Notes in the records of trainings when their weights were loaded, or why they were not."""

    def __init__(self, state: State, stage: Stage) -> None:
        self._state = state
        self._stage = stage
        self._expected: dict[str, dict[str, float]] = {}  # by model and uuid: since when
        self._oldest: dict[str, float] = {}  # by model: the oldest worker's start

    def expect(self, record: Record) -> None:
        """Watch for workers that have loaded the weights of a training that has ended."""
        self._expected.setdefault(record.model, {})[record.uuid] = time.monotonic()

    async def renew(self, record: Record) -> None:
        """Replace the workers so that they load the weights of a training."""
        try:
            await self._stage.renew(record.model)
        except ReloadFailedError as error:
            logger.error("%s", error)
            await self.note_problem(record, str(error))

    async def note_problem(self, record: Record, problem: str) -> None:
        """Note why the weights were not loaded. A later worker may still load them."""
        store = self._state.store

        def note() -> None:
            store.note_weights(record.uuid, None, problem)

        await self._state.do(store.write_with_reserve, note)

    async def look(self) -> None:
        """Note which weights all workers that take calls have loaded."""
        for model in list(self._expected):
            oldest = self._stage.oldest(model)
            if oldest is not None and oldest != self._oldest.get(model):
                await self._note_loaded(model, oldest)
                self._oldest[model] = oldest

    async def _note_loaded(self, model: str, oldest: float) -> None:
        expected = self._expected[model]
        for uuid in [uuid for uuid, since in expected.items() if since < oldest]:
            await self._state.do(self._state.store.note_weights, uuid, time.time())
            del expected[uuid]
            logger.info("Model %s answers with the weights of %s from now on", model, uuid)
