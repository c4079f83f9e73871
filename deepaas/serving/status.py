"""Whether a model can answer, and why not."""

from __future__ import annotations

import asyncio

from deepaas.exceptions import NotReadyError, StartingError
from deepaas.serving.worker_supervisor import WorkerSupervisor

SUSPENDED_RETRY_AFTER = 30
STARTING_RETRY_AFTER = 30


class ModelStatus:
    """The state of a model; its pool changes it and its dispatcher reads it.

    `was_ready` is set once a worker has been ready. `suspended` is why the model is suspended, or
    empty. `is_draining` is set when the server is about to stop, and `has_stopped` when it has
    stopped. `reason` is why no worker is ready, in words that follow the model's name, or empty.
    """

    def __init__(self, name: str, supervisor: WorkerSupervisor) -> None:
        self.was_ready = asyncio.Event()
        self.suspended = ""
        self.is_draining = False
        self.has_stopped = False
        self.reason = "is starting"
        self.began = 0.0  # when the workers were first started, on the loop's clock
        self._name = name
        self._supervisor = supervisor
        self._loop = asyncio.get_running_loop()

    def __repr__(self) -> str:
        return f"<ModelStatus {self._name}: {self.problem or 'ready'}>"

    @property
    def is_ready(self) -> bool:
        """Whether a worker could take a call now."""
        return bool(self._supervisor.ready) and not self.is_draining

    @property
    def is_suspended(self) -> bool:
        """Whether it is suspended, and so has no workers."""
        return bool(self.suspended)

    @property
    def phase(self) -> str:
        """The phase of a model that is loading for the first time; empty for any other."""
        is_past = self.was_ready.is_set() or self._supervisor.has_settled
        return "" if is_past or self.suspended or self.is_draining else str(self._supervisor.phase)

    @property
    def seconds_so_far(self) -> float:
        """How long the model has been loading, in seconds."""
        return self._loop.time() - self.began if self.began else 0.0

    @property
    def retries_in(self) -> float:
        """Seconds until a worker is started again; 0 if that is not known."""
        return max(0.0, self._supervisor.retry_at - self._loop.time())

    @property
    def problem(self) -> str:
        """Why the model cannot answer at present; empty if it can."""
        if phase := self.phase:
            return f"is starting: {phase}, {self.seconds_so_far:.0f} s so far"
        return self.reason

    def not_ready(self) -> NotReadyError:
        """Return the error for a call that no worker can take."""
        message = f"Model {self._name} {self.problem or 'has no worker'}"
        phase = self.phase
        if phase:  # the longer loading has taken, the longer it may still take
            wait = min(self.seconds_so_far, STARTING_RETRY_AFTER)
            return StartingError(message, phase, wait)
        return NotReadyError(message, SUSPENDED_RETRY_AFTER if self.suspended else self.retries_in)

    def refuse_while_loading(self) -> None:
        """Raise StartingError if the model is loading for the first time."""
        if self.phase:
            raise self.not_ready()
