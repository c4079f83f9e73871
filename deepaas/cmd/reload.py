"""Reloads models at SIGHUP, and when a file of their code changes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator

from deepaas.exceptions import RequestError
from deepaas.serving.pool import Pool

logger = logging.getLogger("deepaas")

LOOK_SECONDS = 0.5
"""Interval of checks for changed files."""


class Reloads:
    """Reloads models in background tasks. Failures are logged."""

    def __init__(self, pools: list[Pool]) -> None:
        self._pools = pools
        self._tasks: set[asyncio.Task[None]] = set()

    def reload_all(self) -> None:
        """Start reloading every model."""
        for pool in self._pools:
            task = asyncio.create_task(reload(pool))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


async def reload(pool: Pool) -> None:
    logger.info("Reloading model %s", pool.name)
    try:
        await pool.reload()
    except RequestError as error:
        logger.warning("Model %s was not reloaded: %s", pool.name, error)


@contextlib.asynccontextmanager
async def watching(pools: list[Pool]) -> AsyncIterator[None]:
    """Reload each model when its code changes, while the block runs."""
    tasks = [asyncio.create_task(_watch(pool)) for pool in pools]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _watch(pool: Pool) -> None:
    await pool.status.was_ready.wait()  # its files are unknown before
    logger.info("Watching %d file(s) of model %s", len(pool.sources), pool.name)
    loaded = before = _stamps(pool.sources)
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        now = _stamps(pool.sources)
        if now != loaded and now == before:  # it has changed, and writing is over
            await reload(pool)
            loaded = now if now.keys() == set(pool.sources) else _stamps(pool.sources)
        before = now


def _stamps(paths: list[str]) -> dict[str, int]:
    """Return when each file was last modified, in ns; 0 for a missing file."""
    return {path: _stamp(path) for path in paths}


def _stamp(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
