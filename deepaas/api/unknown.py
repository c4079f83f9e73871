"""Tells callers, and once the log, which arguments of requests were ignored."""

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
    """Name the ignored arguments in a header of the answer."""
    if unknown is not None:
        answer.headers.add(HEADER, f'299 - "{_sentence(unknown)}"')


def _sentence(unknown: Unknown) -> str:
    """What was ignored, in characters that a quoted text of a header can hold."""
    names = ", ".join(quote(name, safe=_PLAIN) for name in unknown.names)
    more = f"{unknown.others} {'more' if names else ''} whose names are not shown"
    parts = [names] if names else []
    parts += [" ".join(more.split())] if unknown.others else []
    hint = f"; {_JSON_AS_FORM}" if unknown.is_json_sent_as_form else ""
    return f"Unknown arguments are ignored: {' and '.join(parts)}{hint}"


class UnknownArguments:
    """Logs the name of each unknown argument once for a function of a model, and `most` of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._told: dict[tuple[str, str], set[str]] = {}

    def note(self, model: str, function: str, unknown: Unknown | None) -> None:
        if unknown is None:
            return
        told = self._told.setdefault((model, function), set())
        new = [name for name in unknown.names if name not in told][: self._most - len(told)]
        if not new:
            return
        told.update(new)
        end = "; no further names are logged" if len(told) >= self._most else ""
        names = ", ".join(new)
        logger.warning(
            "%s of model %s ignores unknown arguments: %s%s", function, model, names, end
        )
