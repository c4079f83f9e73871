"""The server's handle of one worker: its process, its sockets and its calls."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from deepaas import log
from deepaas.enums import TextEnum
from deepaas.events import BatchRun, Event
from deepaas.exceptions import DeepaasError
from deepaas.model.v2.exchange import Calling, CallingKind, Measured, Reply
from deepaas.protocol import messages
from deepaas.protocol.messages import WorkerPhase
from deepaas.serving.concurrency import ConcurrencyEstimator
from deepaas.serving.prediction import Prediction, ReplyStream
from deepaas.serving.times import times_of
from deepaas.serving.worker_channel import WorkerChannel
from deepaas.serving.worker_process import WorkerProcess, spawn

logger = logging.getLogger("deepaas.serving")

DEPTH = 16
"""Calls in the socket of a worker that takes one call at a time."""

DISCONNECTED_SECONDS = 0.1
"""How long a worker that has closed its sockets may take to end."""


class EndReason(TextEnum):
    """Why the server ends a worker."""

    REPLACED = "was replaced"
    SUSPENDED = "is suspended"  # and may finish its calls
    CUT_SHORT = "was suspended"  # and has not finished its calls in time
    CANCELLED = "was cancelled"
    TOO_SLOW = "takes too long"
    STOPPED = "was stopped"
    NOT_READY = "did not become ready"
    ABANDONED = "was left"
    FULL = "takes no more validations"
    IDLE = "has nothing to do"


class StartError(DeepaasError):
    """A worker could not become ready; the text says why.

    `lines` are the causes, one per line; `traceback` is for the log.
    """

    def __init__(self, text: str, lines: Sequence[str] = (), traceback: str = "") -> None:
        super().__init__(text)
        self.lines = [*lines] or [text]
        self.traceback = traceback

    def log(self, subject: str) -> None:
        """Log each cause after `subject`; the last line includes the calls."""
        for line in self.lines[:-1]:
            logger.error("%s %s", subject, line)
        logger.error("%s %s", subject, self.lines[-1], extra=log.calls(self.traceback))


def _failure(message: messages.Failed) -> StartError:
    verb = {"importing": "imported", "warming": "warmed"}.get(message.phase, "loaded")
    lines = [f"cannot be {verb}: {line}" for line in message.lines]
    return StartError(f"cannot be {verb}: {message.cause}", lines, message.calls)


class WorkerHandle:
    """A worker. The constructor starts it; `exited` is done when it has ended.

    It takes calls when `ready` is done; that holds a StartError if the worker ends before. `calls`
    are its unanswered calls, oldest first. `on_room` is called when it may have room for more,
    `on_disconnected` when it can get no more. The constructor raises OSError if the system has no
    process or descriptor left.
    """

    def __init__(
        self,
        start: messages.Start,
        mark: str,
        on_room: Callable[[WorkerHandle], None],
        on_disconnected: Callable[[WorkerHandle], None],
        on_output: Callable[[bytes], None] | None = None,
        spawn: Callable[..., subprocess.Popen[bytes]] = spawn,
        batch_run: Event[BatchRun] | None = None,
    ) -> None:
        self.name = start.worker
        self.model = start.name
        self.index = start.index
        self.mark = mark
        self.calls: dict[int, Prediction] = {}
        self.answered = 0
        self.progress = 0.0  # when it last sent a reply, on the loop's clock
        self.calling = Calling(CallingKind.SEQUENTIAL)
        self.depth = 1  # the most calls in its socket
        self.description: dict[str, Any] = {}
        self.has_joined = False  # whether it is or was one of the pool's ready workers
        self.end_reason: EndReason | None = None  # set when the server decides to end it
        self.replacement_pending = False  # a successor is being started
        self.died_alone = False  # with a call whose batch had killed another worker
        self.size_at_start = 0
        self.phase = WorkerPhase.STARTING
        self.seconds_to_ready = 0.0
        self.began = time.monotonic()
        self._stream_buffer = start.options.get("stream_buffer", 1)
        self._loop = asyncio.get_running_loop()
        self._on_room = on_room
        self._on_disconnected = on_disconnected
        self._batch_run = batch_run or Event()
        self._concurrency = ConcurrencyEstimator()
        self.ready: asyncio.Future[messages.Ready] = self._loop.create_future()
        self.exited: asyncio.Future[str] = self._loop.create_future()
        with contextlib.ExitStack() as on_failure:
            self._channel = WorkerChannel(self.name, self)
            on_failure.callback(self._channel.close)
            ends = self._channel.worker_ends
            self._process = WorkerProcess(
                self.name, ends, start.variables, mark, self._on_exit, on_output, spawn
            )
            on_failure.pop_all()
        self.pid = self._process.pid
        self.kill = self._process.kill
        self.size = self._process.size
        self._channel.open(start)

    def __repr__(self) -> str:
        return f"<Worker {self.name} pid {self.pid} {self.phase}, {len(self.calls)} calls>"

    # --- to the worker

    def hand_over(self, prediction: Prediction) -> bool:
        """Write a call to the worker's socket; return False if that is full."""
        packet = prediction.packet
        now = self._loop.time()
        if self.calling.kind is CallingKind.BATCH:
            concurrency = self._concurrency.with_one_more(len(self.calls) + 1, now, self.progress)
            if prediction.alone:
                concurrency = messages.ALONE
            packet = messages.with_concurrency(packet, concurrency)
        if not self._channel.send_call(packet):
            return False
        prediction.worker = self
        prediction.since = now
        self.calls[prediction.id] = prediction
        return True

    def reclaim(self, most: int) -> list[Prediction]:
        """Read back up to `most` calls that the worker has not begun, oldest first."""
        taken: list[Prediction] = []
        while len(taken) < most and (call_id := self._channel.read_back()) is not None:
            prediction = self.calls.pop(call_id, None)
            if prediction is not None:  # a worker can answer a call that it has not read
                prediction.worker = None
                taken.append(prediction)
        return taken

    def cancel(self, prediction: Prediction) -> None:
        """Send the worker, once, a Cancel message for a call that has begun and whose caller has
        left."""
        if not prediction.cancelled:
            prediction.cancelled = True
            self._channel.tell(messages.Cancel(prediction.id))

    async def stop(self, timeout: float) -> None:
        """Let the worker finish its calls and end; kill it after `timeout` seconds."""
        self.phase = WorkerPhase.STOPPING
        self._channel.close_requests()
        done, _ = await asyncio.wait([self.exited], timeout=timeout)
        if not done:
            logger.warning("Worker %s did not end in %g s and is killed", self.name, timeout)
            self.kill()
            await asyncio.shield(self.exited)

    def close(self) -> None:
        """Close all descriptors. The process must have ended, and `reclaim` must have been
        called."""
        self._channel.close()
        self._process.close()

    # --- events of its channel and its process

    def on_replies(self, replies: Iterator[tuple[int, messages.ReplyMessage]]) -> None:
        self.progress = self._loop.time()
        for call_id, message in replies:
            if type(message) is Reply:
                prediction = self.calls.pop(call_id, None)
                if prediction is None or prediction.stream is not None:
                    if prediction is not None:
                        self.calls[call_id] = prediction
                    message.discard()
                    raise ValueError(f"a reply to call {call_id}, which does not wait for one")
                self.answered += 1
                if message.measured[-1] and self._batch_run.listeners:
                    self._report_batch(prediction, message.measured)
                prediction.set_reply(message)
                prediction.end()
            else:
                self._read_stream(self.calls[call_id], message)
        self._on_room(self)

    def _report_batch(self, prediction: Prediction, measured: Measured) -> None:
        """Report the batch of which this is the first call that is answered."""
        size = min(measured[-1], 1 + len(self.calls))  # the others are not answered yet
        seconds = times_of(prediction.submitted, measured).predict
        self._batch_run.report(BatchRun(self.model, size, seconds))

    def _read_stream(self, prediction: Prediction, message: messages.ReplyMessage) -> None:
        prediction.since = self.progress
        match message:
            case messages.Opened(headers, unknown, measured) if prediction.stream is None:
                prediction.stream = ReplyStream(
                    partial(self._taken, prediction), self._stream_buffer
                )
                reply = Reply(headers=headers, stream=prediction.stream, unknown=unknown)
                reply.measured = measured
                prediction.set_reply(reply)
                if prediction.abandoned:
                    self.cancel(prediction)
            case messages.Part(data) if prediction.stream is not None:
                if not prediction.abandoned:
                    prediction.stream.feed(data)
            case messages.Closed() if prediction.stream is not None:
                self.answered += 1
                del self.calls[prediction.id]
                prediction.stream.close(message)
                prediction.end()
            case _:
                raise ValueError(f"parts of a stream for call {prediction.id} in a wrong order")

    def _taken(self, prediction: Prediction, size: int) -> None:
        prediction.since = self._loop.time()
        self._channel.tell(messages.Taken(prediction.id, size))

    def on_control(self, message: messages.ControlMessage) -> None:
        if self.ready.done():  # later messages have no meaning
            return
        match message:
            case messages.Phase(phase):
                self.phase = WorkerPhase(phase)
            case messages.Ready(description):
                self.calling = _calling(description["calling"])
                self.phase = WorkerPhase.READY
                self.depth = _depth(self.calling)
                self.description = description
                self.seconds_to_ready = time.monotonic() - self.began
                self.ready.set_result(message)
            case messages.Failed():
                self.ready.set_exception(_failure(message))

    def on_writable(self) -> None:
        self._on_room(self)

    def on_disconnected(self) -> None:
        """Handle a closed socket: the worker has ended (see `_on_exit`), or its model closed it."""
        if self.phase is WorkerPhase.READY:
            self.phase = WorkerPhase.DISCONNECTED
            self._loop.call_later(DISCONNECTED_SECONDS, self.kill)
            self._on_disconnected(self)

    def on_garbage(self) -> None:
        self.kill()

    def _on_exit(self, ending: str) -> None:
        self._channel.drain()
        if not self.ready.done():
            self.ready.set_exception(StartError(f"{ending} while {self.phase}"))
        self.ready.exception()  # mark it as seen: nothing may be waiting for it
        self.phase = WorkerPhase.DEAD
        self.exited.set_result(ending)


def _calling(described: dict[str, Any]) -> Calling:
    """Return how the model is called, as its worker reports. Raises an exception if that is
    invalid."""
    calling = Calling(**described)
    if type(calling.at_once) is not int or calling.at_once < 1:
        raise ValueError(f"not a valid number of calls at once: {calling}")
    return Calling(CallingKind(calling.kind), calling.at_once, float(calling.wait))


def _depth(calling: Calling) -> int:
    """Return how many calls may lie in the socket of a worker.

    That is more than it works on, so that it never waits for the server. Calls that it has not
    begun can be read back at any time.
    """
    match calling.kind:
        case CallingKind.CONCURRENT:
            return calling.at_once
        case CallingKind.BATCH:
            return 2 * calling.at_once
        case _:
            return DEPTH
