"""One served model: its calls, its workers, and its start, reload and stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

from deepaas.events import Events
from deepaas.exceptions import (
    NotReadyError,
    PredictTimeoutError,
    ReloadFailedError,
    ReloadInProgressError,
    StoppingError,
    WorkerDiedError,
)
from deepaas.model.loading import ModelSource
from deepaas.model.v2.exchange import Call, Reply
from deepaas.protocol import messages
from deepaas.serving.dispatcher import Dispatcher
from deepaas.serving.guard import Guard
from deepaas.serving.options import PoolOptions
from deepaas.serving.prediction import Validation
from deepaas.serving.status import ModelStatus
from deepaas.serving.validation_worker import ValidationWorker
from deepaas.serving.worker_handle import EndReason, StartError, WorkerHandle
from deepaas.serving.worker_supervisor import WorkerSupervisor

logger = logging.getLogger("deepaas.serving")

VALIDATE_SECONDS = 1.0
"""Seconds that the workers have to validate arguments; then the validation worker does it."""


class Pool:
    """A served model.

    `description` is the model's description, once a worker has been ready. `reload_problem` is why
    the last reload failed, or empty. While `is_quiet`, restarts are not logged, as the server may
    yet exit.
    """

    def __init__(
        self,
        source: ModelSource,
        options: PoolOptions,
        guard: Guard,
        on_output: Callable[[bytes], None] | None = None,
        events: Events | None = None,
    ) -> None:
        self.name = source.name
        self.source = source
        self.options = options
        self.description: dict[str, Any] = {}
        self.headers: list[str] = []  # those that arguments of predict come from
        self.train_headers: list[str] = []
        self.is_quiet = False
        self.seconds_to_ready = 0.0
        self.reload_problem = ""
        self._supervisor = WorkerSupervisor(
            source, options.worker_options, guard, self, events or Events(), on_output
        )
        self._ready = self._supervisor.ready
        self.status = ModelStatus(self.name, self._supervisor)
        self.dispatcher = Dispatcher(self.name, options, self._supervisor, self.status)
        self.on_room = self.dispatcher.on_room
        self._validation = ValidationWorker(
            self.name,
            self._supervisor.new_validation_worker,
            options.worker_options,
            options.spill_dir,
        )
        self._loop = asyncio.get_running_loop()
        self._logged: list[str] = []  # the last reason why a worker could not be started
        self._is_repeated = False  # whether the last failure had the same reason as before
        self._mistakes: list[str] = []  # the mistakes in the model's code that were logged
        self._reloading = False

    def __repr__(self) -> str:
        return f"<Pool {self.name}: {len(self._ready)} workers ready, {self.calls} calls>"

    @property
    def pids(self) -> list[int]:
        """The pids of the workers that are ready."""
        return [worker.pid for worker in self._ready]

    @property
    def workers(self) -> list[WorkerHandle]:
        """The workers whose processes have not ended."""
        return list(self._supervisor.workers)

    @property
    def oldest(self) -> float | None:
        """When the oldest of the ready workers was started (`time.monotonic`); None if none is
        ready."""
        return min((worker.began for worker in self._ready), default=None)

    @property
    def calls(self) -> int:
        """The number of accepted calls that have not ended."""
        return self.dispatcher.calls

    @property
    def sources(self) -> list[str]:
        """The files of the model's code."""
        return list(self.description.get("sources", []))

    # --- start and stop

    async def start(self) -> None:
        """Start the workers; return when each is ready or has failed once.

        A suspended model gets no workers; a validation worker is asked for the description.
        """
        self.status.began = self._loop.time()
        await self._supervisor.start()
        if self.status.suspended and not self.description:
            await self._ask_for_description()

    async def _ask_for_description(self) -> None:
        try:
            description = await self._validation.describe()
        except NotReadyError:  # the log says why, unless the server stops
            return
        if not self.description:  # it may have been resumed meanwhile
            self._describe(description)

    def drain(self) -> None:
        """Mark the model as draining: calls of new requests are refused, those received before are
        not."""
        self.status.is_draining = True
        self.status.reason = "is being stopped"

    async def stop(self) -> None:
        """End the workers and fail the calls that they have not answered."""
        self.drain()
        self.status.has_stopped = True
        self.dispatcher.close(
            StoppingError(f"The server stopped before model {self.name} had answered")
        )
        await self._validation.close()
        await self._supervisor.stop()

    def kill(self) -> None:
        """Kill all workers at once."""
        self._validation.kill()
        self._supervisor.kill_all()

    async def suspend(self, why: str, timeout: float) -> None:
        """Run no workers until `resume`; return when their processes have ended.

        Waiting and new calls fail with NotReadyError, in which `why` follows the model's name. So
        do calls that have begun and do not end in `timeout` seconds. Arguments are still validated.
        May be called on a suspended or stopped model.
        """
        self.status.suspended = why or "is suspended"
        if not self.status.is_draining:
            self.status.reason = self.status.suspended
        leaving = self._supervisor.suspend(self.status.suspended)
        error = self.status.not_ready()
        self.dispatcher.refuse_all(error)
        if timeout > 0:
            # The timer kills the workers even if the caller is cancelled.
            timer = self._loop.call_later(timeout, self._cut_short, leaving, error)
        else:
            self._cut_short(leaving, error)
        await self._supervisor.until_gone(leaving)
        if timeout > 0:
            timer.cancel()

    def _cut_short(self, workers: Iterable[WorkerHandle], error: NotReadyError) -> None:
        """Kill the suspended workers and fail their calls."""
        for worker in workers:
            if not worker.exited.done():
                for prediction in worker.calls.values():
                    prediction.fail(error)
                self._supervisor.kill(worker, EndReason.CUT_SHORT)

    async def resume(self) -> None:
        """Start the workers after `suspend`; return when each is ready or has failed once.

        Does nothing if the model is not suspended or is about to stop.
        """
        if self.status.is_draining:
            return
        if self.status.suspended:
            self.status.suspended = ""
            self.status.reason = "is starting"
            self.status.began = self._loop.time()
            self._validation.renew()  # its model may be older than the one the workers load
        await self._supervisor.resume()

    async def reload(self) -> float:
        """Replace the workers one by one by newly loaded ones; return how many seconds it took.

        Raises ReloadInProgressError during another reload. Raises ReloadFailedError if a new worker
        does not become ready; the old one stays. Raises NotReadyError if the model is suspended.
        """
        if self.status.is_draining:
            raise StoppingError("The server is about to stop")
        if self.status.suspended:
            raise self.status.not_ready()
        if self._reloading:
            raise ReloadInProgressError(f"Model {self.name} is being reloaded already")
        self._reloading = True
        self._mistakes = []  # log the remaining ones again
        began = self._loop.time()
        try:
            await self._supervisor.replace_all()
        except StartError as error:
            if self.status.suspended:
                raise self.status.not_ready() from None
            self.reload_problem = str(error)
            old = ", and the old one stays" if self._ready else ""
            error.log(f"Model {self.name} is not reloaded{old}: the new one")
            raise ReloadFailedError(f"The new worker of model {self.name} {error}") from None
        finally:
            self._reloading = False
        self.reload_problem = ""
        self._validation.renew()
        seconds = self._loop.time() - began
        logger.info("Model %s was reloaded in %.2f s", self.name, seconds)
        return seconds

    # --- events of the workers

    def on_joined(self, worker: WorkerHandle) -> None:
        self._describe(worker.description)
        self.seconds_to_ready = worker.seconds_to_ready
        if not self.status.is_draining:
            self.status.reason = ""
        self.status.was_ready.set()
        self._logged = []
        self.dispatcher.worker_joined(worker)

    def _describe(self, description: dict[str, Any]) -> None:
        self.description = description
        self.headers = description["predict"]["headers"]
        self.train_headers = description.get("train", {}).get("headers", [])
        mistakes = description.get("mistakes", [])
        for mistake in mistakes if mistakes != self._mistakes else ():
            logger.warning("Model %s: %s", self.name, mistake)
        self._mistakes = mistakes

    def on_left(self, worker: WorkerHandle, why: str) -> None:
        if not self._ready and not self.status.reason:
            self.status.reason = f"has lost its worker, which {why}"
        self.dispatcher.worker_left(worker)

    def on_ended(self, worker: WorkerHandle, ending: str) -> None:
        is_on_purpose = worker.end_reason or self.status.is_draining or self.status.suspended
        if not self._ready and not is_on_purpose:
            self.status.reason = f"has lost its worker, which {ending}"
        self.dispatcher.worker_ended(worker, ending)

    def on_not_started(self, error: StartError) -> None:
        """Log the reason if it is new, and refuse the calls that wait for this worker."""
        self._is_repeated = error.lines == self._logged
        if not self._is_repeated:
            self._logged = error.lines
            error.log(f"Model {self.name}")
        if not (self._ready or self.status.suspended or self.status.is_draining):
            self.status.reason = str(error)
        self.dispatcher.refuse_waiting(str(error))

    def on_waiting(self, name: str, delay: float) -> None:
        """Log when a worker is started again, and refuse the calls that wait for it."""
        if not self.is_quiet and not self.status.is_draining:  # when draining, none is restarted
            before = "fails as before, and " if self._is_repeated else ""
            logger.warning("Worker %s %sis started again in %g s", name, before, delay)
        self.dispatcher.refuse_waiting("")

    # --- arguments

    async def validate(self, call: Call) -> Reply:
        """Return the reply to a call with `validate`, from a free worker or the validation worker.

        If the arguments are valid, it has the body of `deepaas.model.v2.validation`, never a
        descriptor. Raises NotReadyError if no process can be started for it, PredictTimeoutError,
        WorkerDiedError if the validation worker ended during the validation, and StoppingError.
        """
        if self.status.is_draining:
            raise StoppingError("The server is about to stop")
        self.status.refuse_while_loading()
        reply = await self._ask_worker(call) or await self._validation.validate(call)
        if reply.status == 200 and reply.fd >= 0:
            with _from_start(reply.fd) as file:
                return Reply(body=await asyncio.to_thread(file.read))
        return reply

    async def _ask_worker(self, call: Call) -> Reply | None:
        """Return a worker's reply to a validation; None if no worker is free or the worker died."""
        if not self._ready:
            return None
        validation = Validation()
        validation.context = call.context.encode()
        try:
            meta = messages.encode_meta(call)
            self.dispatcher.submit(validation, meta, call.body, VALIDATE_SECONDS)
            with validation:
                return await validation.reply()
        except StoppingError:
            raise
        except (NotReadyError, PredictTimeoutError, WorkerDiedError):
            return None


def _from_start(fd: int) -> BinaryIO:
    """Open a file that a worker has written, and rewind it: its descriptor is at the end."""
    file = open(fd, "rb")  # noqa: SIM115
    file.seek(0)
    return file
