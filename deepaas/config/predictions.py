"""The options of predictions, and of asynchronous predictions."""

from __future__ import annotations

from oslo_config import cfg

from deepaas.config.kinds import MAX_MILLISECONDS, seconds

PREDICTIONS = [
    cfg.IntOpt(
        "queue-size",
        metavar="N",
        default=1000,
        min=0,
        help="How many calls may wait for a model's workers. Further calls get 503.",
    ),
    seconds(
        "predict-timeout",
        default=0,
        help="Seconds that a prediction may run, and seconds that it may wait for a worker "
        "before that. After either, it gets 504. If it was running, an async predict() is "
        "cancelled; any other worker is replaced. For a stream, the limit applies to each "
        "item. 0 means no limit.",
    ),
    cfg.BoolOpt(
        "cancel-running",
        default=False,
        help="Stop a prediction whose client has disconnected: an async predict() is cancelled; "
        "any other worker is replaced when it runs only such predictions. Without this "
        "option, only a stream is stopped; any other prediction runs to its end.",
    ),
    cfg.IntOpt(
        "max-batch-size",
        metavar="N",
        default=0,
        min=0,
        help="Most calls in a batch, for models with predict_batch(). 0 means the model's "
        "setting; 1 means no batching.",
    ),
    cfg.IntOpt(
        "max-batch-wait-ms",
        metavar="MILLISECONDS",
        default=-1,
        min=-1,
        max=MAX_MILLISECONDS,
        help="Longest time in milliseconds that a batch waits for more calls. -1 means the "
        "model's setting.",
    ),
    cfg.IntOpt(
        "max-concurrency",
        metavar="N",
        default=0,
        min=0,
        help="Most concurrent calls in a worker, for models whose predict() is async. 0 means "
        "the model's setting.",
    ),
    cfg.IntOpt(
        "stream-buffer",
        metavar="BYTES",
        default=64 * 1024,
        min=1,
        help="Most bytes of a streamed response that the client has not yet received. At this "
        "limit, the model waits.",
    ),
    cfg.IntOpt(
        "max-jobs",
        metavar="N",
        default=1,
        min=1,
        help="How many asynchronous predictions run at once, each in a separate process. Others "
        "wait.",
    ),
    cfg.IntOpt(
        "max-queued-jobs",
        metavar="N",
        default=100,
        min=0,
        help="How many asynchronous predictions may wait. Further ones get 503.",
    ),
    cfg.IntOpt(
        "max-incoming-jobs",
        metavar="N",
        default=0,
        min=0,
        help="How many requests for asynchronous predictions may be received and validated at "
        "once, as with --max-incoming-trainings. 0 means as many as may run and wait.",
    ),
    seconds(
        "result-ttl",
        default=86400,
        help="Seconds for which the result of an asynchronous prediction is kept, counted as "
        "with --training-ttl. 0 means forever.",
    ),
]
