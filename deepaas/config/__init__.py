"""Declares every option of the server once: its name, type, default and help.

Each module of this package declares the options of one or two groups.
"""

from __future__ import annotations

from collections.abc import Sequence

from oslo_config import cfg, types

from deepaas.config import reading
from deepaas.config.kinds import Seconds
from deepaas.config.limits import LIMITS
from deepaas.config.logs import LOGGING
from deepaas.config.metrics import METRICS
from deepaas.config.models import MODELS
from deepaas.config.predictions import PREDICTIONS
from deepaas.config.reading import Options, with_places
from deepaas.config.server import SERVER
from deepaas.config.sign_in import SIGN_IN
from deepaas.config.trainings import CALLBACKS, TRAININGS

__all__ = ["ALL", "ARGUMENTS", "GROUPS", "Options", "Seconds", "list_opts", "load", "with_places"]

GROUPS = {
    "Server": SERVER,
    "Sign-in": SIGN_IN,
    "Models": MODELS,
    "Predictions": PREDICTIONS,
    "Trainings": TRAININGS,
    "Callbacks": CALLBACKS,
    "Limits": LIMITS,
    "Metrics": METRICS,
    "Logging": LOGGING,
}
"""The options by group; the help shows them in this order."""

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
    """Return all options as one group, for oslo.config's sample generator."""
    return [("DEFAULT", ALL)]


def load(argv: Sequence[str]) -> Options:
    """Read and return the options; see `reading.load`."""
    return reading.load(argv, GROUPS, ARGUMENTS)
