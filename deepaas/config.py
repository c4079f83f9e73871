"""Every option of the server, declared once: flags, `deepaas.conf`, defaults and help."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

from oslo_config import cfg, types

import deepaas

MAX_SECONDS = 10**9
"""The most that an option in seconds may be: some thirty years, which every timer can count."""


MAX_MILLISECONDS = 10**9

MAX_INTEGER = 2**63 - 1
"""The most that any other number may be, as the programs in C behind it count with 64 bits."""


class Seconds(types.Float):
    """A finite number of seconds. A time of nan or inf seconds would never be over.

    When a value is wrong oslo.config shows the `repr` of this type, and not the text of the error.
    """

    def __init__(self, min: float) -> None:
        super().__init__(min=min, max=MAX_SECONDS, type_name="number of seconds")

    def __call__(self, value: Any) -> Any:
        seconds = super().__call__(value)
        if seconds is not None and not math.isfinite(seconds):
            raise ValueError(f"Should be a number of seconds, and not {value}")
        return seconds

    def __repr__(self) -> str:
        return f"number of seconds (from {self.min:g} to {self.max})"


def _seconds(name: str, *, default: float, help: str, min: float = 0) -> cfg.Opt:
    """An option in seconds."""
    return cfg.Opt(name, type=Seconds(min), default=default, help=help)


SERVER = [
    cfg.HostAddressOpt(
        "listen-ip", default="127.0.0.1", help="Address to listen on; 0.0.0.0 is every address."
    ),
    cfg.PortOpt("listen-port", default=5000, help="TCP port to listen on; 0 takes a free one."),
    cfg.StrOpt(
        "base-path", default="", help="Path below which everything is served, such as /models/x."
    ),
    cfg.BoolOpt("train-endpoint", default=True, help="Offer training."),
    cfg.BoolOpt("predict-endpoint", default=True, help="Offer prediction."),
    cfg.BoolOpt(
        "debug-endpoint",
        default=False,
        help="Show the output of the server and its workers at /v2/debug/. It is held in memory "
        "and may hold anything that a model prints.",
    ),
    cfg.IntOpt(
        "debug-size",
        default=256 * 1024,
        min=1024,
        help="How many bytes of output /v2/debug/ shows at most: the newest.",
    ),
    cfg.BoolOpt("doc-endpoint", default=True, help="Serve the page at /api to try the models on."),
    cfg.IntOpt(
        "client-max-size",
        default=0,
        min=0,
        help="Largest request body in bytes; a larger one is answered 413. 0 is no limit.",
    ),
    cfg.IntOpt(
        "client-max-decompressed",
        default=256 * 1024 * 1024,
        min=0,
        help="Most bytes that a compressed request body may become; a larger one is answered 413. "
        "0 is no limit but --client-max-size.",
    ),
    cfg.IntOpt(
        "client-max-parts",
        default=1000,
        min=1,
        help="Most parts a multipart form may have; more are answered 413.",
    ),
    cfg.IntOpt(
        "client-max-text",
        default=4 * 1024 * 1024,
        min=1,
        help="Most bytes that the texts of a multipart form may have together, as they are held in "
        "memory; more are answered 413. Files are not limited by it.",
    ),
    cfg.IntOpt(
        "client-max-line",
        default=64 * 1024,
        min=1024,
        help="Most bytes of a request line with its query, and of a header; more are answered 400.",
    ),
    cfg.IntOpt(
        "client-max-head",
        default=64 * 1024,
        min=0,
        help="Most bytes of the head of a request: its request line and all its headers; more are "
        "answered 431. 0 is no limit.",
    ),
    cfg.IntOpt(
        "max-heads-memory",
        default=64 * 1024 * 1024,
        min=0,
        help="Most bytes that the heads of requests take together while they arrive; beyond it the "
        "connections whose heads began first are closed. 0 is no limit.",
    ),
    cfg.IntOpt(
        "client-max-json",
        default=0,
        min=0,
        help="Largest request body in bytes that is JSON or an urlencoded form, after it is "
        "decompressed; a worker holds it in memory. A larger one is answered 413. 0 is no limit.",
    ),
    cfg.IntOpt(
        "client-min-rate",
        default=1024,
        min=0,
        help="Bytes per second that a client has to send of a request body, on average over "
        "--client-rate-window; a slower one is answered 408. Time in which the server does not "
        "read does not count. 0 is no limit.",
    ),
    _seconds(
        "client-rate-window",
        default=30,
        min=0.1,
        help="Seconds over which the average for --client-min-rate is taken.",
    ),
    cfg.IntOpt(
        "max-unsent",
        default=256 * 1024 * 1024,
        min=0,
        help="Most bytes of answers that the server holds in memory for clients that do not read "
        "them; beyond it the connections that have taken nothing for longest are cut. 0 is no "
        "limit.",
    ),
    cfg.StrOpt(
        "upload-dir",
        default="",
        help="Directory for uploads while they are worked on; the default is the system's "
        "temporary directory.",
    ),
    _seconds(
        "receive-timeout",
        default=60,
        help="Seconds that a client may take for the head of a request, and that it may let pass "
        "without sending more of the body; then it is answered 408, or its connection is closed if "
        "the head has not come. 0 is no limit.",
    ),
    _seconds(
        "send-timeout",
        default=60,
        help="Seconds that a client may let pass without taking more of an answer; then its "
        "connection is cut. 0 is no limit.",
    ),
    cfg.IntOpt(
        "max-connections",
        default=0,
        min=0,
        help="Most connections at once. Further clients wait, and idle connections are closed for "
        "them. 0 is as many as this process has descriptors for (ulimit -n), less those that it "
        "needs itself; more than that are never accepted.",
    ),
    _seconds(
        "drain-timeout",
        default=30,
        help="Seconds that requests get to finish when the server is told to stop.",
    ),
    _seconds(
        "stop-timeout",
        default=5,
        help="Seconds that workers with nothing to do get to end when the server stops.",
    ),
    cfg.BoolOpt(
        "admin-endpoint",
        default=False,
        help="Offer POST /v2/models/<name>/reload, to everyone who can reach the server.",
    ),
    cfg.MultiStrOpt(
        "allow-origins",
        default=[],
        help="Origin of a web site, such as https://a.example:8443, whose pages may send requests "
        "to this server. A request that a browser sends for any other site is answered 403, unless "
        "it is a GET. May be given several times.",
    ),
    cfg.MultiStrOpt(
        "allow-hosts",
        default=[],
        help="A host, or host:port, that requests may have in their Host header; * is any. "
        "Requests with another one are answered 421. Without this option, that is so only while "
        "the server listens on a loopback address. localhost and loopback addresses are always "
        "allowed. May be given several times.",
    ),
    cfg.BoolOpt(
        "reload",
        default=False,
        help="Reload a model when a file of its code changes. For those who write one.",
    ),
]

MODELS = [
    cfg.StrOpt(
        "model-name",
        default=os.environ.get("DEEPAAS_V2_MODEL", ""),
        sample_default="$DEEPAAS_V2_MODEL",
        help="Serve only this model, by the name of its entry point. With a model given as an "
        "argument: the name to serve it under.",
    ),
    cfg.IntOpt(
        "workers",
        short="p",
        default=1,
        min=1,
        help="Worker processes per model. More than one helps on a CPU; on a GPU each holds a "
        "copy of the model.",
    ),
    cfg.BoolOpt("warm", default=True, help="Call the model's warm() before it predicts."),
    cfg.IntOpt(
        "queue-size",
        default=1000,
        min=0,
        help="How many calls may wait for a model's workers; more are answered 503.",
    ),
    _seconds(
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
        default=0,
        min=0,
        help="Most calls in a batch, for models with predict_batch; 0 is what the model says, 1 is "
        "no batching.",
    ),
    cfg.IntOpt(
        "max-batch-wait-ms",
        default=-1,
        min=-1,
        max=MAX_MILLISECONDS,
        help="Longest time in milliseconds that a batch waits for more calls; -1 is what the model "
        "says.",
    ),
    cfg.IntOpt(
        "max-concurrency",
        default=0,
        min=0,
        help="Most calls at once in a worker, for models whose predict is async; 0 is what the "
        "model says.",
    ),
    cfg.IntOpt(
        "stream-buffer",
        default=64 * 1024,
        min=1,
        help="Bytes of a streamed answer that may be on their way to a client that reads slowly; "
        "then the model waits.",
    ),
    cfg.IntOpt(
        "worker-max-requests",
        default=0,
        min=0,
        help="Replace a worker after this many predictions; 0 is never.",
    ),
    cfg.IntOpt(
        "worker-max-memory",
        default=0,
        min=0,
        help="Replace a worker whose process has more memory than this, in MB; 0 is never.",
    ),
    _seconds(
        "start-timeout",
        default=3600,
        help="Seconds that a worker may take to import and warm its model; then it is ended and "
        "started again. 0 is no limit.",
    ),
    _seconds(
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
        default=60,
        min=1,
        help="Longest wait in seconds before a worker that keeps dying is started again.",
    ),
]

TRAINING = [
    cfg.StrOpt(
        "state-dir",
        default="",
        help="Directory for the records, logs and files of trainings and of asynchronous "
        "predictions. Servers on one machine may share it. The default is `deepaas` in the user's "
        "state directory, ~/.local/state.",
    ),
    cfg.IntOpt(
        "state-reserve",
        default=1024 * 1024,
        min=0,
        help="Bytes of its disk that the state directory keeps in reserve. When the disk is full, "
        "trainings can still end and be removed with their help. 0 is no reserve.",
    ),
    cfg.IntOpt(
        "max-trainings", default=1, min=1, help="How many trainings run at once; others wait."
    ),
    cfg.IntOpt(
        "max-queued-trainings",
        default=100,
        min=0,
        help="How many trainings may wait for their turn; more are answered 503.",
    ),
    cfg.IntOpt(
        "max-incoming-trainings",
        default=0,
        min=0,
        help="How many requests for trainings may be received and validated at once. More wait, "
        "and the slowest bodies are answered 503 meanwhile. 0 is as many as may run and wait.",
    ),
    cfg.BoolOpt(
        "train-warm", default=True, help="Call the model's warm() in the process that trains."
    ),
    cfg.BoolOpt(
        "train-exclusive",
        default=False,
        help="End the workers of a model while it trains, so that the training has the device for "
        "itself; predictions are answered 503 meanwhile.",
    ),
    _seconds(
        "train-exclusive-timeout",
        default=30,
        help="Seconds that predictions which have begun get to finish before such a training.",
    ),
    cfg.BoolOpt(
        "reload-after-train",
        default=True,
        help="Replace the workers of a model after a successful training, so that they load what "
        "it has learned.",
    ),
    cfg.BoolOpt(
        "keep-trainings",
        default=False,
        help="Let trainings go on when the server is told to stop; the next one takes them over. "
        "Otherwise they end as errors.",
    ),
    cfg.IntOpt(
        "train-nice",
        default=5,
        min=0,
        max=19,
        help="How much trainings step back for predictions where both want the CPU: their niceness "
        "is higher by this.",
    ),
    _seconds(
        "cancel-timeout",
        default=3,
        help="Seconds that the processes of a cancelled training get to end after SIGTERM; then "
        "they are killed.",
    ),
    _seconds(
        "train-exit-timeout",
        default=30,
        min=1,
        help="Seconds that the process of a training may take to end after train() has returned; "
        "then it is killed.",
    ),
    cfg.IntOpt(
        "train-log-size",
        default=100 * 1024 * 1024,
        min=0,
        help="Most bytes of output that are kept of a training: the newest. 0 is no limit.",
    ),
    cfg.IntOpt(
        "train-metrics-size",
        default=1024 * 1024,
        min=1024,
        help="Most bytes that the metrics of a training may have; beyond it every second report of "
        "the older ones is dropped.",
    ),
    cfg.IntOpt(
        "train-result-size",
        default=64 * 1024,
        min=0,
        help="Most bytes of JSON of what train() returned that the record holds; a larger one "
        "becomes an artefact, output.json.",
    ),
    _seconds(
        "training-ttl",
        default=0,
        help="Seconds after its end for which a training's record is kept, with its log and files; "
        "0 is for ever. The seconds are counted while the machine is up, whatever its clock says.",
    ),
    _seconds(
        "sweep-interval",
        default=60,
        min=0.1,
        help="Seconds between two looks for records that are old.",
    ),
    cfg.IntOpt(
        "max-jobs",
        default=1,
        min=1,
        help="How many asynchronous predictions run at once, each in a process of its own; others "
        "wait.",
    ),
    cfg.IntOpt(
        "max-queued-jobs",
        default=100,
        min=0,
        help="How many asynchronous predictions may wait; more are answered 503.",
    ),
    cfg.IntOpt(
        "max-incoming-jobs",
        default=0,
        min=0,
        help="How many requests for asynchronous predictions may be received and validated at "
        "once, as with --max-incoming-trainings. 0 is as many as may run and wait.",
    ),
    _seconds(
        "result-ttl",
        default=86400,
        help="Seconds for which the result of an asynchronous prediction is kept, counted as with "
        "--training-ttl; 0 is for ever.",
    ),
    cfg.MultiStrOpt(
        "allow-callbacks",
        default=[],
        help="A host, or host:port, that the server may call when the status of a training "
        "changes, if the request has a Callback-URL there. May be given several times.",
    ),
    cfg.StrOpt(
        "callback-secret-file",
        default="",
        help="File with the key that callbacks are signed with, whsec_<base64>; the default is "
        "callback.secret in the state directory, which is made when it is first needed.",
    ),
    _seconds("callback-timeout", default=10, min=0.1, help="Seconds that a callback may take."),
    cfg.IntOpt(
        "callback-attempts",
        default=12,
        min=1,
        help="How often a callback is tried, at growing intervals of up to 10 minutes.",
    ),
    cfg.IntOpt(
        "max-callbacks",
        default=64,
        min=1,
        help="How many callbacks are sent at once, at most half of them to one host.",
    ),
    cfg.IntOpt(
        "max-callbacks-per-receiver",
        default=4,
        min=1,
        help="How many callbacks are sent at once to one port of a host, so that a receiver that "
        "hangs does not delay the others.",
    ),
]

LOGGING = [
    cfg.BoolOpt("debug", short="d", default=False, help="Log at level DEBUG."),
    cfg.StrOpt(
        "log-level",
        default="INFO",
        ignore_case=True,
        choices=["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
        help="Least level that is logged.",
    ),
    cfg.StrOpt("log-file", default="", help="Log to this file instead of standard output."),
    cfg.BoolOpt("use-json", default=False, help="Log one JSON object a line."),
    cfg.BoolOpt("access-log", default=True, help="Log every request, at level INFO."),
]

ARGUMENTS = [
    cfg.MultiOpt(
        "model",
        item_type=types.String(),
        positional=True,
        default=[],
        help="A model that is not installed: module:attribute or path/to/file.py[:attribute].",
    ),
]

ALL = [*SERVER, *MODELS, *TRAINING, *LOGGING]


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """The options by group, for oslo.config's sample generator."""
    return [("DEFAULT", ALL)]


def load(argv: Sequence[str]) -> cfg.ConfigOpts:
    """Read flags and configuration files.

    Raises SystemExit, after saying why, for an unknown flag (2) and for a bad value (1), and
    oslo_config.cfg.Error for a file that cannot be read.
    """
    conf = cfg.ConfigOpts()
    conf.register_cli_opts(ALL)
    conf.register_cli_opts(ARGUMENTS)
    conf(
        args=list(argv),
        project="deepaas",
        prog="deepaas-run",
        version=deepaas.__version__,
        description="Serve models over HTTP.",
    )
    _check_numbers(conf)
    return conf


def _check_numbers(conf: cfg.ConfigOpts) -> None:
    """Refuse empty values, which oslo.config turns into None, and numbers that are too large."""
    for option in ALL:
        if not isinstance(option.type, types.Number):
            continue
        value = conf[option.dest]
        if value is None:
            raise cfg.Error(f"--{option.name} is empty, but needs a value: {option.type}")
        if value > MAX_INTEGER:
            raise cfg.Error(f"--{option.name} is {value}, but must be at most {MAX_INTEGER}")
