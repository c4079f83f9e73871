"""Faster validation of lists of plain numbers."""

from __future__ import annotations

import copy
import math
from typing import Any

from marshmallow import fields


class FastList(fields.List):
    """A List of plain numbers that returns a copy of a list that is already valid.

    marshmallow validates every item separately. For a list of floats (or integers), the types alone
    show that the list is valid. Anything else is passed to marshmallow.
    """

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> list[Any]:
        if type(value) is list:
            plain = float if type(self.inner) is fields.Float else int
            # count() compares by identity first, so this is the fastest way to compare types.
            if list(map(type, value)).count(plain) == len(value) and _all_finite(value):
                return value.copy()
        deserialized: list[Any] = super()._deserialize(value, attr, data, **kwargs)
        return deserialized


def _all_finite(numbers: list[Any]) -> bool:
    """Return whether all numbers are finite. A finite sum proves it; otherwise check each one."""
    total = sum(numbers)
    return total - total == 0 or all(map(math.isfinite, numbers))


def with_fast_path(field: fields.Field) -> fields.Field:
    """Return the field, or a copy that loads plain lists of numbers faster with the same result."""
    if type(field) is not fields.List:
        return field
    inner = field.inner
    if type(inner) is fields.List:
        fast_inner = with_fast_path(inner)
        if fast_inner is inner:
            return field
        field = copy.copy(field)
        field.inner = fast_inner
        return field
    if type(inner) not in (fields.Float, fields.Integer) or inner.validators:
        return field
    fast = copy.copy(field)
    fast.__class__ = FastList
    return fast
