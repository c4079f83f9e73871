"""The log of the server of a check, which also has the output of the models."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from deepaas.checks.values import Json

_PAUSE = 0.5  # seconds between two looks at the size
_MAX_LINE = 4 * 1024 * 1024  # bytes; a longer line is no entry of the server
_LAST_BYTES = 64 * 1024
_USED = ("(request ", '"WARNING"')
"""Entries with one of these texts are kept."""


class ServerLog:
    """Reads each line of the log once, and keeps only the entries that a check uses."""

    def __init__(self, path: Path) -> None:
        self.is_too_large = False
        self._path = path
        self._offset = 0
        self._entries: list[tuple[str, Json]] = []  # each with its line

    async def until_larger(self, size: int) -> None:
        """Wait until the log has more than `size` bytes."""
        while self._path.stat().st_size <= size:
            await asyncio.sleep(_PAUSE)
        self.is_too_large = True

    def last_line(self) -> str:
        """Return the last line that the server has written."""
        with self._path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LAST_BYTES))
            lines = file.read(_LAST_BYTES).decode(errors="replace").splitlines()
        return lines[-1] if lines else "it has said nothing"

    def traceback(self, request_id: str) -> str:
        """Return the traceback that the log has for a request, or ""."""
        self._read()
        name = f"(request {request_id})"
        return traceback_of(entry for line, entry in self._entries if name in line)

    def warnings(self, pid: int) -> list[str]:
        """Return the warnings that a worker has logged about its calls."""
        self._read()
        return [
            str(entry["message"])
            for _, entry in self._entries
            if entry.get("levelname") == "WARNING"
            and entry.get("name") == "deepaas.worker"
            and entry.get("process") == pid
        ]

    def _read(self) -> None:
        """Take in the lines that were written since the last call."""
        with self._path.open("rb") as file:
            end = os.fstat(file.fileno()).st_size  # a model may write faster than this reads
            file.seek(self._offset)
            while self._offset < end and (line := file.readline(_MAX_LINE)):
                if not line.endswith(b"\n") and len(line) < _MAX_LINE:
                    return  # it is still being written
                self._offset += len(line)
                text = line.decode(errors="replace")
                if any(used in text for used in _USED):
                    self._entries += [(text, entry) for entry in entries_of([text])]


def entries_of(lines: Iterable[str]) -> list[Json]:
    """Return the entries of a log in JSON; other lines are the output of the model."""
    entries = []
    for line in lines:
        with contextlib.suppress(ValueError):
            entry = json.loads(line) if line.startswith("{") else None
            if isinstance(entry, dict):
                entries.append(entry)
    return entries


def traceback_of(entries: Iterable[Json]) -> str:
    """Return the first traceback in the entries of a log, or ""."""
    return next((str(entry["traceback"]) for entry in entries if "traceback" in entry), "")


_FRAME = re.compile(r'File "([^"]+)", line (\d+)')


def place_in(traceback: str, sources: Sequence[str]) -> str:
    """Return the last line of a traceback that is in one of these files, as `file:line`."""
    places = [(path, line) for path, line in _FRAME.findall(traceback) if path in sources]
    if not places:
        return ""
    path, line = places[-1]
    return f"{path.removeprefix(os.getcwd() + os.sep)}:{line}"
