"""Option types besides those of oslo.config."""

from __future__ import annotations

import math
from typing import Any

from oslo_config import cfg, types

MAX_SECONDS = 10**9
"""The upper bound of an option in seconds: about thirty years. Every timer supports it."""


MAX_MILLISECONDS = 10**9

MAX_INTEGER = 2**63 - 1
"""The upper bound of every other number: C code stores these numbers in 64 bits."""


class Seconds(types.Float):
    """A finite number of seconds. A timeout of nan or inf seconds would never expire."""

    def __init__(self, min: float) -> None:
        super().__init__(min=min, max=MAX_SECONDS, type_name="number of seconds")

    def __call__(self, value: Any) -> Any:
        seconds = super().__call__(value)
        if seconds is not None and not math.isfinite(seconds):
            raise ValueError(f"Should be a number of seconds, and not {value}")
        return seconds


MAX_BOUNDS = 50


class Bounds(types.List):
    """Upper bounds of a histogram's buckets, in seconds; the value is in ascending order."""

    def __init__(self) -> None:
        super().__init__(Seconds(min=1e-6), type_name="list of seconds")

    def __call__(self, value: Any) -> list[float]:
        bounds = sorted(set(super().__call__(value)))
        if not 0 < len(bounds) <= MAX_BOUNDS:
            raise ValueError(f"Should be 1 to {MAX_BOUNDS} numbers of seconds")
        return bounds


def seconds(name: str, *, default: float, help: str, min: float = 0) -> cfg.Opt:
    """Return an option in seconds."""
    return cfg.Opt(name, type=Seconds(min), metavar="SECONDS", default=default, help=help)
