"""What is wrong with a metadata file, where, and what to write."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from deepaas.enums import TextEnum


class Severity(TextEnum):
    """An error has to be mended; a warning is advice."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Edit:
    """The lines `first` to `last` (from 1, both included) become `lines`.

    With `last` = `first` - 1, the lines are inserted before `first`.
    """

    first: int
    last: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Replacement:
    """In line `line`, the text `old`, at `column` or after it, becomes `new`."""

    line: int
    column: int
    old: str
    new: str


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong; `message` says what to write.

    `code` is a stable word for programs. `line` and `column` count from 1; 0 means the whole file.
    `field` is the path of the field, such as `links.source_code`, or "". `edits` mend the file.
    """

    severity: Severity
    code: str
    message: str
    line: int = 0
    column: int = 0
    field: str = ""
    edits: tuple[Edit | Replacement, ...] = dataclasses.field(default=(), compare=False)

    def as_dict(self) -> dict[str, object]:
        """Return the problem in JSON types."""
        return {
            "severity": str(self.severity),
            "code": self.code,
            "message": self.message,
            "line": self.line,
            "column": self.column,
            "field": self.field,
        }


class Problems:
    """Collects the problems of one file, up to a limit.

    `lines` are those of a YAML file; only in them, edits may replace or remove whole lines.
    """

    MOST = 200

    def __init__(self, lines: Sequence[str] = ()) -> None:
        self.found: list[Problem] = []
        self.lines = lines

    def error(
        self, code: str, message: str, line: int = 0, column: int = 0, name: str = ""
    ) -> None:
        self.add(Problem(Severity.ERROR, code, message, line, column, name))

    def warning(
        self, code: str, message: str, line: int = 0, column: int = 0, name: str = ""
    ) -> None:
        self.add(Problem(Severity.WARNING, code, message, line, column, name))

    def add(self, problem: Problem) -> None:
        if len(self.found) < self.MOST and problem not in self.found:
            self.found.append(problem)

    def sorted(self) -> tuple[Problem, ...]:
        """Return the problems in the order of their lines."""
        return tuple(sorted(self.found, key=lambda one: (one.line, one.column)))
