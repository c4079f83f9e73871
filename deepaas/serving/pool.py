"""A model as the server has it: its calls, its workers, its life."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

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
from deepaas.serving.prediction import Check
from deepaas.serving.status import ModelStatus
from deepaas.serving.validation_worker import ValidationWorker
from deepaas.serving.worker_handle import EndReason, StartError, WorkerHandle
from deepaas.serving.worker_supervisor import WorkerSupervisor

logger = logging.getLogger("deepaas.serving")

VALIDATE_SECONDS = 1.0
"""Seconds that the workers have to validate arguments, before that is done by a clerk."""


class Pool:
    """A model that is served.

    `description` is what the model says of itself, once a worker has been ready. `reload_problem`
    is why the last reload failed, or empty. While `is_quiet`, the log does not say what is tried
    again, as the server may yet end.
    """

    def __init__(
        self,
        source: ModelSource,
        options: PoolOptions,
        guard: Guard,
        on_output: Callable[[bytes], None] | None = None,
    ) -> None:
        self.name = source.name
        self.source = source
        self.options = options
        self.description: dict[str, Any] = {}
        self.headers: list[str] = []  # those that the arguments of predict come from
        self.train_headers: list[str] = []
        self.is_quiet = False
        self.seconds_to_ready = 0.0
        self.reload_problem = ""
        self._supervisor = WorkerSupervisor(source, options.worker_options, guard, self, on_output)
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
        self._is_repeated = False  # whether that was the reason once more
        self._mistakes: list[str] = []  # those of the model's author that the log has
        self._reloading = False

    def __repr__(self) -> str:
        return f"<Pool {self.name}: {len(self._ready)} workers ready, {self.calls} calls>"

    @property
    def pids(self) -> list[int]:
        """The processes of the workers that are ready."""
        return [worker.pid for worker in self._ready]

    @property
    def oldest(self) -> float | None:
        """When the oldest of the workers that are ready was started, by the clock of
        `time.monotonic`; None if no worker predicts."""
        return min((worker.began for worker in self._ready), default=None)

    @property
    def calls(self) -> int:
        """How many calls have been taken in and have not ended."""
        return self.dispatcher.calls

    @property
    def sources(self) -> list[str]:
        """The files of the model's code."""
        return list(self.description.get("sources", []))

    # --- its life

    async def start(self) -> None:
        """Start the workers; return when each is ready, or has failed once.

        Of a model that is suspended, none is started; a clerk is asked for the description.
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
        """Say that no more calls are taken in; those whose requests have come already still are."""
        self.status.is_draining = True
        self.status.reason = "is being stopped"

    async def stop(self) -> None:
        """End the workers. Calls that they have not answered are refused."""
        self.drain()
        self.status.has_stopped = True
        self.dispatcher.close(
            StoppingError(f"The server stopped before model {self.name} had answered")
        )
        await self._validation.close()
        await self._supervisor.stop()

    def kill(self) -> None:
        """End all workers at once."""
        self._validation.kill()
        self._supervisor.kill_all()

    async def suspend(self, why: str, timeout: float) -> None:
        """Have no workers until `resume`; return when their processes have ended.

        Calls are refused with NotReadyError meanwhile, in which `why` follows the model's name; so
        are those that wait, and those that have begun and are not through in `timeout` seconds.
        Arguments are validated as ever. Does no harm when it is suspended already, or stopped.
        """
        self.status.suspended = why or "is suspended"
        if not self.status.is_draining:
            self.status.reason = self.status.suspended
        leaving = self._supervisor.suspend(self.status.suspended)
        error = self.status.not_ready()
        self.dispatcher.refuse_all(error)
        if timeout > 0:
            # Not to depend on who waits: whatever becomes of that, the workers end.
            timer = self._loop.call_later(timeout, self._cut_short, leaving, error)
        else:
            self._cut_short(leaving, error)
        await self._supervisor.until_gone(leaving)
        if timeout > 0:
            timer.cancel()

    def _cut_short(self, workers: Iterable[WorkerHandle], error: NotReadyError) -> None:
        """End workers that are suspended, whatever they are doing."""
        for worker in workers:
            if not worker.exited.done():
                for prediction in worker.calls.values():
                    prediction.fail(error)
                self._supervisor.kill(worker, EndReason.CUT_SHORT)

    async def resume(self) -> None:
        """Start the workers after `suspend`; return when each is ready, or has failed once.

        Does nothing if it is not suspended, or is about to stop.
        """
        if self.status.is_draining:
            return
        if self.status.suspended:
            self.status.suspended = ""
            self.status.reason = "is starting"
            self.status.began = self._loop.time()
            self._validation.renew()  # what it has loaded may be older than what the workers will
        await self._supervisor.resume()

    async def reload(self) -> float:
        """Replace the workers one after another by newly loaded ones; the seconds it took.

        Raises ReloadInProgressError while that is being done, and ReloadFailedError when a new one
        does not become ready: then the old one goes on. Raises NotReadyError if it is suspended.
        """
        if self.status.is_draining:
            raise StoppingError("The server is about to stop")
        if self.status.suspended:
            raise self.status.not_ready()
        if self._reloading:
            raise ReloadInProgressError(f"Model {self.name} is being reloaded already")
        self._reloading = True
        self._mistakes = []  # those that are left are told again
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

    # --- the events of the workers

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
        if not self.is_quiet and not self.status.is_draining:  # else none is started again
            before = "fails as before, and " if self._is_repeated else ""
            logger.warning("Worker %s %sis started again in %g s", name, before, delay)
        self.dispatcher.refuse_waiting("")

    # --- arguments

    async def validate(self, call: Call) -> Reply:
        """The reply to a call with `check`, by a worker that is free at once, or else by a clerk.

        If the arguments are valid its body is what `deepaas.model.v2.checking.check` says, never a
        descriptor. Raises NotReadyError if no process can be started for it, PredictTimeoutError,
        WorkerDiedError if a clerk has ended while it did that, StoppingError.
        """
        if self.status.is_draining:
            raise StoppingError("The server is about to stop")
        self.status.refuse_while_loading()
        reply = await self._ask_worker(call) or await self._validation.check(call)
        if reply.status == 200 and reply.fd >= 0:
            with _from_start(reply.fd) as file:
                return Reply(body=await asyncio.to_thread(file.read))
        return reply

    async def _ask_worker(self, call: Call) -> Reply | None:
        """The reply to a check; None if no worker is free for it, or has survived it."""
        if not self._ready:
            return None
        check = Check()
        try:
            meta = messages.encode_meta(call)
            self.dispatcher.submit(check, meta, call.body, VALIDATE_SECONDS)
            with check:
                return await check.reply()
        except StoppingError:
            raise
        except (NotReadyError, PredictTimeoutError, WorkerDiedError):
            return None


def _from_start(fd: int) -> BinaryIO:
    """A file that a worker has written, and whose descriptor stands at its end."""
    file = open(fd, "rb")  # noqa: SIM115
    file.seek(0)
    return file
