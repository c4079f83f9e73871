"""Check whether HTTP allows a header that a model wants to send (RFC 9110, 5.1 and 5.5)."""

from __future__ import annotations

import re

MAX_VALUE = 8 * 1024
"""Characters; proxies and clients reject responses with much longer headers."""

FRAMING = frozenset(
    {
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that define where a response ends or how the connection is used."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t -~]*")
_MAX_SHOWN = 100  # characters


class ImpossibleHeaderError(Exception):
    """HTTP does not allow the header, or only the server may send it."""

    code = "impossible_header"


def check_header(name: str, value: str) -> None:
    """Raise ImpossibleHeaderError if a model may not send this header."""
    if not _NAME.fullmatch(name):
        raise ImpossibleHeaderError(
            f"The name of the header {name[:_MAX_SHOWN]!a} is not possible in HTTP: it may "
            "contain ASCII letters and digits, and !#$%&'*+-.^_`|~"
        )
    if name.lower() in FRAMING:
        raise ImpossibleHeaderError(f"Only the server may send the header {name}")
    if not _VALUE.fullmatch(value):
        raise ImpossibleHeaderError(
            f"The value of the header {name} is not possible in HTTP: "
            f"{value[:_MAX_SHOWN]!a} has a character that is not printable ASCII"
        )
    if len(value) > MAX_VALUE:
        raise ImpossibleHeaderError(
            f"The value of the header {name} has {len(value)} characters; the limit is {MAX_VALUE}"
        )
