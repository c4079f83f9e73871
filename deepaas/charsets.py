"""The charsets that a request may name."""

from __future__ import annotations

import codecs
import functools

_NOT_CHARSETS = ("idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape")
"""Python's text codecs that are not charsets; some decode very slowly."""


@functools.lru_cache(maxsize=128)
def is_charset(name: str) -> bool:
    try:
        "".encode(name)  # raises LookupError for codecs that do not encode text
        return codecs.lookup(name).name not in _NOT_CHARSETS
    except (LookupError, ValueError):
        return False
