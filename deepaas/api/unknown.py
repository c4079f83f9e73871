"""Reports the ignored arguments of requests: to the clients, and once in the log."""

from __future__ import annotations

import logging
from urllib.parse import quote

from aiohttp import web

from deepaas.model.v2.exchange import Unknown

logger = logging.getLogger("deepaas.api")

HEADER = "Warning"
_PLAIN = "()[],.-_"
_JSON_AS_FORM = "the body looks like JSON, so send it with Content-Type: application/json"


def warn(answer: web.StreamResponse, unknown: Unknown | None) -> None:
    """Name the ignored arguments in a header of the response."""
    if unknown is not None:
        answer.headers.add(HEADER, f'299 - "{_sentence(unknown)}"')


def _sentence(unknown: Unknown) -> str:
    """Return a sentence about ignored arguments, in characters that a quoted header text allows."""
    names = ", ".join(quote(name, safe=_PLAIN) for name in unknown.names)
    more = f"{unknown.others} {'more' if names else ''} whose names are not shown"
    parts = [names] if names else []
    parts += [" ".join(more.split())] if unknown.others else []
    hint = f"; {_JSON_AS_FORM}" if unknown.is_json_sent_as_form else ""
    return f"Unknown arguments are ignored: {' and '.join(parts)}{hint}"


class UnknownArguments:
    """A logger of unknown arguments: each name once per function of a model, at most `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._logged: dict[tuple[str, str], set[str]] = {}

    def note(self, model: str, function: str, unknown: Unknown | None) -> None:
        if unknown is None:
            return
        logged = self._logged.setdefault((model, function), set())
        new = [name for name in unknown.names if name not in logged][: self._most - len(logged)]
        if not new:
            return
        logged.update(new)
        end = "; no further names are logged" if len(logged) >= self._most else ""
        names = ", ".join(new)
        logger.warning(
            "%s of model %s ignores unknown arguments: %s%s", function, model, names, end
        )
