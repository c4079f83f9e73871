"""Prints results, or saves them in files."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import json
import mimetypes
import os
import secrets
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import click

from deepaas.client import Response
from deepaas.client.http import without_envelope
from deepaas.client.interface import JSON, NDJSON
from deepaas.commands.calling.settings import USAGE, CallError
from deepaas.commands.calling.text import printable, printable_line, say

_EXTENSIONS = {JSON: ".json", NDJSON: ".ndjson", "text/plain": ".txt", "image/jpeg": ".jpg"}


def line_of(value: Any) -> bytes:
    """Return a value as a line of JSON. A lone surrogate is written as JSON escapes it."""
    text = json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace") + b"\n"


@dataclass
class Results:
    """Where results go: `output` is a path or "", `as_json` is the option --json.

    With `several`, each result is a line of JSON with the name of its file, or a file in the
    directory `output`.
    """

    output: str = ""
    as_json: bool = False
    several: bool = False
    stream: BinaryIO = field(default_factory=lambda: sys.stdout.buffer)
    _used: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._is_directory = bool(self.output) and (
            self.several or self.output.endswith("/") or os.path.isdir(self.output)
        )
        if self._is_directory and os.path.exists(self.output) and not os.path.isdir(self.output):
            raise click.UsageError(
                f"--output {self.output} is a file; several results need a directory"
            )

    def value(self, value: Any) -> None:
        """Print a value: a text as it is unless --json is given, any other value as JSON.

        A terminal gets control characters as escapes.
        """
        if isinstance(value, str) and not self.as_json:
            self._text(value + "\n")
        else:
            self._line(value)

    def row(self, text: str) -> None:
        """Print a text as one line, with control characters and line breaks as escapes."""
        self._write(printable_line(text).encode("utf-8", "backslashreplace") + b"\n")

    def entry(self, name: str, **facts: Any) -> None:
        """Print the line about one of several results."""
        self._line({"file": name, **facts})

    async def take(self, response: Response, name: str) -> dict[str, Any]:
        """Print or save a response, and return what the line about it says if there are several.

        `name` is that of the file that was sent, or "".
        """
        if self.output and self.output != "-":
            return await self._save(response, name)
        if response.media_type == NDJSON:
            return await self._items(response)
        if response.media_type == JSON:
            body = await response.json()
            shown = body if self.as_json else without_envelope(body)
            if not self.several:
                self.value(shown)
            return {"result": shown}
        return await self._content(response)

    async def _items(self, response: Response) -> dict[str, Any]:
        items = []
        async for item in response.items():
            if self.several:
                items.append(item)
            else:
                self.value(item)
        return {"result": items}

    async def _content(self, response: Response) -> dict[str, Any]:
        """Print a result that is not JSON."""
        is_text = response.media_type.startswith("text/")
        if self.several or self.as_json:
            if is_text:
                text = (await response.read()).decode("utf-8", "replace")
                if not self.several:
                    self.value(text)
                return {"result": text}
            raise CallError(
                f"the result is {response.media_type}, which JSON cannot hold; "
                "save it with --output",
                USAGE,
            )
        if not is_text and self.stream.isatty() and not self.output:
            raise CallError(
                f"the result is {response.media_type}; save it with --output FILE, "
                "or print it with --output -",
                USAGE,
            )
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        async for data in response.chunks():
            if is_text and self.stream.isatty() and not self.output:
                self._text(decoder.decode(data))
            else:
                self._write(data)
        return {}

    async def _save(self, response: Response, name: str) -> dict[str, Any]:
        path = self._path_for(response.media_type, name)
        size = await save(path, self._saved_form(response))
        facts = {"output": path, "media_type": response.media_type, "size": size}
        if not self.several:
            if self.as_json:
                self._line(facts)
            else:
                say(f"saved {path} ({response.media_type}, {size} bytes)")
        return facts

    async def _saved_form(self, response: Response) -> AsyncIterator[bytes]:
        """Yield the content of the file: with JSON the value alone, unless --json is given."""
        if response.media_type == JSON and not self.as_json:
            yield line_of(without_envelope(await response.json()))
        elif response.media_type == NDJSON:
            async for item in response.items():
                yield line_of(item)
        else:
            async for data in response.chunks():
                yield data

    def _path_for(self, media_type: str, name: str) -> str:
        """Return where to save. In a directory no file is replaced, which may be one to send."""
        if not self._is_directory:
            return self.output
        stem = os.path.splitext(os.path.basename(name))[0] or "result"
        extension = _EXTENSIONS.get(media_type) or mimetypes.guess_extension(media_type) or ""
        candidate, number = stem + extension, 1
        while candidate in self._used or os.path.lexists(os.path.join(self.output, candidate)):
            number += 1
            candidate = f"{stem}-{number}{extension}"
        self._used.add(candidate)
        return os.path.join(self.output, candidate)

    def _line(self, value: Any) -> None:
        line = line_of(value)
        self._write(printable(line.decode()).encode() if self.stream.isatty() else line)

    def _text(self, text: str) -> None:
        shown = printable(text) if self.stream.isatty() else text
        self._write(shown.encode("utf-8", "backslashreplace"))

    def _write(self, data: bytes) -> None:
        self.stream.write(data)
        self.stream.flush()


async def save(path: str, chunks: AsyncIterator[bytes]) -> int:
    """Write chunks to a file as they come, and return their size. Missing folders are made.

    A file that is there already is replaced when all chunks have come; if it fails, it stays as it
    was. A device or a pipe is written directly. Raises CallError if the file cannot be written.
    """
    size = 0
    try:
        with _replaced(path) as file:
            async for data in chunks:
                left = memoryview(data)
                while left:
                    left = left[file.write(left) :]
                size += len(data)
    except OSError as error:
        raise CallError(
            f"{path} cannot be written: {error.strerror}; choose another --output", USAGE
        ) from None
    return size


@contextlib.contextmanager
def _replaced(path: str) -> Iterator[io.FileIO]:
    """Provide a file that takes the place of the one at `path` at the end, unless this fails."""
    present = os.stat(path) if os.path.exists(path) else None
    if present and not stat.S_ISREG(present.st_mode):
        with open(path, "wb", buffering=0) as file:
            yield file
        return
    path = os.path.realpath(path)  # a link stays, and leads to the new file
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    if present and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    part = os.path.join(folder, f".deepaas-{secrets.token_hex(8)}.part")
    try:
        with open(part, "xb", buffering=0) as file:
            if present:
                os.fchmod(file.fileno(), stat.S_IMODE(present.st_mode))
            yield file
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        raise
