"""One worker slot of a pool: keeps a worker running, and replaces it by a newer one on demand."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from deepaas.serving.worker_handle import EndReason, StartError, WorkerHandle

logger = logging.getLogger("deepaas.serving")


class WorkerSlot:
    """Starts a worker when it has none. `settled` is set once one has been ready or has failed.

    `start` makes a worker. `seated` is called when one is ready, `vacated` when a newer one has
    replaced it, `failed` with the reason when one could not be started, and `waiting` with the
    seconds until the next start.
    """

    def __init__(
        self,
        name: str,
        *,
        start: Callable[[], WorkerHandle],
        seated: Callable[[WorkerHandle], None],
        vacated: Callable[[WorkerHandle], None],
        failed: Callable[[StartError], None],
        waiting: Callable[[float], None],
        start_timeout: float,
        restart_delay_max: float,
    ) -> None:
        self.name = name
        self.worker: WorkerHandle | None = None
        self.settled = asyncio.Event()
        self.retry_at = 0.0
        self._start = start
        self._seated = seated
        self._vacated = vacated
        self._failed = failed
        self._waiting = waiting
        self._start_timeout = start_timeout
        self._restart_delay_max = restart_delay_max
        self._failures = 0  # deaths in a row without a reply between them
        self._backing_off = False
        self._filling: asyncio.Task[None] | None = None
        self._stopped: set[asyncio.Task[None]] = set()  # cancelled tasks that have not ended

    @property
    def promising(self) -> bool:
        """Whether a worker runs or is being started."""
        return not self._backing_off

    def empty(self) -> None:
        """Forget the worker, without ending it, and start none until `refill`. Set `settled`."""
        self._stop_filling()
        self.worker = None
        self.retry_at = 0.0
        self._failures = 0
        self.settled.set()

    def refill(self) -> None:
        """Start a worker after `empty`, and clear `settled`."""
        self.settled.clear()
        self.fill()

    def fill(self) -> None:
        """Start a worker; after two failures in a row, only after a delay."""
        self._filling = asyncio.create_task(self._fill(), name=self.name)

    def release(self, worker: WorkerHandle) -> None:
        """Start another worker if `worker`, which is about to end, is in this slot."""
        if worker is self.worker:
            self.worker = None
            self.fill()

    def lost(self, worker: WorkerHandle) -> None:
        """Handle the end of a worker: start its successor if it was in this slot."""
        if worker is not self.worker:
            return
        self.worker = None
        if worker.answered:
            self._failures = 0
        if not worker.end_reason and not worker.died_alone:
            self._failures += 1
        self.fill()

    async def replace(self) -> None:
        """Replace the worker by a newly started one.

        Raises StartError if the new one does not become ready; then the old one stays.
        """
        new = await self._launch()
        self._stop_filling()
        old = self.worker
        self._seat(new)
        if old is not None:
            self._vacated(old)

    async def close(self) -> None:
        """Start no more workers, and set `settled`."""
        self._stop_filling()
        self.settled.set()
        if self._stopped:
            await asyncio.wait(set(self._stopped))

    def _stop_filling(self) -> None:
        if self._filling is not None:
            self._stopped.add(self._filling)
            self._filling.add_done_callback(self._stopped.discard)
            self._filling.cancel()
            self._filling = None
            self._backing_off = False

    async def _fill(self) -> None:
        try:
            while True:
                if self._failures > 1:
                    await self._back_off()
                try:
                    worker = await self._launch()
                    break
                except StartError as error:
                    if not self._is_wanted:  # the task was cancelled during the failed start
                        return
                    self._failures = max(1, self._failures) + 1  # delay the next try
                    self._failed(error)
                    self.settled.set()
            self._seat(worker)
        finally:
            if self._is_wanted:
                self._backing_off = False

    @property
    def _is_wanted(self) -> bool:
        """Whether this task, which fills the slot, has not been stopped or replaced."""
        return self._filling is asyncio.current_task()

    def _seat(self, worker: WorkerHandle) -> None:
        self.worker = worker
        self.settled.set()
        seconds = worker.seconds_to_ready
        logger.debug("Worker %s (pid %d) ready in %.2f s", worker.name, worker.pid, seconds)
        self._seated(worker)

    async def _launch(self) -> WorkerHandle:
        return await launch(self._start, self._start_timeout)

    async def _back_off(self) -> None:
        delay = min(self._restart_delay_max, 0.5 * 2 ** min(self._failures - 2, 30))
        loop = asyncio.get_running_loop()
        self.retry_at = loop.time() + delay
        self._backing_off = True
        self._waiting(delay)
        await asyncio.sleep(delay)
        self._backing_off = False


async def launch(
    start: Callable[[], WorkerHandle], timeout: float, option: str = "--start-timeout"
) -> WorkerHandle:
    """Start a worker and wait until it is ready, at most `timeout` seconds; 0 means no limit.

    Raises StartError after the worker has ended. A message about the limit names its `option`.
    """
    try:
        worker = start()
    except OSError as error:
        raise StartError(f"could not be started: {error}") from None
    try:
        # Not wait_for, which may ignore a cancellation.
        done, _ = await asyncio.wait([worker.ready], timeout=timeout or None)
        if not done:
            phase = f"it was still {worker.phase}"
            raise StartError(f"was not ready in {timeout:g} s ({option}); {phase}")
        worker.ready.result()
        if worker.exited.done():
            raise StartError(f"{worker.exited.result()} as soon as it was ready")
        if worker.end_reason:
            raise StartError(f"had to end as soon as it was ready: it {worker.end_reason}")
    except BaseException:
        worker.end_reason = worker.end_reason or EndReason.NOT_READY
        worker.kill()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(worker.exited)
        raise
    return worker
