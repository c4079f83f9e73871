"""Loads installed models in workers, as the server does, and asks what they can do."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

from deepaas import config
from deepaas.cmd.options import pool_options
from deepaas.cmd.orphans import upload_directory
from deepaas.commands.list_models import Model
from deepaas.config.settings import Settings, settings_of
from deepaas.log import LogOptions
from deepaas.model.loading import ModelSource
from deepaas.model.v2.exchange import CallingKind
from deepaas.processes import kill_marked
from deepaas.protocol import messages
from deepaas.serving.guard import MARK, Guard
from deepaas.serving.worker_handle import EndReason, StartError, WorkerHandle
from deepaas.serving.worker_slot import launch

STOP_SECONDS = 5.0


def load_models(models: list[Model], timeout: float) -> None:
    """Set `loaded` of each model, or `problem` if it cannot be loaded in `timeout` seconds.

    As many are loaded at once as there are cores. What the models print is dropped. Raises
    ConfigurationError if the options of the server cannot be read.
    """
    settings = settings_of(config.load([]))
    with (
        upload_directory("") as directory,
        contextlib.closing(Guard(directory)) as guard,
    ):
        asyncio.run(_load_all(models, timeout, settings, guard, directory))


async def _load_all(
    models: list[Model], timeout: float, settings: Settings, guard: Guard, directory: str
) -> None:
    limit = asyncio.Semaphore(len(os.sched_getaffinity(0)))

    async def load(number: int, model: Model) -> None:
        source = ModelSource(model.name, model.target)
        options = pool_options(settings, source, LogOptions().as_dict(), 0, directory)
        start = messages.Start(
            name=model.name,
            target=model.target,
            folder="",
            index=0,
            warm=False,
            log=options.worker_options.log,
            options=vars(options.worker_options.calls),
            result_dir=directory,
            variables=options.worker_options.variables,
        )
        async with limit:
            try:
                description = await _describe(start, timeout, guard, f"{guard.token}/{number}/")
                model.loaded = capabilities(description)
            except StartError as error:
                model.problem = str(error)

    await asyncio.gather(*(load(number, model) for number, model in enumerate(models)))


async def _describe(
    start: messages.Start, timeout: float, guard: Guard, mark: str
) -> dict[str, Any]:
    """Start a worker, end it, and return the description of its model. Raises StartError."""
    started: list[WorkerHandle] = []

    def start_worker() -> WorkerHandle:
        worker = WorkerHandle(start, mark, _ignore, _ignore, on_output=_ignore)
        guard.add(worker.pid)
        started.append(worker)
        return worker

    try:
        worker = await launch(start_worker, timeout, option="--timeout")
        description: dict[str, Any] = worker.ready.result().description
        worker.end_reason = EndReason.STOPPED
        await worker.stop(STOP_SECONDS)
    finally:
        for worker in started:
            worker.kill()
            await worker.exited
            worker.close()
            await asyncio.to_thread(kill_marked, f"{MARK}={mark}")
            guard.remove(worker.pid)
    return description


def _ignore(_: object) -> None:
    pass


def capabilities(description: dict[str, Any]) -> dict[str, Any]:
    """Return what a model can do, from its description."""
    interface = description["interface"]
    functions = interface["functions"]
    predict, train = functions["predict"], functions.get("train", {"arguments": []})
    return {
        "predict": "predict" in description["has"],
        "train": "train" in description["has"],
        "batches": interface["batches"],
        "streams": interface["streams"],
        "async": description["calling"]["kind"] == CallingKind.CONCURRENT,
        "arguments": [one["name"] for one in predict["arguments"]],
        "train_arguments": [one["name"] for one in train["arguments"]],
        "files": [
            one["name"] for one in predict["arguments"] if "file" in (one["kind"], one["item_kind"])
        ],
        "media_types": [one["media_type"] for one in predict["responses"]],
        "metadata": description["metadata"],
        "mistakes": description["mistakes"],
    }
