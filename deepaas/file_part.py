"""A part of a multipart form that is stored in a file; the server makes it, a worker reads it."""

from __future__ import annotations

from dataclasses import dataclass

UNNAMED = "unnamed"
"""The `original_filename` of a file if the client sent no usable name."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """A part of a form that the server has stored in a file, with the client's name and type for
    it.

    `filename` is empty if the client sent no name or an empty one; then the argument decides
    whether the part is a file. `content_type` is empty if the client sent no type. A part that is
    not a file is read into memory; `max_in_memory` limits the total bytes of all such parts of a
    form, 0 means no limit.
    """

    path: str
    content_type: str
    filename: str
    max_in_memory: int = 0
