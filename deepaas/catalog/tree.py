"""A parsed file as a tree with positions: the same for YAML and for JSON.

Texts are kept as they were written, so nothing is lost if YAML would read a title as a number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from deepaas.enums import TextEnum

MOST_NODES = 20_000
MOST_DEPTH = 20
"""A file with more values, or deeper ones, is not read further."""


class Kind(TextEnum):
    """The kind of a value, as YAML 1.1 and JSON tell them apart."""

    MAPPING = "mapping"
    LIST = "list"
    TEXT = "text"
    NULL = "null"
    BOOLEAN = "boolean"
    NUMBER = "number"
    DATE = "date"


@dataclass
class Node:
    """A value. `line` and `column` count from 1, and `last_line` is its last line."""

    kind: Kind
    line: int = 1
    column: int = 1
    last_line: int = 1
    text: str = ""
    items: list[Node] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)

    @property
    def is_scalar(self) -> bool:
        return self.kind not in (Kind.MAPPING, Kind.LIST)

    @property
    def is_empty(self) -> bool:
        """Return whether nothing was written: null, an empty text, an empty list or mapping."""
        return self.kind is Kind.NULL or not (self.text or self.items or self.entries)

    def all(self, name: str) -> list[Entry]:
        """Return the entries with this key, which may stand in the file more than once."""
        return [entry for entry in self.entries if entry.key == name]

    def plain(self, depth: int = MOST_DEPTH) -> Any:
        """Return the value in JSON types; scalars other than null and booleans are texts."""
        if self.kind is Kind.NULL or depth == 0:
            return None
        if self.kind is Kind.LIST:
            return [item.plain(depth - 1) for item in self.items]
        if self.kind is Kind.MAPPING:
            return {entry.key: entry.value.plain(depth - 1) for entry in self.entries}
        if self.kind is Kind.BOOLEAN:
            return self.text.lower() in ("true", "yes", "on")
        return self.text

    def scalars(self) -> Iterator[Node]:
        """Yield the scalars of a list, or the scalar itself; nothing for a mapping."""
        if self.kind is Kind.LIST:
            for item in self.items:
                if item.is_scalar and not item.is_empty:
                    yield item
        elif self.is_scalar and not self.is_empty:
            yield self


@dataclass
class Entry:
    """One key of a mapping with its value, and the position of the key."""

    key: str
    value: Node
    line: int
    column: int = 1


class UnreadableError(Exception):
    """The text is not YAML, or not JSON. The position counts from 1."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column
