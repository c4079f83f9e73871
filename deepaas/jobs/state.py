"""The state directory, as seen by one of the servers that share it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
import uuid as uuids
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from deepaas.exceptions import DiskFullError, StorageError
from deepaas.jobs import identity
from deepaas.jobs.database import LOCK_SECONDS
from deepaas.jobs.reserve import FULL, Reserve
from deepaas.jobs.spec import JobDirectory
from deepaas.jobs.store import Record, Store

logger = logging.getLogger("deepaas.training")

T = TypeVar("T")


def _reason(error: OSError, directory: Path) -> str:
    """Return why a directory cannot be used, with the file in it that caused the error."""
    if error.filename in (None, str(directory), directory):
        is_file = isinstance(error, FileExistsError | NotADirectoryError)
        return "it is not a directory" if is_file else str(error.strerror)
    return f"{error.strerror}: {error.filename}"


class State:
    """A directory with the records and the files of trainings, private to the user.

    `id` is the name of this server in the directory; it holds the lock of that name while the
    directory is open. `reserve` is how many bytes are reserved for changes that must work on a full
    disk. `lock_timeout` is how many seconds a change waits while other processes write.

    Reading has a separate thread and a separate connection: it works while a change waits.
    """

    def __init__(
        self, directory: Path, reserve: int = 0, lock_timeout: float = LOCK_SECONDS
    ) -> None:
        self.lock_timeout = lock_timeout
        self.directory = directory
        self.id = f"{identity.identity(os.getpid())}-{uuids.uuid4().hex[:8]}".replace(":", "-")
        self.has_room = True
        """Whether the disk had room for new jobs at the last check."""
        self._wants_reserve = reserve > 0
        self._reserve = Reserve(directory, reserve)
        self._store: Store | None = None
        self._read_store: Store | None = None
        self._problem = StorageError("The state directory is not open")
        self._resources = contextlib.ExitStack()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="trainings")
        self._read_thread = ThreadPoolExecutor(1, thread_name_prefix="records")

    def __repr__(self) -> str:
        return f"<State {self.directory}>"

    @property
    def is_open(self) -> bool:
        return self._store is not None

    @property
    def store(self) -> Store:
        """The records. Raises StorageError with the reason if they are not open."""
        if self._store is None:
            raise type(self._problem)(*self._problem.args)  # a copy: raising adds a traceback
        return self._store

    async def open(self) -> None:
        """Create the directory if necessary, and open the records.

        Raises DiskFullError if there is no room for that, and StorageLockedError if another process
        holds the lock of the records; the caller may try again in both cases. Raises StorageError
        if the directory cannot be used.
        """
        try:
            await self.do(self._open)
        except StorageError as error:
            self._problem = error
            raise

    def _open(self) -> None:
        try:
            self._store = self._open_store()
        except DiskFullError:
            self._reserve.release()
            self._store = self._open_store()
        if not self._wants_reserve:
            self._reserve.release()
        self._look_for_room()

    def _open_store(self) -> Store:
        with contextlib.ExitStack() as resources:
            try:
                for name in ("", "servers", "work"):
                    _make_private(self.directory / name)
                lock = self.directory / "servers" / self.id
                resources.callback(lock.unlink, missing_ok=True)
                resources.enter_context(identity.locked(lock))
            except OSError as error:
                kind = DiskFullError if error.errno in FULL else StorageError
                raise kind(
                    f"the state directory {self.directory} cannot be used: "
                    f"{_reason(error, self.directory)}; give another one with --state-dir"
                ) from error
            store = resources.enter_context(self._opened_store())
            self._read_store = resources.enter_context(self._opened_store())
            self._resources = resources.pop_all()
            return store

    def _opened_store(self) -> contextlib.closing[Store]:
        return contextlib.closing(Store(self.directory, self.lock_timeout))

    async def close(self) -> None:
        self._store = self._read_store = None
        await asyncio.to_thread(self._read_thread.shutdown)
        await self.do(self._resources.close)
        self._thread.shutdown()

    async def look_for_room(self) -> None:
        """Check whether the disk has room for new jobs, and keep the reserve."""
        await self.do(self._look_for_room)

    def _look_for_room(self) -> None:
        had_room = self.has_room
        self.has_room = self._reserve.make() and not self._reserve.disk_is_full()
        if had_room and not self.has_room:
            logger.warning("%s: no new jobs start until there is room", self._full_message())
        elif self.has_room and not had_room:
            logger.info("The disk of the state directory %s has room again", self.directory)

    def need_room(self) -> None:
        """Raise DiskFullError unless the disk has room for new jobs."""
        self._look_for_room()
        if not self.has_room:
            raise DiskFullError(self._full_message())

    def _full_message(self) -> str:
        return f"The disk of the state directory {self.directory} is full"

    async def do(
        self, function: Callable[..., T], *arguments: Any, within: float | None = None
    ) -> T:
        """Call a function in the thread that changes the store and the disk; return its result.

        The function runs to its end even if the caller is cancelled. Raises StorageLockedError if
        other processes hold the lock of the records for `within` seconds from now; the default is
        `lock_timeout`. So all calls that wait in this thread fail at about the same time.
        """
        until = time.monotonic() + (self.lock_timeout if within is None else within)

        def call() -> T:
            if self._store is not None:
                self._store.set_wait(self._rest(until))
            return function(*arguments)

        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(self._thread, call))

    async def read(self, function: Callable[[Store], T]) -> T:
        """Call a function that only reads the store, in the thread that does so; return its
        result."""
        if self._read_store is None:
            raise type(self._problem)(*self._problem.args)
        store = self._read_store
        until = time.monotonic() + self.lock_timeout

        def call() -> T:
            store.set_wait(self._rest(until))
            return function(store)

        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(self._read_thread, call))

    def _rest(self, until: float) -> float:
        """Return how long to wait for a lock; `lock_timeout` may have been reduced meanwhile."""
        return min(until - time.monotonic(), self.lock_timeout)

    async def now(self, record: Record) -> Record:
        """Return the current record; the given one if it has been removed."""
        found = await self.read(lambda store: store.get(record.uuid))
        return found or record

    def place(self, uuid: str) -> JobDirectory:
        """Return the directory of a record."""
        return JobDirectory.of(self.directory, uuid)


def _make_private(directory: Path) -> None:
    """Create a directory that only this user can enter, or restrict an existing one. Raises
    OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.stat()
    if status.st_uid == os.getuid() and status.st_mode & 0o077:
        directory.chmod(0o700)
