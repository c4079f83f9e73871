"""The texts of arguments in docstrings of the Google, NumPy and Sphinx style."""

from __future__ import annotations

import inspect
from typing import Any

MOST_CHARACTERS = 64 * 1024
"""A longer docstring is not read."""


def texts_of(documented: Any) -> dict[str, str]:
    """Return the text of each parameter or attribute in a docstring; {} if there are none."""
    text = getattr(documented, "__doc__", None)
    if not isinstance(text, str) or "\n" not in text or len(text) > MOST_CHARACTERS:
        return {}
    from docstring_parser import parse

    try:
        found = parse(inspect.cleandoc(text))
    except Exception:  # a text that the parser does not understand describes nothing
        return {}
    texts: dict[str, str] = {}
    for one in found.params:
        if one.description:
            for name in one.arg_name.split(","):  # NumPy style: x, y : float
                texts.setdefault(name.strip().lstrip("*"), " ".join(one.description.split()))
    return texts
