"""Loads the models when the server starts, logs the progress, and says when the port may open."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import deepaas
from deepaas.exceptions import NoModelError
from deepaas.serving.pool import Pool

logger = logging.getLogger("deepaas")

TELL_SECONDS = 5.0
"""Interval of log lines about models that are still loading."""

_BANNER = """
  DEEPaaS {version} {what}

    to try it in a browser   {url}/api
    its description          {url}/openapi.json
    its models               {url}/v2/models/
"""


class Loading:
    """Loads all models concurrently.

    `may_open` is set when the port may open: when each model is ready or has failed; `grace`
    seconds after the first model is ready; or at once, if `early` is True. `has_failed` is set when
    all models have failed.
    """

    def __init__(self, pools: Sequence[Pool], *, grace: float, early: bool) -> None:
        self.may_open = asyncio.Event()
        self.has_failed = asyncio.Event()
        self._pools = pools
        self._grace = grace
        self._loop = asyncio.get_running_loop()
        for pool in pools:
            pool.is_quiet = True
        if early:
            self.may_open.set()
        self._starts = [asyncio.create_task(pool.start()) for pool in pools]
        self._starting = asyncio.gather(*self._starts)
        self._starting.add_done_callback(self._all_have_settled)
        self._others = [asyncio.create_task(self._log_progress())]
        for pool, start in zip(pools, self._starts, strict=True):
            self._others.append(asyncio.create_task(self._wait_for(pool, start)))

    def raise_if_failed(self) -> None:
        """Raise NoModelError if none of the models can be served."""
        if self._starting.done():
            self._starting.result()
        if self.has_failed.is_set():
            names = ", ".join(pool.name for pool in self._pools)
            raise NoModelError(f"none of the models can be served ({names}); the log says why")

    def opened(self) -> None:
        """Log which models are suspended or have failed, and when loading is retried.

        Call this when the port is open.
        """
        for pool in self._pools:
            pool.is_quiet = False
            if pool.status.is_suspended:
                logger.info("Model %s %s", pool.name, pool.status.problem)
            if _has_failed(pool):
                when = f"in {pool.status.retries_in:.1f} s" if pool.status.retries_in else "now"
                logger.warning("Model %s is not served; loading is retried %s", pool.name, when)

    async def close(self) -> None:
        """Cancel all tasks."""
        self._starting.cancel()
        tasks = [*self._starts, *self._others]
        for task in tasks:
            task.cancel()
        await asyncio.gather(self._starting, *tasks, return_exceptions=True)

    def _all_have_settled(self, starting: asyncio.Future[list[None]]) -> None:
        if starting.cancelled():
            return
        if starting.exception() is None and all(map(_has_failed, self._pools)):
            self.has_failed.set()
        self.may_open.set()

    async def _wait_for(self, pool: Pool, start: asyncio.Task[None]) -> None:
        """Log the functions of a model once it is ready, even if it has failed before."""
        await pool.status.was_ready.wait()
        if not self.may_open.is_set():
            self._loop.call_later(self._grace, self.may_open.set)
        await asyncio.wait([start])  # until its other workers are ready too
        _log_functions(pool)

    async def _log_progress(self) -> None:
        """Log at once, and every few seconds, which models are loading and in which phase."""
        while not self._starting.done():
            phases = [
                f"{pool.name} ({pool.status.phase}, {pool.status.seconds_so_far:.0f} s so far)"
                for pool in self._pools
                if pool.status.phase
            ]
            if phases:
                logger.info("Loading %s", ", ".join(phases))
            await asyncio.sleep(TELL_SECONDS)


def _has_failed(pool: Pool) -> bool:
    return not (pool.status.was_ready.is_set() or pool.status.is_suspended or pool.status.phase)


def banner(pools: Sequence[Pool], url: str) -> str:
    """Return the text for standard output: which models are served at `url`, and which not."""
    serves = [pool.name for pool in pools if pool.status.is_ready]
    parts = [f"serves {', '.join(serves)}" if serves else "serves no model yet"]
    loading = [f"{pool.name} ({pool.status.phase})" for pool in pools if pool.status.phase]
    if loading:
        parts.append(f"still loading: {', '.join(loading)}")
    suspended = [pool.name for pool in pools if pool.status.is_suspended]
    if suspended:
        parts.append(f"being trained: {', '.join(suspended)}")
    failed = [pool.name for pool in pools if _has_failed(pool)]
    if failed:
        parts.append(f"not served (the log says why): {', '.join(failed)}")
    what = "\n    ".join(parts)
    return _BANNER.format(version=deepaas.__version__, what=what, url=url)


def _log_functions(pool: Pool) -> None:
    """Log the functions of a model, and how long it took to be ready."""
    can = list(pool.description["has"])
    if "predict" in can:
        names = [argument["name"] for argument in pool.description["predict"]["arguments"]]
        can[can.index("predict")] = f"predict({', '.join(names)})"
    logger.info(
        "Model %s (%s) ready in %.2f s with %d worker(s): %s",
        pool.name,
        pool.source.target,
        pool.seconds_to_ready,
        pool.options.worker_options.workers,
        ", ".join(can) or "nothing to call",
    )
