"""The options of trainings, their records, and callbacks."""

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
        help="Directory for the trained weights of models. Each model has a separate directory "
        "below it, which deepaas.training.weights_directory() returns. The default is "
        "`weights` in the state directory.",
    ),
    cfg.IntOpt(
        "state-reserve",
        metavar="BYTES",
        default=1024 * 1024,
        min=0,
        help="Bytes of disk space that the state directory reserves, so that trainings can still "
        "end and be removed when the disk is full. 0 means no reserve.",
    ),
    seconds(
        "state-lock-timeout",
        default=10,
        min=0.1,
        help="Seconds that a change in the state directory waits while other processes change it. "
        "After that, the request gets 503. Such a process may have been stopped by a signal or a "
        "debugger.",
    ),
    cfg.IntOpt(
        "max-trainings",
        metavar="N",
        default=1,
        min=1,
        help="How many trainings run at once. Others wait.",
    ),
    cfg.IntOpt(
        "max-queued-trainings",
        metavar="N",
        default=100,
        min=0,
        help="How many trainings may wait. Further ones get 503.",
    ),
    cfg.IntOpt(
        "max-incoming-trainings",
        metavar="N",
        default=0,
        min=0,
        help="How many requests for trainings may be received and validated at once. Further "
        "ones wait; meanwhile, those whose bodies arrive most slowly get 503. 0 means as "
        "many as may run and wait.",
    ),
    cfg.BoolOpt(
        "train-warm",
        default=True,
        help="Call the model's warm() in the training process, before train().",
    ),
    cfg.BoolOpt(
        "train-exclusive",
        default=False,
        help="Stop the workers of a model while it trains, so that only the training uses the "
        "device. Predictions get 503 meanwhile.",
    ),
    seconds(
        "train-exclusive-timeout",
        default=30,
        help="Seconds that running predictions get to finish before a training with "
        "--train-exclusive.",
    ),
    cfg.BoolOpt(
        "reload-after-train",
        default=True,
        help="Replace the workers of a model after a successful training, so that they load the "
        "new weights.",
    ),
    cfg.BoolOpt(
        "keep-trainings",
        default=False,
        help="Let trainings continue when the server stops; the next server adopts them. Without "
        "this option, they end as errors.",
    ),
    cfg.IntOpt(
        "train-nice",
        metavar="N",
        default=5,
        min=0,
        max=19,
        help="How much the niceness of training processes is raised, so that predictions get the "
        "CPU first.",
    ),
    seconds(
        "cancel-timeout",
        default=3,
        help="Seconds that the processes of a cancelled training get to exit after SIGTERM. "
        "After that, they are killed.",
    ),
    seconds(
        "train-exit-timeout",
        default=30,
        min=1,
        help="Seconds that the process of a training may take to exit after train() has "
        "returned. After that, it is killed.",
    ),
    cfg.IntOpt(
        "train-log-size",
        metavar="BYTES",
        default=100 * 1024 * 1024,
        min=0,
        help="Most bytes of output that are kept for a training. Older output is dropped. 0 "
        "means no limit.",
    ),
    cfg.IntOpt(
        "train-metrics-size",
        metavar="BYTES",
        default=1024 * 1024,
        min=1024,
        help="Most bytes of metrics that are kept for a training. If there are more, every "
        "second report is dropped.",
    ),
    cfg.IntOpt(
        "train-result-size",
        metavar="BYTES",
        default=64 * 1024,
        min=0,
        help="Most bytes of JSON that the record holds of train()'s return value. A larger value "
        "becomes the artefact output.json.",
    ),
    seconds(
        "training-ttl",
        default=0,
        help="Seconds for which the record of a training is kept after its end, with its log and "
        "files. Only time while the machine is up counts; setting the clock changes "
        "nothing. 0 means forever.",
    ),
    seconds(
        "sweep-interval",
        default=60,
        min=0.1,
        help="Seconds between two checks for old records.",
    ),
]

CALLBACKS = [
    cfg.MultiStrOpt(
        "allow-callbacks",
        metavar="HOST",
        default=[],
        help="A host, or host:port, to which the server may send callbacks when the status of a "
        "training changes. A request asks for them with the header Callback-URL. May be "
        "given several times.",
    ),
    cfg.StrOpt(
        "callback-secret-file",
        metavar="FILE",
        default="",
        help="File with the key that signs callbacks, whsec_<base64>. The default is "
        "callback.secret in the state directory, which is created when it is first needed.",
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
        help="How many callbacks are sent at once. At most half of them go to one host.",
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
