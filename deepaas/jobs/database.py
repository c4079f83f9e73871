"""The SQLite file that the servers and the supervisor processes of a state directory share.

This module opens it, creates its tables, and retries changes for which the disk has no room.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from deepaas.exceptions import DiskFullError, StorageError, StorageLockedError
from deepaas.jobs.lock_holders import describe, lock_holders
from deepaas.jobs.reserve import FULL, Reserve

LOCK_SECONDS = 10.0
"""How long to wait for the write of another process, unless the caller says otherwise."""

CHECKPOINT_PAGES = 100
"""When the write-ahead log has this many pages, SQLite moves them to the database. The log must
stay much smaller than the reserve: pages that are moved need their room twice."""

_RECORDS = """
CREATE TABLE records (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    model TEXT NOT NULL,
    owner TEXT NOT NULL,
    status TEXT NOT NULL,
    date TEXT NOT NULL,
    args TEXT NOT NULL DEFAULT '{}',
    callback TEXT NOT NULL DEFAULT '',
    attempt INTEGER NOT NULL DEFAULT 0,
    keeper TEXT NOT NULL DEFAULT '',
    pid INTEGER,
    started REAL,
    finished REAL,
    stop TEXT NOT NULL DEFAULT '',
    message TEXT NOT NULL DEFAULT '',
    output TEXT,
    answer TEXT,
    progress REAL,
    exit_code INTEGER,
    signal INTEGER,
    lingering INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX by_model ON records (model, kind, number);
CREATE INDEX by_status ON records (status, number);
CREATE TABLE notices (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL,
    owner TEXT NOT NULL,
    record TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL
);
"""

# Separate tables, not columns of `records`: a supervisor process of the previous version may still
# run, and it expects the columns that it knows.
_CLOCKS = """
CREATE TABLE measured (
    uuid TEXT PRIMARY KEY,
    duration REAL,
    ended REAL
);
CREATE TABLE clock (
    boot TEXT NOT NULL,
    base REAL NOT NULL,
    seen REAL NOT NULL
);
"""

_DETAILS = """
CREATE TABLE details (
    uuid TEXT PRIMARY KEY,
    asked REAL,
    origin TEXT NOT NULL DEFAULT '',
    load_seconds REAL,
    weights_loaded REAL,
    weights_problem TEXT NOT NULL DEFAULT ''
);
"""

_PRINCIPAL = """
ALTER TABLE details ADD COLUMN principal TEXT;
"""

_REQUEST_ID = """
ALTER TABLE details ADD COLUMN request_id TEXT NOT NULL DEFAULT '';
"""

# A trigger, because a supervisor process of an earlier version changes statuses too. Clients do not
# see "starting": a record that waits again after it is still "queued" for them.
_CHANGES = """
CREATE TABLE changes (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL,
    owner TEXT NOT NULL,
    kind TEXT NOT NULL,
    model TEXT NOT NULL,
    status TEXT NOT NULL,
    seconds REAL
);
CREATE TRIGGER note_change AFTER UPDATE OF status ON records
WHEN NEW.status NOT IN (OLD.status, 'starting')
    AND NOT (OLD.status = 'starting' AND NEW.status = 'queued')
BEGIN
    INSERT INTO changes (uuid, owner, kind, model, status, seconds)
    VALUES (NEW.uuid, NEW.owner, NEW.kind, NEW.model, NEW.status, NEW.finished - NEW.started);
END;
"""

COLUMNS = {"supervisor": "keeper", "has_leftover_processes": "lingering"}
"""The columns of `records` whose names differ from the fields of a Record. They keep their names
because a supervisor process of an earlier version may still run, and it writes to them."""

FORMS = (_RECORDS, _CLOCKS, _DETAILS, _PRINCIPAL, _REQUEST_ID, _CHANGES)
"""The statements that lead to each version of the schema from the one before."""

VERSION = len(FORMS)

P = ParamSpec("P")
T = TypeVar("T")
D = TypeVar("D", bound="Database")


class Database:
    """The file `directory`/trainings.db. For one thread at a time.

    Every method raises StorageError if the file or its disk cannot be used, DiskFullError if the
    disk has no room, and StorageLockedError if another process holds the lock of the file for
    longer than `wait` seconds. A process that is stopped while it writes holds it forever.
    """

    def __init__(self, directory: Path, wait: float = LOCK_SECONDS) -> None:
        self._path = directory / "trainings.db"
        self._reserve = Reserve(directory)
        with self._translated_errors():
            _make_private(self._path)
            self._db = sqlite3.connect(
                self._path, timeout=wait, isolation_level=None, check_same_thread=False
            )
        try:
            self._prepare()
        except BaseException:
            self._db.close()
            raise

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._path}>"

    def close(self) -> None:
        self._db.close()

    def set_wait(self, seconds: float) -> None:
        """Set how long each later call waits for the lock."""
        self._db.execute(f"PRAGMA busy_timeout={max(0, round(seconds * 1000))}")

    def lock_holders(self) -> list[int]:
        """Return the pids of other processes that write now, as far as this one can see them."""
        shared_memory = self._path.with_name(f"{self._path.name}-shm")
        return lock_holders((self._path, shared_memory))

    def write_with_reserve(self, change: Callable[[], T]) -> T:
        """Make a change and return its result. If the disk is full, make room and try again.

        A training that fills the disk takes that room at once. So use this for the end of a job,
        not for changes that can wait.
        """
        for make_room in (self._reserve.release, self._reuse_log):
            try:
                return change()
            except DiskFullError:  # noqa: PERF203
                make_room()
        return change()

    def _reuse_log(self) -> None:
        """Let the next change overwrite older ones in the write-ahead log."""
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _prepare(self) -> None:
        self._open_log()
        if self._schema_version() == VERSION:  # then no lock is needed
            return
        with self._writing():
            version = self._schema_version()
            if version > VERSION:
                raise StorageError(
                    f"{self._path} was written by a newer version of deepaas (schema version "
                    f"{version}, this one knows {VERSION}): give another --state-dir"
                )
            for form in FORMS[version:]:
                for statement in _statements(form):
                    self._db.execute(statement)
            if version < VERSION:
                self._db.execute(f"PRAGMA user_version={VERSION}")

    def _schema_version(self) -> int:
        with self._translated_errors():
            return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def _open_log(self) -> None:
        with self._translated_errors():
            self._db.execute("PRAGMA temp_store=MEMORY")  # the temporary directory may be full
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._translated_errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # on a full disk SQLite rolls back itself
                    self._db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if isinstance(error, sqlite3.Error) and "locked" in str(error):
                raise StorageLockedError(
                    f"the record of trainings, {self._path}, is locked by "
                    f"{describe(self.lock_holders())}: try again later; if that process is "
                    "stopped, continue it or end it"
                ) from error
            why = f"the record of trainings, {self._path}, cannot be used: {error}"
            if self._means_full_disk(error):
                raise DiskFullError(why) from error
            raise StorageError(why) from error

    def _means_full_disk(self, error: sqlite3.Error | OSError) -> bool:
        if isinstance(error, OSError):
            return error.errno in FULL
        text = str(error)
        if "disk is full" in text:
            return True
        # SQLite's errors when it has no room for a file beside the database.
        vague = "disk I/O error" in text or "unable to open" in text
        return vague and self._reserve.disk_is_full()


def on_full_disk_too(
    method: Callable[Concatenate[D, P], T],
) -> Callable[Concatenate[D, P], T]:
    """Let a method of a Database make room and try again if the disk is full."""

    @functools.wraps(method)
    def retried(database: D, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return database.write_with_reserve(lambda: method(database, *args, **kwargs))

    return retried


def _statements(form: str) -> Iterator[str]:
    """Yield the SQL statements in a text. A trigger is one statement that contains others."""
    statement = ""
    for part in form.split(";")[:-1]:
        statement += f"{part};"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _make_private(path: Path) -> None:
    """Create a file that only this user can read, unless it exists. Raises OSError.

    An existing file is not opened: closing it would release the locks that SQLite has on it.
    """
    with contextlib.suppress(FileExistsError):
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        os.close(os.open(path, flags, 0o600))
