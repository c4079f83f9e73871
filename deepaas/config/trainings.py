"""Trainings, their records, and the callbacks that tell of them."""

from __future__ import annotations

from oslo_config import cfg

from deepaas.config.kinds import seconds

TRAININGS = [
    cfg.StrOpt(
        "state-dir",
        metavar="DIRECTORY",
        default="",
        help="Directory for the records, logs and files of trainings and of asynchronous "
        "predictions. Servers on one machine may share it. The default is `deepaas` in the user's "
        "state directory, ~/.local/state.",
    ),
    cfg.StrOpt(
        "weights-dir",
        metavar="DIRECTORY",
        default="",
        help="Directory for the trained weights of models, each in a directory of its own that the "
        "model gets from deepaas.training.weights_directory(). The default is `weights` in the "
        "state directory.",
    ),
    cfg.IntOpt(
        "state-reserve",
        metavar="BYTES",
        default=1024 * 1024,
        min=0,
        help="Bytes of its disk that the state directory keeps in reserve. When the disk is full, "
        "trainings can still end and be removed with their help. 0 is no reserve.",
    ),
    cfg.IntOpt(
        "max-trainings",
        metavar="N",
        default=1,
        min=1,
        help="How many trainings run at once; others wait.",
    ),
    cfg.IntOpt(
        "max-queued-trainings",
        metavar="N",
        default=100,
        min=0,
        help="How many trainings may wait for their turn; more are answered 503.",
    ),
    cfg.IntOpt(
        "max-incoming-trainings",
        metavar="N",
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
    seconds(
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
        metavar="N",
        default=5,
        min=0,
        max=19,
        help="How much trainings step back for predictions where both want the CPU: their niceness "
        "is higher by this.",
    ),
    seconds(
        "cancel-timeout",
        default=3,
        help="Seconds that the processes of a cancelled training get to end after SIGTERM; then "
        "they are killed.",
    ),
    seconds(
        "train-exit-timeout",
        default=30,
        min=1,
        help="Seconds that the process of a training may take to end after train() has returned; "
        "then it is killed.",
    ),
    cfg.IntOpt(
        "train-log-size",
        metavar="BYTES",
        default=100 * 1024 * 1024,
        min=0,
        help="Most bytes of output that are kept of a training: the newest. 0 is no limit.",
    ),
    cfg.IntOpt(
        "train-metrics-size",
        metavar="BYTES",
        default=1024 * 1024,
        min=1024,
        help="Most bytes that the metrics of a training may have; beyond it every second report of "
        "the older ones is dropped.",
    ),
    cfg.IntOpt(
        "train-result-size",
        metavar="BYTES",
        default=64 * 1024,
        min=0,
        help="Most bytes of JSON of what train() returned that the record holds; a larger one "
        "becomes an artefact, output.json.",
    ),
    seconds(
        "training-ttl",
        default=0,
        help="Seconds after its end for which a training's record is kept, with its log and files; "
        "0 is for ever. The seconds are counted while the machine is up, whatever its clock says.",
    ),
    seconds(
        "sweep-interval",
        default=60,
        min=0.1,
        help="Seconds between two looks for records that are old.",
    ),
]

CALLBACKS = [
    cfg.MultiStrOpt(
        "allow-callbacks",
        metavar="HOST",
        default=[],
        help="A host, or host:port, that the server may call when the status of a training "
        "changes, if the request has a Callback-URL there. May be given several times.",
    ),
    cfg.StrOpt(
        "callback-secret-file",
        metavar="FILE",
        default="",
        help="File with the key that callbacks are signed with, whsec_<base64>; the default is "
        "callback.secret in the state directory, which is made when it is first needed.",
    ),
    seconds("callback-timeout", default=10, min=0.1, help="Seconds that a callback may take."),
    cfg.IntOpt(
        "callback-attempts",
        metavar="N",
        default=12,
        min=1,
        help="How often a callback is tried, at growing intervals of up to 10 minutes.",
    ),
    cfg.IntOpt(
        "max-callbacks",
        metavar="N",
        default=64,
        min=1,
        help="How many callbacks are sent at once, at most half of them to one host.",
    ),
    cfg.IntOpt(
        "max-callbacks-per-receiver",
        metavar="N",
        default=4,
        min=1,
        help="How many callbacks are sent at once to one port of a host, so that a receiver that "
        "hangs does not delay the others.",
    ),
]
