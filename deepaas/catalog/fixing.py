"""Mends a metadata file: applies the edits of its problems."""

from __future__ import annotations

import difflib

from deepaas.catalog.metadata import Metadata
from deepaas.catalog.problems import Edit, Problems, Replacement
from deepaas.catalog.text import decoded


def fixed(data: bytes, metadata: Metadata) -> str:
    """Return the text of the file in UTF-8 with all edits applied that do not overlap."""
    lines = decoded(data, Problems()).split("\n")
    taken: set[int] = set()
    edits: list[Edit] = []
    for problem in metadata.problems:
        for edit in problem.edits:
            whole = edit if isinstance(edit, Edit) else _line_edit(edit, lines)
            if whole is None:
                continue
            span = set(range(whole.first, whole.last + 1))
            if not span & taken:
                taken |= span
                edits.append(whole)
    for edit in sorted(edits, key=lambda one: one.first, reverse=True):
        lines[edit.first - 1 : edit.last] = edit.lines
    return "\n".join(lines)


def patch(filename: str, data: bytes, metadata: Metadata) -> str:
    """Return the edits as a unified patch; "" if there are none.

    Raises UnicodeDecodeError for a file that is not in UTF-8, because a patch has one encoding.
    """
    before = _lines(data.decode())
    after = _lines(fixed(data, metadata))
    lines = difflib.unified_diff(before, after, f"a/{filename}", f"b/{filename}")
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )


def _lines(text: str) -> list[str]:
    """Return the lines with their line feeds. Unlike splitlines, it splits at nothing else."""
    lines = [f"{line}\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _line_edit(edit: Replacement, lines: list[str]) -> Edit | None:
    line = lines[edit.line - 1]
    at = line.find(edit.old, max(0, edit.column - 1))
    if at < 0:
        return None
    mended = line[:at] + edit.new + line[at + len(edit.old) :]
    return Edit(edit.line, edit.line, (mended,))
