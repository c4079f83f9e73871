"""Makes the names that clients give to their files safe to use."""

from __future__ import annotations

import re
import unicodedata

from deepaas.file_part import UNNAMED

MAX_BYTES = 255
"""Most bytes of a file's name in UTF-8; it is the limit of most file systems."""

_UNWANTED = ("Cc", "Cs", "Zl", "Zp")
"""Unicode's categories of control characters, surrogates, and line and paragraph separators."""

_EXTENSION = re.compile(r"(?<=.)(?:\.[A-Za-z0-9]{1,16}){1,2}\Z", re.DOTALL)


def base_name(filename: str) -> str:
    """Return a client's file name without folders and control characters, cut to MAX_BYTES.

    Folders may be separated by slashes or backslashes. Returns UNNAMED if no name is left.
    """
    kept = "".join(c for c in filename if unicodedata.category(c) not in _UNWANTED)
    name = kept.replace("\\", "/").rstrip("/").rpartition("/")[2]
    if not name.strip(" ."):
        return UNNAMED
    encoded = name.encode()
    if len(encoded) <= MAX_BYTES:
        return name
    end = extension(name)
    return encoded[: MAX_BYTES - len(end)].decode(errors="ignore") + end


def extension(name: str) -> str:
    """Return the last one or two extensions of a file's name, such as .png or .tar.gz, or "".

    An extension has up to 16 ASCII letters or digits.
    """
    found = _EXTENSION.search(name)
    return found[0] if found else ""
