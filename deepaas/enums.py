"""The base of the enumerations whose values people read."""

from __future__ import annotations

import enum


class TextEnum(str, enum.Enum):
    """Members that are their texts, in messages and in JSON too."""

    __str__ = str.__str__
