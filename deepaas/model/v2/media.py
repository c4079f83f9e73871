"""Media types: choose the one that a client prefers among those that a model can return."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Sequence

ANY = "*/*"
JSON = "application/json"


PATTERN = r"[A-Za-z0-9_!#$&^.+-]+/([A-Za-z0-9_!#$&^.+-]+|\*)([ \t]*;[ -~]*)?"
"""A pattern of the media types that a client may ask for by name, besides `*/*`."""

MAX_CHARACTERS = 1000
_MEDIA_TYPE = re.compile(PATTERN)


def is_media_type(text: str) -> bool:
    """Return whether `text` is valid in a Content-Type header: type/subtype, with optional
    parameters.

    A model may offer a type for all subtypes, such as `image/*`.
    """
    return len(text) <= MAX_CHARACTERS and _MEDIA_TYPE.fullmatch(text) is not None


def best_match(accept: str, choices: Sequence[str]) -> str | None:
    """Return the choice that an Accept header (RFC 9110, 12.5.1) prefers, or None if it accepts
    none.

    Of choices with equal quality, the first is returned.
    """
    ranges = [_parse(part) for part in accept.split(",") if part.strip()]
    best: str | None = None
    best_quality = 0.0
    for choice in choices:
        quality = _quality(choice, ranges)
        if quality > best_quality:
            best, best_quality = choice, quality
    return best


def _parse(part: str) -> tuple[str, float]:
    media_range, *parameters = (piece.strip() for piece in part.split(";"))
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                quality = min(1.0, max(0.0, float(value)))
            except ValueError:
                quality = 0.0
    return media_range.lower(), quality


def _quality(choice: str, ranges: Sequence[tuple[str, float]]) -> float:
    """Return the quality that the most specific matching range gives to `choice`; 0 if none
    matches.

    A choice such as `image/*` also matches each more specific range, such as `image/png`.
    """
    essence = choice.partition(";")[0].strip().lower()
    main = essence.partition("/")[0]
    of_all = f"{main}/*"
    by_range: dict[str, float] = {}
    for media_range, quality in ranges:
        by_range.setdefault(media_range, quality)
    if essence in by_range:
        return by_range[essence]
    if essence == of_all:
        below = [q for name, q in by_range.items() if name.startswith(f"{main}/") and q > 0]
        if below:
            return max(below)
    return by_range.get(of_all, by_range.get(ANY, 0.0))


def specific_type(media_type: str, filename: str) -> str:
    """Return the type of a file, guessed from its name, if `media_type` stands for all subtypes.

    Return `media_type` if it names a subtype, or if the name does not tell the type.
    """
    main, _, subtype = media_type.partition("/")
    if subtype != "*":
        return media_type
    guessed, encoding = mimetypes.guess_type(filename)
    if guessed is None or encoding or guessed.partition("/")[0] != main.lower():
        return media_type
    return guessed
