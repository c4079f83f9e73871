"""The base class of enumerations whose values are shown to people."""

from __future__ import annotations

import enum


class TextEnum(str, enum.Enum):
    """An enumeration whose members are texts, also in messages and in JSON."""

    __str__ = str.__str__
