"""The models and their worker processes."""

from __future__ import annotations

import os

from oslo_config import cfg

from deepaas.config.kinds import seconds

MODELS = [
    cfg.StrOpt(
        "model-name",
        metavar="NAME",
        default=os.environ.get("DEEPAAS_V2_MODEL", ""),
        sample_default="$DEEPAAS_V2_MODEL",
        help="Serve only this model, by the name of its entry point. With a model given as an "
        "argument: the name to serve it under.",
    ),
    cfg.IntOpt(
        "workers",
        metavar="N",
        short="p",
        default=1,
        min=1,
        help="Worker processes per model. More than one helps on a CPU; on a GPU each holds a "
        "copy of the model.",
    ),
    cfg.BoolOpt("warm", default=True, help="Call the model's warm() before it predicts."),
    seconds(
        "start-timeout",
        default=3600,
        help="Seconds that a worker may take to import and warm its model; then it is ended and "
        "started again. 0 is no limit.",
    ),
    seconds(
        "start-grace",
        default=30,
        help="Seconds after the first model is ready at which the port opens, even if other models "
        "are still loading; these are answered 503 until they are ready. Without that the port "
        "opens when every model is ready or has failed.",
    ),
    cfg.BoolOpt(
        "listen-early",
        default=False,
        help="Open the port at once; models are answered 503 while they are loading. For "
        "containers and gateways that ask /v2/health/ready.",
    ),
    cfg.IntOpt(
        "restart-delay-max",
        metavar="SECONDS",
        default=60,
        min=1,
        help="Longest wait in seconds before a worker that keeps dying is started again.",
    ),
    cfg.IntOpt(
        "worker-max-requests",
        metavar="N",
        default=0,
        min=0,
        help="Replace a worker after this many predictions; 0 is never.",
    ),
    cfg.IntOpt(
        "worker-max-memory",
        metavar="MB",
        default=0,
        min=0,
        help="Replace a worker whose process has more memory than this, in MB; 0 is never.",
    ),
    cfg.BoolOpt(
        "reload",
        default=False,
        help="Reload a model when a file of its code changes. For those who write one.",
    ),
]
