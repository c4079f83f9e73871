"""Leads through a check: starts the server, tries each model, and returns the reports."""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import math
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deepaas.checks.connection import (
    Connection,
    Loaded,
    ServerFailedError,
    ServerOptions,
    serving,
)
from deepaas.checks.findings import Report, Severity, of_mistake, of_start
from deepaas.checks.predictions import Predictions
from deepaas.checks.trainings import Trainings
from deepaas.cmd.threads import usable_cores
from deepaas.exceptions import ConfigurationError, UnknownModelError
from deepaas.model.loading import ModelSource, find, installed


@dataclass(frozen=True)
class Options:
    """What is tried, and its limits: times in seconds, memory (0: no limit) and log in MB."""

    train: bool = False
    timeout: float = 60.0
    start_timeout: float = 300.0
    train_timeout: float = 300.0
    total_timeout: float = 1800.0
    max_memory: int = 0
    max_log: int = 256


def sources_of(targets: Sequence[str]) -> list[ModelSource]:
    """Return the models: names of installed ones, or what `deepaas-run` takes; all installed ones
    if there is no target. Raises ConfigurationError. Imports no model."""
    known = [one.name for one in installed()]
    if not targets:
        return find([])
    for target in targets:
        if target not in known and target.isidentifier():
            _refuse_if_unknown(target, known)
    found = [find([target])[0] for target in targets]
    names = [one.name for one in found]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise ConfigurationError(f"two models have the name {twice}; check them one after another")
    return found


def _refuse_if_unknown(name: str, known: list[str]) -> None:
    """Raise UnknownModelError if there is no module of this name either. Imports nothing."""
    if importlib.util.find_spec(name) is None and not any(Path().glob(f"{name}*")):
        raise UnknownModelError(name, known)


def run(
    sources: Sequence[ModelSource], options: Options, tell: Callable[[Report], None]
) -> list[Report]:
    """Check the models and return a report for each; `tell` gets each report when it is complete.

    Raises ServerFailedError, and asyncio.CancelledError after SIGINT or SIGTERM. Leaves no process.
    """
    return asyncio.run(_check_all(sources, options, tell))


async def _check_all(
    sources: Sequence[ModelSource], options: Options, tell: Callable[[Report], None]
) -> list[Report]:
    _end_in_order()
    reports = [Report(one.name, one.target) for one in sources]
    server = ServerOptions(options.timeout, options.start_timeout, _weights_dir(options))
    left = list(reports)
    async with serving(sources, server) as connection:
        checks = asyncio.ensure_future(_check_each(connection, left, options, tell))
        too_large = asyncio.ensure_future(connection.log.until_larger(options.max_log * 10**6))
        both = (checks, too_large)
        try:
            await asyncio.wait(
                both, timeout=options.total_timeout, return_when=asyncio.FIRST_COMPLETED
            )
            for one in both:
                if one.done():
                    one.result()
        finally:
            for one in both:
                one.cancel()
            await asyncio.gather(*both, return_exceptions=True)
        for report in left:
            if connection.log.is_too_large:
                _add_log(report, options)
            else:
                _add_total_timeout(report, options)
            tell(report)
    return reports


async def _check_each(
    connection: Connection, left: list[Report], options: Options, tell: Callable[[Report], None]
) -> None:
    """Check the models of these reports, and remove each report when it is complete."""
    while left:
        await _check(connection, left[0], options)
        tell(left.pop(0))


def _end_in_order() -> None:
    """Let SIGINT and SIGTERM end the server and remove its files before this process exits."""
    task = asyncio.current_task()
    assert task is not None
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, task.cancel)


def _weights_dir(options: Options) -> str:
    """Return the directory with the trained weights of this user, which the server loads too.

    A training must not replace them, so with trainings there is a new, empty one.
    """
    if options.train:
        return ""
    from deepaas import config
    from deepaas.cmd.state import state_dir
    from deepaas.config.settings import settings_of
    from deepaas.exceptions import StorageError

    trainings = settings_of(config.load([])).trainings
    try:
        return trainings.weights_dir or str(state_dir(trainings) / "weights")
    except StorageError:
        return ""


async def _check(connection: Connection, report: Report, options: Options) -> None:
    loaded = await connection.until_loaded(report.model)
    before = connection.requests
    report.findings += [of_start(line) for line in loaded.failed]
    if not loaded.description:
        return
    report.seconds = loaded.seconds
    described = loaded.description
    report.findings += [of_mistake(line) for line in described["mistakes"]]
    _check_metadata(loaded, report)
    _check_weights(loaded, report)
    predictions = Predictions(connection, loaded, report, options.timeout)
    base = await predictions.run() if "predict" in described["has"] else None
    _measure(loaded, report, options)
    if "train" in described["has"]:
        trainings = Trainings(connection, loaded, report, options.train_timeout)
        await trainings.check_arguments()
        if options.train:
            await trainings.run(predictions, base)
    _check_endings(loaded, report)
    report.requests = connection.requests - before


def _check_metadata(loaded: Loaded, report: Report) -> None:
    problem = loaded.description["metadata_problem"]
    if problem and not any("get_metadata" in one.what for one in report.findings):
        report.add(
            *(Severity.WARNING, "metadata"),
            loaded.description["places"].get("get_metadata", ""),
            problem,
            "clients see a default description of the model",
            "correct get_metadata, so that it returns a dictionary of JSON values",
        )


def _check_weights(loaded: Loaded, report: Report) -> None:
    weights = loaded.description["interface"]["weights"]
    for file in (weights or {}).get("files", ()):
        if file["problem"] and file["problem"] != os.strerror(errno.ENOENT):  # not trained yet
            report.add(
                *(Severity.WARNING, "weights", ""),
                f"{file['path']}, which weights names, cannot be read: {file['problem']}",
                "the model has no version of its weights",
                "correct the path in weights, or the permissions of the file",
            )


def _check_endings(loaded: Loaded, report: Report) -> None:
    """Add a finding if a worker has ended although no response says so."""
    explained = ("worker_died", "timeout")
    if loaded.endings and not any(one.code in explained for one in report.findings):
        report.add(
            *(Severity.ERROR, "worker_ended", loaded.description["places"].get("predict", "")),
            f"a worker of the model has ended: it {loaded.endings[0]}",
            "requests wait until a new worker has loaded the model",
            "remove what ends the process, such as os._exit in a thread",
        )


def _measure(loaded: Loaded, report: Report, options: Options) -> None:
    """Add the memory and the threads of the worker, and findings about them."""
    status = _status_of(loaded.pid)
    report.memory = int(status.get("VmHWM", "0 kB").split()[0]) * 1024
    report.threads = int(status.get("Threads", "0"))
    place = loaded.description["places"].get("predict", "")
    megabytes = report.memory / 1e6
    if options.max_memory and megabytes > options.max_memory:
        report.add(
            *(Severity.WARNING, "memory", place),
            f"the worker has used {megabytes:.0f} MB of memory",
            f"--max-memory is {options.max_memory} MB",
            "load less into memory, such as smaller weights, or give a larger --max-memory",
        )
    cores = math.ceil(usable_cores())
    if report.threads > 2 * cores + 2:
        report.add(
            *(Severity.NOTE, "threads", place),
            f"the worker has {report.threads} threads on {cores} cores",
            "threads that wait for each other's cores slow each other down",
            f"start the server with OMP_NUM_THREADS={cores}, or set the number in warm",
        )


def _status_of(pid: int) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _add_log(report: Report, options: Options) -> None:
    report.add(
        *(Severity.ERROR, "log", ""),
        f"the check was ended because the log had more than {options.max_log} MB (--max-log)",
        "the log of a server would fill its disk; not everything was tried",
        "print less in the model, or give a larger --max-log",
    )


def _add_total_timeout(report: Report, options: Options) -> None:
    report.add(
        *(Severity.ERROR, "total_timeout", ""),
        f"the check was ended after {options.total_timeout:g} s",
        "not everything was tried",
        "give a longer --total-timeout, or check fewer models at once",
    )


__all__ = ["Options", "ServerFailedError", "run", "sources_of"]
