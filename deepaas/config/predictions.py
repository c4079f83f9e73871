"""Predictions, and those that are answered later."""

from __future__ import annotations

from oslo_config import cfg

from deepaas.config.kinds import MAX_MILLISECONDS, seconds

PREDICTIONS = [
    cfg.IntOpt(
        "queue-size",
        metavar="N",
        default=1000,
        min=0,
        help="How many calls may wait for a model's workers; more are answered 503.",
    ),
    seconds(
        "predict-timeout",
        default=0,
        help="Seconds that a prediction may take, and that it may wait for a worker before that; "
        "then it is answered 504, and the worker is replaced if it has begun. For a stream it is "
        "the time to each next item. 0 is no limit.",
    ),
    cfg.BoolOpt(
        "cancel-running",
        default=False,
        help="Replace a worker that works on nothing but a prediction whose client has gone. "
        "Otherwise it is let finish.",
    ),
    cfg.IntOpt(
        "max-batch-size",
        metavar="N",
        default=0,
        min=0,
        help="Most calls in a batch, for models with predict_batch; 0 is what the model says, 1 is "
        "no batching.",
    ),
    cfg.IntOpt(
        "max-batch-wait-ms",
        metavar="MILLISECONDS",
        default=-1,
        min=-1,
        max=MAX_MILLISECONDS,
        help="Longest time in milliseconds that a batch waits for more calls; -1 is what the model "
        "says.",
    ),
    cfg.IntOpt(
        "max-concurrency",
        metavar="N",
        default=0,
        min=0,
        help="Most calls at once in a worker, for models whose predict is async; 0 is what the "
        "model says.",
    ),
    cfg.IntOpt(
        "stream-buffer",
        metavar="BYTES",
        default=64 * 1024,
        min=1,
        help="Bytes of a streamed answer that may be on their way to a client that reads slowly; "
        "then the model waits.",
    ),
    cfg.IntOpt(
        "max-jobs",
        metavar="N",
        default=1,
        min=1,
        help="How many asynchronous predictions run at once, each in a process of its own; others "
        "wait.",
    ),
    cfg.IntOpt(
        "max-queued-jobs",
        metavar="N",
        default=100,
        min=0,
        help="How many asynchronous predictions may wait; more are answered 503.",
    ),
    cfg.IntOpt(
        "max-incoming-jobs",
        metavar="N",
        default=0,
        min=0,
        help="How many requests for asynchronous predictions may be received and validated at "
        "once, as with --max-incoming-trainings. 0 is as many as may run and wait.",
    ),
    seconds(
        "result-ttl",
        default=86400,
        help="Seconds for which the result of an asynchronous prediction is kept, counted as with "
        "--training-ttl; 0 is for ever.",
    ),
]
