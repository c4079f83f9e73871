"""Find the arguments of a request that the model does not declare: they are ignored and reported.

A name comes from the client, and may in fact be a value: if a body that is not a form is sent as a
form, all of it is parsed as a name. So only texts that look like names are shown; the others are
counted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from itertools import islice
from typing import Any, NamedTuple

from deepaas.model.v2.exchange import Call, Unknown

MOST_NAMES = 10
"""Maximum number of names that are shown for one request."""

MOST_LOOKED_AT = 100

MOST_BYTES = 64 * 1024
"""A larger body is not parsed if only its names are needed."""

_NAME = re.compile(r"[^\W\d][\w.,()\[\]-]{0,63}")
_FORM = "application/x-www-form-urlencoded"


class Place(NamedTuple):
    """The values in one part of a request, and the names of the arguments that it may hold."""

    location: str
    values: Mapping[str, Any]
    known: Set[str]


def is_worth_reading(location: str, call: Call) -> bool:
    """Return whether to parse a place, in which no argument was looked up, to find unknown
    names."""
    if location == "query":
        return bool(call.query)
    if call.form is not None:
        return location == "form"
    kind = _FORM if location == "form" else "json"
    return 0 < len(call.body) <= MOST_BYTES and kind in call.content_type.lower()


def unknown_in(places: Sequence[Place], call: Call) -> Unknown:
    """Return the names in the places that are not known."""
    names: list[str] = []
    others = 0
    for place in places:
        strange = place.values.keys() - place.known
        found = islice((name for name in place.values if name in strange), MOST_LOOKED_AT)
        shown = [name for name in found if _may_be_shown(name, place, call)]
        shown = shown[: MOST_NAMES - len(names)]
        names += shown
        others += len(strange) - len(shown)
    return Unknown(list(dict.fromkeys(names)), others, _is_json_sent_as_form(call))


def _may_be_shown(name: str, place: Place, call: Call) -> bool:
    """Return whether this is a name, and not a text without a name (which may be a secret)."""
    if not _NAME.fullmatch(name):
        return False
    if place.location == "json" or (place.location == "form" and call.form is not None):
        return True
    return any(value.strip("=") for value in place.values[name])


def _is_json_sent_as_form(call: Call) -> bool:
    is_form = call.form is None and call.content_type.lower().startswith(_FORM)
    return is_form and call.body.lstrip()[:1] in (b"{", b"[")
