"""JSON that keeps all digits of integers of any size.

orjson reads an integer above 64 bits as a float and refuses to write one. The standard library is
exact, but several times slower, so it is used only where such an integer may be present.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import orjson

_LARGE = 2.0**63
"""orjson reads every smaller integer as an integer."""

MAX_DEPTH = 250
"""Levels; orjson can write slightly more."""


def loads(data: bytes) -> Any:
    """Return the value of a JSON text in UTF-8. Raises ValueError."""
    try:
        value = orjson.loads(data)
    except ValueError:  # a lone surrogate, or invalid JSON
        return _loads_slowly(data)
    return _loads_slowly(data) if has_large_float(value) else value


def _loads_slowly(data: bytes) -> Any:
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("the JSON text is nested too deeply") from None


def dumps(value: object, default: Callable[[Any], Any] | None = None) -> bytes:
    """Return the JSON text, in UTF-8, of a value in JSON types.

    The value may contain `orjson.Fragment`. `default` converts values of other types. Raises
    TypeError for a type that `default` does not convert, and for more than MAX_DEPTH levels.
    """
    try:
        return orjson.dumps(value, default)
    except TypeError:  # a large integer, or a lone surrogate
        if _is_deep(value):
            raise
        return dumps_slowly(value, default)


def dumps_slowly(value: object, default: Callable[[Any], Any] | None = None) -> bytes:
    """Do the same with the standard library alone, at any depth. Raises ValueError for NaN."""

    def simpler(other: Any) -> Any:
        if isinstance(other, orjson.Fragment):
            return json.loads(orjson.dumps(other))
        if default is not None:
            return default(other)
        raise TypeError(f"{type(other).__name__} is not a type of JSON")

    text = json.dumps(value, default=simpler, allow_nan=False, separators=(",", ":"))
    return text.encode()


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [item for one in level if isinstance(one, list | dict) for item in _items(one)]
        if not level:
            return False
    return True


def _items(value: list[Any] | dict[str, Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def has_large_float(value: object) -> bool:
    """Return whether the value contains, at any depth, a float that may be an integer above 64
    bits."""
    pending = [value]
    while pending:
        one = pending.pop()
        if type(one) is float:
            if not -_LARGE < one < _LARGE:
                return True
        elif type(one) is dict:
            pending.extend(one.values())
        elif type(one) is list:
            kinds = list(map(type, one))
            if kinds.count(int) == len(one):  # count() compares by identity first
                continue
            if kinds.count(float) < len(one):
                pending.extend(one)
            elif max(one) >= _LARGE or min(one) <= -_LARGE:
                return True
    return False
