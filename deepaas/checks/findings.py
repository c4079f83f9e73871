"""Findings about a model, and how the lines of the server's log become findings."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any

from deepaas.enums import TextEnum


class Severity(TextEnum):
    """How severe a finding is. A note alone does not make the check fail."""

    ERROR = "error"  # the model is not served, or a valid request fails
    WARNING = "warning"  # it is served, but not as it is declared
    NOTE = "note"  # it could not be tried, or may need attention


@dataclass(frozen=True)
class Finding:
    """A mistake: `what` is wrong, at which `place` (`file:line`, or "" if it is not known), `why`
    that matters, and what to `write`.

    `code` names the kind of finding for programs.
    """

    severity: Severity
    code: str
    place: str
    what: str
    why: str
    write: str


@dataclass
class Report:
    """What a check has found out about one model.

    `seconds` is the time until the model was ready (None: it never was), `memory` the most bytes
    that its worker has used, `threads` the number of threads of the worker after the requests.
    """

    model: str
    target: str
    findings: list[Finding] = field(default_factory=list)
    requests: int = 0
    seconds: float | None = None
    memory: int = 0
    threads: int = 0
    trained: bool = False

    def add(
        self, severity: Severity, code: str, place: str, what: str, why: str, write: str
    ) -> None:
        """Add a finding, unless the same was found before."""
        if not any((one.code, one.place, one.what) == (code, place, what) for one in self.findings):
            self.findings.append(Finding(severity, code, place, what, why, write))

    def count(self, severity: Severity) -> int:
        return sum(one.severity == severity for one in self.findings)

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


# --- lines of the log

_PLACE = re.compile(r"(?P<place>[^\s:][^:]*\.py:\d+): (?P<text>.*)", re.DOTALL)
_REMEDY = re.compile(r"(write|add|remove|rename|move|give|did you mean|install) ?\b")

_NOT_SERVED = "the server cannot serve the model"
_NO_EFFECT = "requests fail, or the declaration has no effect"

_REMEDIES = {
    "SyntaxError": "correct the syntax of this line",
    "IndentationError": "correct the indentation of this line",
    "NameError": "import or define this name above the line that uses it",
    "SystemExit": "remove the call of sys.exit; a model that cannot be loaded raises an exception",
    "FileNotFoundError": 'write Path(__file__).parent / "name" for a file of the package, or '
    'deepaas.training.weights_directory() / "name" for trained weights',
    "ModuleNotFoundError": "add the package to the dependencies in pyproject.toml, and install it",
}


def of_start(line: str) -> Finding:
    """Return the finding for a cause why the model cannot be served, such as `cannot be loaded:
    model.py:4: ...`."""
    phase, _, rest = line.partition(": ")
    place, what, write = _parts(rest or line)
    if not write:
        kind = what.partition(":")[0]
        write = _REMEDIES.get(kind) or _of_phase(phase)
        if "must not be set for required fields" in what:
            write = "remove required=True, or remove load_default"
    what = f"the model {phase}: {what}" if rest else f"the model {line}"
    return Finding(Severity.ERROR, "not_served", place, what, _NOT_SERVED, write)


def of_mistake(line: str) -> Finding:
    """Return the finding for a mistake that the server reports when it loads the model."""
    place, what, write = _parts(line)
    write = write or "correct this line; docs/mistakes.md has examples"
    return Finding(Severity.WARNING, "mistake", place, what, _NO_EFFECT, write)


def _of_phase(phase: str) -> str:
    if "--start-timeout" in phase:
        return "load less in warm and when the module is imported, or give a longer --start-timeout"
    if phase.startswith("cannot be "):
        return "correct this line so that it raises no exception"
    return "correct the code that ends the process while the model is loaded"


def _parts(line: str) -> tuple[str, str, str]:
    """Return the place, the mistake and the remedy in a line; "" for what is not in it."""
    found = _PLACE.fullmatch(line)
    place, text = (found["place"], found["text"]) if found else ("", line)
    what, separator, remedy = text.rpartition("; ")
    if separator and _REMEDY.match(remedy):
        return place, what, remedy.removesuffix("?")
    return place, text, ""
