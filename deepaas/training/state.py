"""The state directory, as one of the servers has it that share it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid as uuids
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from deepaas.exceptions import StorageError
from deepaas.training import identity
from deepaas.training.plan import Workplace
from deepaas.training.store import Record, Store

T = TypeVar("T")


class State:
    """A directory with the records and the files of trainings, private to the user.

    `id` is this server's name there; it holds the lock of that name for as long as it lives.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.id = f"{identity.identity(os.getpid())}-{uuids.uuid4().hex[:8]}".replace(":", "-")
        self.store: Store
        self._resources = contextlib.ExitStack()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="trainings")

    def __repr__(self) -> str:
        return f"<State {self.directory}>"

    async def open(self) -> None:
        """Make the directory, if need be, and open the records. Raises StorageError."""
        try:
            await self.do(self._open)
        except BaseException:
            await self.close()
            raise

    def _open(self) -> None:
        try:
            for directory in (self.directory, self.directory / "servers", self.directory / "work"):
                _make_private(directory)
            lock = self.directory / "servers" / self.id
            self._resources.callback(lock.unlink, missing_ok=True)
            self._resources.enter_context(identity.locked(lock))
        except OSError as error:
            raise StorageError(
                f"the state directory {self.directory} cannot be used: {error}; "
                "give another one with --state-dir"
            ) from error
        self.store = Store(self.directory)
        self._resources.callback(self.store.close)

    async def close(self) -> None:
        await self.do(self._resources.close)
        self._thread.shutdown()

    async def do(self, function: Callable[..., T], *arguments: Any) -> T:
        """Use the store, or the disk, in the one thread for that; it is done in any case."""
        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(self._thread, function, *arguments))

    async def now(self, record: Record) -> Record:
        """A record as it is now; as it was, if it has been removed."""
        found = await self.do(self.store.get, record.uuid)
        return found or record

    def place(self, uuid: str) -> Workplace:
        """Where the files of a record lie."""
        return Workplace.of(self.directory, uuid)


def _make_private(directory: Path) -> None:
    """Make a directory that only this user can enter. Raises OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.stat()
    if status.st_uid == os.getuid() and status.st_mode & 0o077:
        directory.chmod(0o700)
