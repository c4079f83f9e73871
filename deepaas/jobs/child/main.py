"""The process of one job: it loads and warms the model, calls its function and reports the end."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import json
import os
import pickle
import resource
import signal
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from deepaas import context, log, stdio
from deepaas.jobs.child.work import Work, failed, keep, predict, train
from deepaas.jobs.model_logs import ModelLogHandler
from deepaas.jobs.spec import JobDirectory, JobSpec
from deepaas.jobs.store import Ending
from deepaas.model import loading
from deepaas.model.v2.arguments import Arguments
from deepaas.model.v2.declarations import declared_fields
from deepaas.model.v2.failures import describe, prepare_for_model
from deepaas.model.v2.invocation import Invocation, Runtime
from deepaas.model.v2.wrapper import ModelWrapper
from deepaas.model_log import ModelLog
from deepaas.protocol.call_files import read_call

logger = log.get_logger("deepaas.training")

PR_SET_PDEATHSIG = 1
NAMES = {"train": "training", "predict": "job"}


def main(argv: list[str]) -> None:
    """Run the job of a JobSpec, given as JSON, and write how it ends to a descriptor."""
    report, supervisor = int(argv[0]), int(argv[1])
    os.set_inheritable(report, False)
    place, spec = JobDirectory(Path(argv[2])), JobSpec.from_json(argv[3])
    sys.argv[:] = ["deepaas-training"]
    context.set_requests([spec.request_id] if spec.request_id else [])
    streams = _prepare(spec, supervisor, place)
    runtime = Runtime(spec.model, "training")
    times = _Times(report)
    try:
        ending = work(runtime, place, spec, streams, times)
    except BaseException as error:
        ending = _failed(runtime, place, spec, error)
    runtime.end_if_forked()
    streams.end()
    _send_to_supervisor(report, {"duration": times.duration, "ending": asdict(ending)})
    os.close(report)
    _keep_children_alive()
    sys.exit(0 if ending.status == "done" else 1)


class _Times:
    """Measures when the function of the model was called and how long it ran."""

    def __init__(self, report: int) -> None:
        self._report = report
        self._began = 0.0
        self.duration: float | None = None

    def __enter__(self) -> None:
        # All processes share the monotonic clock, so the supervisor process can use this time.
        self._began = time.monotonic()
        with contextlib.suppress(OSError):  # a model may have closed all descriptors
            _send_to_supervisor(self._report, {"called_at": self._began})

    def __exit__(self, *_: object) -> None:
        self.duration = time.monotonic() - self._began


def _send_to_supervisor(report: int, message: dict[str, Any]) -> None:
    stdio.write_all(report, json.dumps(message).encode() + b"\n")


def work(
    runtime: Runtime,
    place: JobDirectory,
    spec: JobSpec,
    streams: stdio.StandardStreams,
    times: _Times,
) -> Ending:
    """Load and warm the model, call its function and return how that ended.

    Exceptions of the model propagate.
    """
    model = ModelWrapper(spec.model, loading.load(spec.target, spec.folder))
    arguments = Arguments(declared_fields(model, spec.kind))
    if spec.warm:
        runtime.resolve(model.warm())
    streams.restore()
    prepare_for_model()
    call = read_call(place.call)
    pickled = place.arguments.read_bytes()
    if pickled:
        values = pickle.loads(pickled)
        media_type = arguments.media_type(values)
    else:  # they cannot be pickled or are too large: load them from the request
        values, media_type = arguments.load(call)
    schema = model.schema if spec.kind == "predict" else None
    job = Work(Invocation(runtime, model, arguments, schema), place, spec.limits)
    request = f" (request {spec.request_id})" if spec.request_id else ""
    logger.info("%s of model %s begins%s", spec.kind, spec.model, request)
    with times:
        if spec.kind == "train":
            return train(job, values)
        return predict(job, values, call, media_type)


def _prepare(spec: JobSpec, supervisor: int, place: JobDirectory) -> stdio.StandardStreams:
    """Set this process up like a worker, and let it be killed when its supervisor process exits."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != supervisor:  # it has already exited
        os._exit(1)
    if spec.open_files:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (spec.open_files, hard))
    if spec.limits.nice:
        os.nice(spec.limits.nice)
    stdio.forgive(line_buffering=True)
    streams = stdio.StandardStreams()
    options = log.LogOptions(**{**spec.log, "file": ""})  # type: ignore[arg-type]
    log.setup(options)
    names = {"model": spec.model, NAMES[spec.kind]: spec.uuid}
    to_server = ModelLogHandler(place.model_log)
    to_server.setFormatter(log.formatter_of(options))
    ModelLog(names, to_server.handle, log.handle).begin(options.level)
    return streams


def _failed(runtime: Runtime, place: JobDirectory, spec: JobSpec, error: BaseException) -> Ending:
    reply = failed(runtime, error, spec.kind)
    ending = Ending("error") if spec.kind == "train" else keep(place, reply)
    return replace(ending, message=reply.reason or describe(error))


def _keep_children_alive() -> None:
    """Stop multiprocessing from killing or joining the model's children: a TensorBoard stays up."""
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:
        atexit.unregister(util._exit_function)
