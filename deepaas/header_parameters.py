"""Parse the parameters of a header such as Content-Type in linear time.

The `email` package of the standard library needs quadratic time, so a header that consists of
semicolons would block all other requests of the server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from deepaas.charsets import is_charset

_CONTINUED = re.compile(r"([\w.!#$&+^`|~-]+)\*(?:([0-9]{1,4})(\*)?)?", re.ASCII)
"""The name of a parameter in an RFC 2231 form: `name*`, `name*0` or `name*0*`."""

MAX_PARAMETERS = 64
"""A header with more parameters is malformed; fewer than ten parameters have a meaning."""

_Pieces = list[tuple[int, str, bool]]
"""The pieces of one parameter: number, or -1; text; whether it is percent-encoded."""


def parameters(value: str) -> dict[str, str]:
    """Return the parameters after the first semicolon, by lower-case name.

    RFC 2231 forms (`name*=utf-8''%C3%A4`, `name*0=a; name*1=b`) are decoded, and override the plain
    form of the same name. The first of several plain values is used. Raises ValueError if a
    parameter has both a numbered and an unnumbered RFC 2231 form, and if there are too many
    parameters.
    """
    found: dict[str, str] = {}
    extended: dict[str, _Pieces] = {}
    for name, text in _named(value):
        match = _CONTINUED.fullmatch(name)
        if match is None:
            found.setdefault(name, text)
            continue
        number = int(match[2]) if match[2] else -1
        extended.setdefault(match[1], []).append((number, text, name.endswith("*")))
    for name, pieces in extended.items():
        found[name] = _joined(name, pieces)
    return found


def clean(text: str) -> str:
    """Return the text with each lone surrogate replaced by U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-8", "surrogatepass").decode(errors="replace")


def _named(value: str) -> Iterator[tuple[str, str]]:
    segments = _segments(value)
    next(segments, None)
    for number, segment in enumerate(segments):
        if number == MAX_PARAMETERS:
            raise ValueError("too many parameters")
        name, equals, text = segment.partition("=")
        name = name.strip().lower()
        if name or equals:
            yield name, _unquoted(text.strip())


def _segments(value: str) -> Iterator[str]:
    """Yield the parts of the value between semicolons; semicolons in double quotes do not count."""
    pending: list[str] = []
    is_open = False
    for piece in value.split(";"):
        pending.append(piece)
        if (piece.count('"') - piece.count('\\"')) % 2:
            is_open = not is_open
        if not is_open:
            yield ";".join(pending)
            pending = []
    if pending:
        yield ";".join(pending)


def _unquoted(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] == '"':
        return text[1:-1].replace("\\\\", "\\").replace('\\"', '"')
    return text


def _joined(name: str, pieces: _Pieces) -> str:
    """Return the value of a parameter that was sent in an RFC 2231 form."""
    numbers = {number for number, _, _ in pieces}
    if -1 in numbers and len(numbers) > 1:
        raise ValueError(f"the parameter {name[:40]!r} has numbered and unnumbered forms")
    pieces.sort(key=lambda piece: piece[0])
    if not any(is_encoded for _, _, is_encoded in pieces):
        return clean("".join(text for _, text, _ in pieces))
    raw = b"".join(
        unquote_to_bytes(text) if is_encoded else text.encode("utf-8", "surrogatepass")
        for _, text, is_encoded in pieces
    )
    parts = raw.split(b"'", 2)
    charset = parts[0].decode("latin-1") if len(parts) == 3 else ""
    data = parts[2] if len(parts) == 3 else raw
    if charset and not is_charset(charset):
        return clean(data.decode("latin-1"))
    return clean(data.decode(charset or "utf-8", "replace"))
