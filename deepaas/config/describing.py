"""Describes options: for the help, for docs/options.md and for messages about wrong values."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from oslo_config import cfg, types

from deepaas.config.kinds import MAX_BOUNDS, MAX_INTEGER, MAX_SECONDS, Bounds, Seconds

MOST_SHOWN = 80
"""A message shows at most this many characters of a wrong value."""

USUALLY = {"port": "listen-port", "ip": "listen-ip"}
"""The option that is usually meant by a word that is a part of several names."""

CLOSE = 0.75
"""The least similarity (0 to 1) of a misspelt name and the suggested one."""


def flag(option: cfg.Opt) -> str:
    """Return the flag with its inverse or its value, such as `--[no]warm` or `--workers N`."""
    if isinstance(option, cfg.BoolOpt):
        return f"--[no]{option.name}"
    return f"--{option.name} {option.metavar}"


def flags(option: cfg.Opt) -> str:
    """Return the long flag, as `flag` does, and the short one, such as `--workers N, -p`."""
    return flag(option) + (f", -{option.short}" if option.short else "")


def default(option: cfg.Opt) -> str:
    """Return the default with its unit; "" if the option is not set by default."""
    value = option.default if option.sample_default is None else option.sample_default
    if isinstance(value, bool):
        return "on" if value else "off"
    if value in ("", None, []):
        return ""
    if isinstance(option.type, Bounds):
        return f"{value} s"
    if option.metavar == "SECONDS":
        return f"{value:g} s"
    if option.metavar == "BYTES" and isinstance(value, int):
        return _size(value)
    return str(value)


def _size(count: int) -> str:
    for unit, size in (("MiB", 1024**2), ("KiB", 1024)):
        if count and count % size == 0:
            return f"{count} = {count // size} {unit}"
    return str(count)


def expected(option: cfg.Opt) -> str:
    """Return what a value of the option must be, such as "a whole number from 1"."""
    kind = option.type
    if isinstance(kind, Bounds):
        return f"1 to {MAX_BOUNDS} numbers of seconds above 0, such as 0.1,0.5,2"
    if isinstance(kind, Seconds):
        return "a number of seconds" + _range(kind.min, kind.max)
    if isinstance(kind, types.Integer):
        return "a whole number" + _range(kind.min, kind.max)
    if isinstance(kind, types.Boolean):
        return "true or false"
    if isinstance(kind, types.HostAddress):
        return "an IP address or a host name"
    if isinstance(kind, types.String) and kind.choices:
        return f"one of {', '.join(kind.choices)}"
    return "a text"


def _range(least: float | None, most: float | None) -> str:
    low = "" if least is None else f" from {least:g}"
    is_bounded = most is not None and most not in (MAX_SECONDS, MAX_INTEGER)
    return low + (f" to {most}" if is_bounded else "")


def wrong(where: str, option: cfg.Opt, value: object) -> str:
    """Return the error message for a value that was set in `where`."""
    if value in ("", None):
        return f"{where} is empty, but must be {expected(option)}"
    text = str(value)
    shown = text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
    if (most := _exceeded(option, text)) is not None:
        return f"{where} must be at most {most}, and not {shown!r}"
    return f"{where} must be {expected(option)}, and not {shown!r}"


def _exceeded(option: cfg.Opt, text: str) -> int | None:
    """Return the upper bound if the number exceeds it and `expected` does not mention it."""
    if not isinstance(option.type, types.Number):
        return None
    most = MAX_INTEGER if option.type.max is None else int(option.type.max)
    try:
        return most if most in (MAX_SECONDS, MAX_INTEGER) and float(text) > most else None
    except ValueError:
        return None


def nearest(name: str, known: Collection[str]) -> str:
    """Return the name in `known` that `name` is probably a mistake for, or "".

    The known names have dashes. A part that only one of them has, such as "port" of "listen-port",
    also counts.
    """
    plain = name.replace("_", "-").lower()
    close = difflib.get_close_matches(plain, known, n=1, cutoff=CLOSE)
    if close:
        return close[0]
    if USUALLY.get(plain) in known:
        return USUALLY[plain]
    holding = [one for one in known if plain in one.split("-")]
    return holding[0] if len(holding) == 1 else ""
