"""Every option of the server, declared once: flags, `deepaas.conf`, defaults and help.

Each module of this package declares the options of one or two groups.
"""

from __future__ import annotations

from collections.abc import Sequence

from oslo_config import cfg, types

import deepaas
from deepaas.config.kinds import MAX_INTEGER, Seconds
from deepaas.config.limits import LIMITS
from deepaas.config.logs import LOGGING
from deepaas.config.models import MODELS
from deepaas.config.predictions import PREDICTIONS
from deepaas.config.server import SERVER
from deepaas.config.trainings import CALLBACKS, TRAININGS

__all__ = ["ALL", "ARGUMENTS", "GROUPS", "Seconds", "list_opts", "load"]

GROUPS = {
    "Server": SERVER,
    "Models": MODELS,
    "Predictions": PREDICTIONS,
    "Trainings": TRAININGS,
    "Callbacks": CALLBACKS,
    "Limits": LIMITS,
    "Logging": LOGGING,
}
"""The options by the group in which people look for them."""

ARGUMENTS = [
    cfg.MultiOpt(
        "model",
        item_type=types.String(),
        positional=True,
        default=[],
        help="A model that is not installed: module:attribute or path/to/file.py[:attribute].",
    ),
]

ALL = [option for options in GROUPS.values() for option in options]


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
