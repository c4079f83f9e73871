"""Builds multipart bodies byte by byte, and reads them."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deepaas.file_part import FilePart
from deepaas.http.forms import Form

CONTENT_TYPE = "multipart/form-data; boundary=B"
END = b"--B--\r\n"


def part(parameters: str | bytes, body: bytes = b"", *headers: str) -> bytes:
    """Return a part with these Content-Disposition parameters and these additional headers."""
    if isinstance(parameters, str):
        parameters = parameters.encode()
    head = b"Content-Disposition: form-data; " + parameters
    return b"\r\n".join((b"--B", head, *(header.encode() for header in headers), b"", body, b""))


class Uploads:
    """A directory for the files of forms; `files` lists them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.files: list[io.FileIO] = []

    def new(self, extension: str) -> tuple[str, io.FileIO]:
        path = self._directory / f"{len(self.files)}{extension}"
        self.files.append(io.FileIO(path, "wb"))
        return str(path), self.files[-1]

    def read(
        self,
        *chunks: bytes,
        content_type: str = CONTENT_TYPE,
        parts: int = 100,
        text: int = 10_000,
    ) -> list[tuple[Any, ...]]:
        """Read a form from chunks; return its parts, with the contents of files."""
        form = Form(content_type, parts, text, self.new)
        try:
            for chunk in chunks:
                form.feed(chunk)
            return self._contents(form.finish())
        finally:
            form.close()
            assert all(file.closed for file in self.files)

    def _contents(self, parts: Iterable[tuple[str, str | FilePart]]) -> list[tuple[Any, ...]]:
        return [
            (name, part)
            if isinstance(part, str)
            else (name, Path(part.path).read_bytes(), part.content_type, part.filename)
            for name, part in parts
        ]
