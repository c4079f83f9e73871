"""The files of a request: large ones are written in a thread; all are removed if not kept."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable
from typing import Protocol

INLINE = 2 * 1024 * 1024
"""The first bytes of a request's files are written directly: a thread would take longer."""

BATCH = 1024 * 1024
"""After the first INLINE bytes, a thread writes batches of at least this many bytes."""

MAX_BATCHED = 1000
"""A batch of this many pieces is also written, so that many small files do not take too long."""


class FileUser(Protocol):
    """Work that opens the files of a request by name; `on_end` is called when it has ended."""

    ended: bool
    on_end: list[Callable[[], None]]


class SpoolFile:
    """A file that is being received. Its RequestFiles collects the written data."""

    def __init__(self, files: RequestFiles, fd: int, path: str) -> None:
        self._files = files
        self._fd = fd
        self.path = path

    def write(self, data: bytes | memoryview) -> int:
        """Take all of `data`, which must not change afterwards, and return its length."""
        self._files.gather(self, data)
        return len(data)

    def close(self) -> None:
        """End the file: no more data follows."""
        self._files.gather_end(self)

    def write_out(self, data: bytes | memoryview) -> None:
        _write_all(self._fd, data)

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class RequestFiles:
    """The files of one request. The end of the `with` block removes them.

    Large files are written in a thread, one batch at a time, so that a slow disk delays only this
    request. At most two batches are in memory. At most three descriptors are open: those of the
    first file and of the file that is being received, and one in the thread.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory or None
        self._paths: list[str] = []
        self._files: list[SpoolFile] = []
        self._batch: list[tuple[SpoolFile, bytes | memoryview]] = []
        self._size = 0
        self._total = 0
        self._writing: asyncio.Future[None] | None = None
        self._user: FileUser | None = None
        self._is_kept = False

    def __enter__(self) -> RequestFiles:
        return self

    def __exit__(self, *_: object) -> None:
        if self._user is not None and not self._user.ended:  # a worker opens the files by name
            self._user.on_end.append(self._leave)
            self._release()
        else:
            self._leave()

    def _leave(self) -> None:
        if self._writing is not None and not self._writing.done():
            self._writing.add_done_callback(self._remove)
        elif self._paths:
            self._remove(self._writing)

    def keep_for(self, user: FileUser) -> None:
        """Keep the files until this work has ended, if it ends after the block."""
        self._user = user

    def keep(self) -> None:
        """Do not remove the files: from now on the caller owns them."""
        self._is_kept = True

    def __bool__(self) -> bool:
        return bool(self._paths)

    def new(self, extension: str = "") -> tuple[str, SpoolFile]:
        """Make an empty file with this extension. Return its path, and the file for writing."""
        fd, path = tempfile.mkstemp(extension, dir=self._directory)
        self._paths.append(path)
        file = SpoolFile(self, fd, path)
        self._files.append(file)
        return path, file

    def gather(self, file: SpoolFile, data: bytes | memoryview) -> None:
        self._total += len(data)
        if self._total <= INLINE:
            file.write_out(data)
        else:
            self._batch.append((file, data))
            self._size += len(data)

    def gather_end(self, file: SpoolFile) -> None:
        """Close a complete file, but keep the first one open.

        So the name of the first can be removed at once, and its pages are freed after the response.
        """
        if file is not self._files[0]:
            file.release()

    async def flush(self) -> None:
        """Start to write the collected data if it makes a full batch, after the batch before.

        Raises OSError.
        """
        if self._size >= BATCH or len(self._batch) >= MAX_BATCHED:
            await self._settle()
            self._start_writing()

    async def finish(self) -> None:
        """Write all collected data. Raises OSError."""
        await self._settle()
        if self._batch:
            self._start_writing()
            await self._settle()

    async def _settle(self) -> None:
        if self._writing is not None:
            await asyncio.shield(self._writing)

    def _start_writing(self) -> None:
        batch, self._batch, self._size = self._batch, [], 0
        loop = asyncio.get_running_loop()
        self._writing = loop.run_in_executor(None, _write, batch)

    def _remove(self, writing: asyncio.Future[None] | None) -> None:
        if writing is not None and not writing.cancelled():
            writing.exception()  # flush() or finish() has raised it
        for path in () if self._is_kept else self._paths:
            with contextlib.suppress(FileNotFoundError):  # the model has moved or removed it
                _unlink(path)
        asyncio.get_running_loop().call_soon(self._release)

    def _release(self) -> None:
        for file in self._files:
            file.release()


def _write(batch: list[tuple[SpoolFile, bytes | memoryview]]) -> None:
    """Write a batch. Each file is opened again, because complete files are closed."""
    for file, pieces in itertools.groupby(batch, key=lambda piece: piece[0]):
        fd = os.open(file.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            for _, data in pieces:
                _write_all(fd, data)
        finally:
            os.close(fd)


def _write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except IsADirectoryError:  # the model has replaced the file by a folder
        shutil.rmtree(path, ignore_errors=True)
