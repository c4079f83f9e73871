"""Bytes of a metadata file to text: encodings, line ends, and marks that do not belong there."""

from __future__ import annotations

import codecs
import itertools
import re

from deepaas.catalog.problems import Edit, Problem, Problems, Severity

MOST_BYTES = 1024 * 1024
"""The rest of a larger file is not read."""

_MOST_MARKS = 20  # further ones are removed without a problem of their own
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
NOT_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x85\u2028\u2029\ufeff]")
_CONFLICT = re.compile(r"^(<{7}|={7}|>{7}|\|{7})( .*)?$", re.MULTILINE)
_TEMPLATE = re.compile(r"\{\{\s*cookiecutter\.|\{%-?\s*(if|for|set|raw)\b")


def decoded(data: bytes, problems: Problems) -> str:
    """Return the text with `\\n` as line ends. Never raises; what is wrong becomes a problem."""
    if len(data) > MOST_BYTES:
        problems.error(
            "too-large",
            f"the file has {len(data):,} bytes, and only the first {MOST_BYTES:,} are read; "
            "move long texts to the README",
        )
        data = data[:MOST_BYTES]
    text = _decode(data, problems)
    if "\r" in text:
        problems.error("line-ends", "the lines end with CR LF; save the file with LF line ends")
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _without_marks(text, problems)
    found = NOT_TEXT.search(text)
    if found:
        line = text.count("\n", 0, found.start()) + 1
        column = found.start() - text.rfind("\n", 0, found.start())
        code = f"U+{ord(found[0]):04X}"
        problems.error("control", f"remove the control character {code}", line, column)
        text = NOT_TEXT.sub(" ", text)
    return text


def is_template(text: str) -> bool:
    """Return whether this is a template of a metadata file, and not one of a module."""
    return _TEMPLATE.search(text) is not None


def _decode(data: bytes, problems: Problems) -> str:
    if data.startswith(codecs.BOM_UTF8):
        problems.error("bom", "the file begins with a byte order mark; save it without one", 1, 1)
        data = data[len(codecs.BOM_UTF8) :]
    zeros = data[:200].count(0)
    if data.startswith(_UTF16) or zeros > len(data[:200]) // 4:
        problems.error("encoding", "the file is in UTF-16; save it in UTF-8")
        if data.startswith(_UTF16):
            name = "utf-16"
        else:
            name = "utf-16-be" if data[:1] == b"\0" else "utf-16-le"
        return data.decode(name, errors="replace")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if error.end >= len(data) - 3 and len(data) == MOST_BYTES:  # a character was cut
            return data[: error.start].decode()
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        problems.error("encoding", "the file is not in UTF-8; save it in UTF-8", line, column)
        return data.decode("cp1252", errors="replace")


def _without_marks(text: str, problems: Problems) -> str:
    """Remove the marks of a merge conflict; the lines between them are all kept."""
    if "<<<<<<<" not in text:
        return text
    for found in itertools.islice(_CONFLICT.finditer(text), _MOST_MARKS):
        line = text.count("\n", 0, found.start()) + 1
        message = f"the mark {found[1]} of a merge conflict was left in the file; remove it"
        edit = Edit(line, line, ())
        problems.add(Problem(Severity.ERROR, "conflict", message, line, 1, edits=(edit,)))
    return _CONFLICT.sub("", text)
