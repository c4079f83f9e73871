"""Media types: which of those that a model can return a client would like best."""

from __future__ import annotations

import re
from collections.abc import Sequence

ANY = "*/*"
JSON = "application/json"


_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(\s*;[ -~]*)?", re.ASCII)


def is_media_type(text: str) -> bool:
    """Whether `text` can stand in a Content-Type header: type/subtype, maybe with parameters."""
    return _MEDIA_TYPE.fullmatch(text) is not None


def best_match(accept: str, choices: Sequence[str]) -> str | None:
    """The choice that an Accept header (RFC 9110, 12.5.1) prefers; None if it takes none of them.

    Of choices that are liked equally the first wins.
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
    """The quality that the most specific of the ranges gives to `choice`; 0 if none fits."""
    essence = choice.partition(";")[0].strip().lower()
    main = essence.partition("/")[0]
    found, specificity = 0.0, -1
    for media_range, quality in ranges:
        if media_range == essence:
            fits = 2
        elif media_range == f"{main}/*":
            fits = 1
        elif media_range == ANY:
            fits = 0
        else:
            continue
        if fits > specificity:
            found, specificity = quality, fits
    return found
