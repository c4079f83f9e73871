"""The server of a check: a real server that also tells what its workers say about their models.

It is the program of a process of its own. It writes events as lines of JSON to a pipe:

    {"event": "open", "url": ...}                 requests may be sent
    {"event": "ready", "model", "pid", "seconds", "description"}
    {"event": "failed", "model", "lines"}         the model could not be loaded; it is not retried
    {"event": "ended", "model", "ending"}         a worker has ended that should not
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from deepaas import config, exact_json
from deepaas.cmd import run
from deepaas.cmd.loading import Loading
from deepaas.cmd.start import end_by_signals
from deepaas.model.loading import ModelSource
from deepaas.processes import end_with_parent
from deepaas.serving.pool import Pool
from deepaas.serving.worker_handle import StartError, WorkerHandle

Tell = Callable[..., None]


class CheckedPool(Pool):
    """A model of which every event is told. If it cannot be loaded, it is not loaded again."""

    tell: Tell

    async def start(self) -> None:
        await super().start()
        if not self.description:
            await self.suspend("cannot be loaded", 0)

    def on_joined(self, worker: WorkerHandle) -> None:
        super().on_joined(worker)
        seconds = worker.seconds_to_ready
        self.tell(
            *("ready", self.name), pid=worker.pid, seconds=seconds, description=worker.description
        )

    def on_ended(self, worker: WorkerHandle, ending: str) -> None:
        super().on_ended(worker, ending)
        if not worker.end_reason and not self.status.is_draining:
            self.tell("ended", self.name, ending=ending)

    def on_not_started(self, error: StartError) -> None:
        super().on_not_started(error)
        self.tell("failed", self.name, lines=error.lines)


class CheckedServer(run.ServerProcess):
    """A server whose models are `CheckedPool`s."""

    def __init__(self, tell: Tell, *args: Any) -> None:
        super().__init__(*args)
        self._tell = tell

    def make_pool(self, *args: Any, **options: Any) -> Pool:
        pool = CheckedPool(*args, **options)
        pool.tell = self._tell
        return pool

    def report_open(self, url: str, pools: list[Pool], loading: Loading) -> None:
        super().report_open(url, pools, loading)
        self._tell("open", url=url)


def main() -> None:
    """Run the server. The arguments: the pid of the parent, the descriptor for the events, the
    models as JSON, and the options of the server."""
    end_by_signals()
    parent, fd, models, *argv = sys.argv[1:]
    end_with_parent(int(parent))
    os.set_inheritable(int(fd), False)
    _forget_options()
    sources = [ModelSource(*one) for one in exact_json.loads(models.encode())]
    with open(int(fd), "wb") as pipe:

        def tell(event: str, model: str = "", **values: Any) -> None:
            pipe.write(exact_json.dumps({"event": event, "model": model, **values}, repr) + b"\n")
            pipe.flush()

        sys.exit(run.run(argv, sources=sources, make=partial(CheckedServer, tell)))


def _forget_options() -> None:
    """Remove the options in the environment: they are meant for another server."""
    for option in config.ALL:
        for prefix in ("DEEPAAS_", "OS_DEFAULT__"):
            os.environ.pop(prefix + option.dest.upper(), None)
