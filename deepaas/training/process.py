"""The process that trains: loads the model, warms it, calls `train`, and says how that ended."""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import pickle
import resource
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deepaas import log, stdio
from deepaas.model import loading
from deepaas.model.v2.arguments import Arguments
from deepaas.model.v2.failures import describe, let_go, prepare_for_model, reply_to
from deepaas.model.v2.wrapper import ModelWrapper
from deepaas.training.plan import Plan, Workplace
from deepaas.training.request import read_call
from deepaas.training.store import Ending
from deepaas.training.work import Work, predict, train

logger = log.get_logger("deepaas.training")

PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> None:
    """Do the work of a plan; what becomes of it is written to a descriptor."""
    report, keeper = int(argv[0]), int(argv[1])
    os.set_inheritable(report, False)
    place, plan = Workplace(Path(argv[2])), Plan.from_json(argv[3])
    sys.argv[:] = ["deepaas-training"]
    streams = _prepare(plan, keeper)
    own_pid = os.getpid()
    try:
        ending = work(place, plan, streams)
    except BaseException as error:
        ending = _failed(error, plan)
    if os.getpid() != own_pid:  # a child that the model has forked: its end is not ours
        os._exit(1)
    streams.end()
    with open(report, "wb") as file:
        file.write(json.dumps(asdict(ending)).encode() + b"\n")
    _let_children_live()
    sys.exit(0 if ending.status == "done" else 1)


def work(place: Workplace, plan: Plan, streams: stdio.StandardStreams) -> Ending:
    """Load, warm and call; what the model raises comes out."""
    model = ModelWrapper(plan.model, loading.load(plan.target, plan.folder))
    arguments = Arguments(model.fields(plan.kind))
    job = Work(model, place, plan.limits.result_size)
    if plan.warm:
        job.finish(model.warm())
    streams.restore()
    prepare_for_model()
    call = read_call(place.call)
    pickled = place.arguments.read_bytes()
    if pickled:
        values = pickle.loads(pickled)
        media_type = arguments.media_type(values)
    else:  # they hold what cannot be passed from process to process
        values, media_type = arguments.load(call)
    logger.info("%s of model %s begins", plan.kind, plan.model)
    if plan.kind == "train":
        return train(job, values)
    return predict(job, values, call, media_type)


def _prepare(plan: Plan, keeper: int) -> stdio.StandardStreams:
    """Make this process as a worker would be, and have it end with its keeper."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != keeper:  # it has gone already
        os._exit(1)
    if plan.open_files:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (plan.open_files, hard))
    if plan.limits.nice:
        os.nice(plan.limits.nice)
    stdio.forgive(line_buffering=True)
    streams = stdio.StandardStreams()
    log.setup(log.LogOptions(**{**plan.log, "file": ""}))  # type: ignore[arg-type]
    return streams


def _failed(error: BaseException, plan: Plan) -> Ending:
    let_go(error)
    try:
        logger.error("%s of model %s failed", plan.kind, plan.model, exc_info=error)
    except BaseException:  # an exception whose own text raises
        logger.error("%s of model %s failed: %s", plan.kind, plan.model, type(error).__name__)
    reply = reply_to(error)
    answer = None
    if plan.kind == "predict":
        answer = json.dumps({"status": reply.status, "reason": reply.reason, "code": reply.code})
    return Ending("error", reply.reason or describe(error), answer=answer)


def _let_children_live() -> None:
    """Keep multiprocessing from ending the model's children, or waiting for them: a TensorBoard is
    to stay up."""
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:
        atexit.unregister(util._exit_function)
