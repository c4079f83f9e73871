"""The kinds of values that options have, besides those of oslo.config."""

from __future__ import annotations

import math
from typing import Any

from oslo_config import cfg, types

MAX_SECONDS = 10**9
"""The most that an option in seconds may be: some thirty years, which every timer can count."""


MAX_MILLISECONDS = 10**9

MAX_INTEGER = 2**63 - 1
"""The most that any other number may be, as the programs in C behind it count with 64 bits."""


class Seconds(types.Float):
    """A finite number of seconds. A time of nan or inf seconds would never be over."""

    def __init__(self, min: float) -> None:
        super().__init__(min=min, max=MAX_SECONDS, type_name="number of seconds")

    def __call__(self, value: Any) -> Any:
        seconds = super().__call__(value)
        if seconds is not None and not math.isfinite(seconds):
            raise ValueError(f"Should be a number of seconds, and not {value}")
        return seconds


def seconds(name: str, *, default: float, help: str, min: float = 0) -> cfg.Opt:
    """An option in seconds."""
    return cfg.Opt(name, type=Seconds(min), metavar="SECONDS", default=default, help=help)
