"""Finds plug-ins: entry points of installed packages."""

from __future__ import annotations

import difflib
from typing import Any

from deepaas.exceptions import ConfigurationError


def load(namespace: str, option: str, name: str) -> Any:
    """Return the object that the entry point `name` of a namespace refers to.

    `option` is the command-line option that has the name. Raises ConfigurationError if there is no
    such plug-in, or if it cannot be loaded. No other plug-in is imported.
    """
    from stevedore import NamedExtensionManager

    # With names=[], stevedore imports nothing.
    found = NamedExtensionManager(namespace, names=[]).list_entry_points()
    points = {point.name: point for point in found}
    if name not in points:
        near = difflib.get_close_matches(name, points, n=1, cutoff=0.5)
        known = ", ".join(sorted(points)) or "none"
        hint = f"did you mean {near[0]}?" if near else f"installed: {known}"
        raise ConfigurationError(f"{option} {name}: there is no plug-in of this name; {hint}")
    try:
        return points[name].load()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ConfigurationError(
            f"{option} {name}: the plug-in cannot be loaded: {reason}"
        ) from error
