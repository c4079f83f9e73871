"""The headers that may differ between requests which ask for the same.

A proxy gives each request trace headers and the address of its client, and the length of the body
differs. Without the values of these headers, the heads of such requests are equal.
"""

from __future__ import annotations

import re

NAMES = ("traceparent", "tracestate", "baggage", "x-request-id", "date", "content-length")
"""Besides these, all headers whose names begin with X-Forwarded- may differ."""

_HEADER = re.compile(
    rb"(\r\n(?=[tbxdc])(?:%b|x-forwarded-[a-z-]+): )([\t -~]*)(?=\r\n)" % "|".join(NAMES).encode(),
    re.IGNORECASE,
)


def without_values(head: bytes) -> tuple[bytes, list[bytes]]:
    """Return a head without the values of these headers, and the values in their order.

    A header in an unusual form, such as one with bytes that are not ASCII, keeps its value.
    """
    parts = _HEADER.split(head)
    values = parts[2::3]
    del parts[2::3]
    return b"".join(parts), values


def names_in(head: bytes) -> list[str]:
    """Return the names, in lower case, whose values `without_values` returns."""
    return [name[2:-2].decode().lower() for name, _ in _HEADER.findall(head)]
