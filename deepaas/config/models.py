"""The options of models and their worker processes."""

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
        help="Serve only this model; the name is that of its entry point. If a model is given as "
        "an argument, serve it under this name.",
    ),
    cfg.IntOpt(
        "workers",
        metavar="N",
        short="p",
        default=1,
        min=1,
        help="Worker processes per model. More than one helps on a CPU; on a GPU, each worker "
        "holds a copy of the model.",
    ),
    cfg.IntOpt(
        "worker-threads",
        metavar="N",
        default=-1,
        min=-1,
        max=1024,
        help="Threads of numerical libraries in each worker: sets OMP_NUM_THREADS and related "
        "variables that are not set yet. -1 means the number of cores divided by --workers if "
        "there are several workers, and no setting otherwise. 0 means no setting. Trainings and "
        "asynchronous predictions are not affected.",
    ),
    cfg.BoolOpt("warm", default=True, help="Call the model's warm() before it predicts."),
    seconds(
        "start-timeout",
        default=3600,
        help="Seconds that a worker may take to import and warm its model. After that, it is "
        "killed and started again. 0 means no limit.",
    ),
    seconds(
        "start-grace",
        default=30,
        help="The port opens when every model is ready or has failed, or this many seconds after "
        "the first model is ready. Requests to models that are still loading then get 503.",
    ),
    cfg.BoolOpt(
        "listen-early",
        default=False,
        help="Open the port at once. Requests to a model get 503 while it loads. Use this with "
        "containers and gateways that check /v2/health/ready.",
    ),
    cfg.IntOpt(
        "restart-delay-max",
        metavar="SECONDS",
        default=60,
        min=1,
        help="Longest wait in seconds before a worker that dies again and again is restarted.",
    ),
    cfg.IntOpt(
        "worker-max-requests",
        metavar="N",
        default=0,
        min=0,
        help="Replace a worker after this many predictions. 0 means never.",
    ),
    cfg.IntOpt(
        "worker-max-memory",
        metavar="MB",
        default=0,
        min=0,
        help="Replace a worker whose process uses more memory than this, in MB. 0 means never.",
    ),
    cfg.BoolOpt(
        "reload",
        default=False,
        help="Reload a model when a file of its code changes. Use this while you develop a model.",
    ),
]
