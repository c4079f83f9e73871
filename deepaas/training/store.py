"""The record of every training: an SQLite database that several processes share.

A record's `status` goes one way only:

    incoming → queued → starting → running → done, error or cancelled
                  └─────────┴──→ cancelled

Each step is one UPDATE that names the status it starts from. So whoever else tries the same step
finds that it has been made: a training is claimed by one keeper, and ends once.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from deepaas.exceptions import StorageError

BUSY_SECONDS = 30.0
"""How long another process's write is waited for."""

CANCELLED = "cancelled"
ENDED = ("done", "error", CANCELLED)
STATUSES = ("queued", "starting", "running", *ENDED)
VERSION = 1

_SCHEMA = """
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


@dataclass(frozen=True)
class Record:
    """What is known of a training (`kind` "train") or an asynchronous prediction ("predict").

    Times are seconds since 1970, `date` is when it was asked for, as text. `args`, `output` and
    `answer` (the head of a prediction's answer) are JSON. `owner` is the server that sees to it,
    `keeper` the identity of the process that keeps it, `pid` that of the work itself. `stop` is the
    reason for which it is to end. `lingering` says that it has ended and left processes running.
    """

    number: int
    uuid: str
    kind: str
    model: str
    owner: str
    status: str
    date: str
    args: str = "{}"
    callback: str = ""
    attempt: int = 0
    keeper: str = ""
    pid: int | None = None
    started: float | None = None
    finished: float | None = None
    stop: str = ""
    message: str = ""
    output: str | None = None
    answer: str | None = None
    progress: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    lingering: int = 0

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED


@dataclass(frozen=True)
class Notice:
    """That a record has changed, as it was then: somebody wants to be told at `record.callback`."""

    number: int
    attempts: int
    record: Record


@dataclass(frozen=True)
class Ending:
    """How the work on a record ended. `output` and `answer` are JSON."""

    status: str
    message: str = ""
    output: str | None = None
    answer: str | None = None

    @classmethod
    def because(cls, reason: str) -> Ending:
        """The end of what was stopped for a reason."""
        return cls(CANCELLED) if reason == CANCELLED else cls("error", reason)


class Store:
    """The records, in `directory`/trainings.db. For one thread at a time.

    Every method raises StorageError if the file or its disk cannot do what is asked.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / "trainings.db"
        with _explained(path):
            _make_private(path)
            self._db = sqlite3.connect(
                path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        self._path = path
        try:
            self._prepare()
        except BaseException:
            self._db.close()
            raise

    def __repr__(self) -> str:
        return f"<Store {self._path}>"

    def close(self) -> None:
        self._db.close()

    def _prepare(self) -> None:
        with _explained(self._path):
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
        with self._writing():
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise StorageError(
                    f"{self._path} was written by a newer version of deepaas (form {version}, this "
                    f"one knows {VERSION}): give another --state-dir"
                )
            if version == 0:
                for statement in _SCHEMA.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version={VERSION}")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with _explained(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # a full disk has rolled back by itself
                    self._db.execute("ROLLBACK")
                raise

    # --- reading

    def version(self) -> int:
        """A number that is another one when some other process has written."""
        with _explained(self._path):
            return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def get(self, uuid: str) -> Record | None:
        records = self._select("WHERE uuid = ?", uuid)
        return records[0] if records else None

    def find(
        self, kind: str, model: str, statuses: Sequence[str] = STATUSES, limit: int = -1
    ) -> list[Record]:
        """The newest `limit` records of a model that have one of `statuses`, oldest first."""
        marks = ", ".join("?" * len(statuses))
        found = self._select(
            f"WHERE model = ? AND kind = ? AND status IN ({marks}) ORDER BY number DESC LIMIT ?",
            *(model, kind, *statuses, limit),
        )
        return found[::-1]

    def unfinished(self) -> list[Record]:
        """All that have not ended, or have left processes running, oldest first."""
        marks = ", ".join("?" * len(ENDED))
        return self._select(f"WHERE status NOT IN ({marks}) OR lingering ORDER BY number", *ENDED)

    def ended_before(self, kind: str, finished: float) -> list[Record]:
        """Those that ended before a time and have left nothing running."""
        return self._select(
            "WHERE kind = ? AND finished < ? AND NOT lingering ORDER BY number", kind, finished
        )

    def _select(self, condition: str, *values: object) -> list[Record]:
        with _explained(self._path):
            cursor = self._db.execute(f"SELECT * FROM records {condition}", values)
            return [Record(*row) for row in cursor]

    # --- a record's way

    def add(self, uuid: str, kind: str, model: str, owner: str, callback: str = "") -> None:
        """A request has come, and is not yet known to be valid."""
        with self._writing():
            self._db.execute(
                "INSERT INTO records (uuid, kind, model, owner, callback, status, date) "
                "VALUES (?, ?, ?, ?, ?, 'incoming', ?)",
                (uuid, kind, model, owner, callback, str(datetime.now())),
            )

    def accept(self, uuid: str, args: str) -> Record | None:
        """The request is valid: it waits for its turn from now on."""
        return self._step(uuid, ("incoming",), status="queued", args=args)

    def start(self, uuid: str) -> Record | None:
        """Its turn has come; a keeper is about to be started."""
        return self._step(uuid, ("queued",), status="starting")

    def claim(self, uuid: str, keeper: str) -> Record | None:
        """Let this keeper have it; None if another has, or it is not wanted any more."""
        record = self.get(uuid)
        attempt = record.attempt + 1 if record else 1
        return self._step(
            uuid,
            ("starting",),
            status="running",
            keeper=keeper,
            attempt=attempt,
            started=time.time(),
        )

    def working(self, uuid: str, pid: int) -> Record | None:
        """The process that does the work has been started."""
        return self._step(uuid, ("running",), pid=pid)

    def finish(
        self, uuid: str, ending: Ending, progress: float | None = None, at: float | None = None
    ) -> Record | None:
        """The work has ended, now if not `at` a time before; None if that is known already."""
        finished = time.time() if at is None else at
        return self._step(
            uuid, ("starting", "running"), **asdict(ending), progress=progress, finished=finished
        )

    def exited(self, uuid: str, exit_code: int | None, signal: int | None) -> None:
        """The process that did the work has ended, with this code or by this signal."""
        self._update(uuid, exit_code=exit_code, signal=signal)

    def linger(self, uuid: str, lingering: bool) -> None:
        """Processes that it has started are running still, or not any more."""
        self._update(uuid, lingering=int(lingering))

    def stop(self, uuid: str, reason: str) -> Record | None:
        """Note why one that runs is to end: its keeper has to be told. One that waits and is
        CANCELLED ends at once."""
        waits = None
        if reason == CANCELLED:
            waits = self._step(uuid, ("queued", "starting"), status=CANCELLED, finished=time.time())
        record = self.get(uuid)
        before = record.stop if record else ""  # the first reason is the one that counts
        return waits or self._step(uuid, ("running",), stop=before or reason)

    def requeue(self, uuid: str) -> Record | None:
        """Its turn had come, but no keeper is going to have it."""
        return self._step(uuid, ("starting",), status="queued")

    def adopt(self, uuid: str, owner: str, by: str) -> bool:
        """Take over what another server, which has gone, has seen to; False if that was done."""
        with self._writing():
            changed = self._db.execute(
                "UPDATE records SET owner = ? WHERE uuid = ? AND owner = ?", (by, uuid, owner)
            ).rowcount
        return bool(changed)

    def remove(self, uuid: str) -> bool:
        """Forget a record that has ended, or never was a valid request; False if it is neither."""
        marks = ", ".join("?" * len(ENDED))
        with self._writing():
            self._db.execute(
                f"DELETE FROM records WHERE uuid = ? AND status IN ('incoming', {marks})",
                (uuid, *ENDED),
            )
            if self._select("WHERE uuid = ?", uuid):
                return False
            self._db.execute("DELETE FROM notices WHERE uuid = ?", (uuid,))
            return True

    def _step(self, uuid: str, statuses: Sequence[str], **values: Any) -> Record | None:
        """Change a record that has one of these statuses; None if it has another."""
        marks = ", ".join("?" * len(statuses))
        settings = ", ".join(f"{name} = ?" for name in values)
        with self._writing():
            changed = self._db.execute(
                f"UPDATE records SET {settings} WHERE uuid = ? AND status IN ({marks})",
                (*map(_storable, values.values()), uuid, *statuses),
            ).rowcount
            if not changed:
                return None
            record = self.get(uuid)
            assert record is not None
            if record.callback and "status" in values and record.status != "starting":
                self._db.execute(
                    "INSERT INTO notices (uuid, owner, record, due) VALUES (?, ?, ?, ?)",
                    (uuid, record.owner, json.dumps(asdict(record)), time.time()),
                )
        return record

    def _update(self, uuid: str, **values: Any) -> None:
        settings = ", ".join(f"{name} = ?" for name in values)
        with self._writing():
            self._db.execute(
                f"UPDATE records SET {settings} WHERE uuid = ?", (*values.values(), uuid)
            )

    # --- notices

    def notices(self, owner: str) -> list[Notice]:
        """For each record the oldest of the notices that have not been sent and are due now."""
        with _explained(self._path):
            rows = self._db.execute(
                "SELECT min(number), attempts, record, due FROM notices WHERE owner = ? "
                "GROUP BY uuid ORDER BY 1",
                (owner,),
            ).fetchall()
        now = time.time()
        return [
            Notice(number, attempts, Record(**json.loads(record)))
            for number, attempts, record, due in rows
            if due <= now
        ]

    def notice_owners(self) -> list[str]:
        """The servers that have notices to send."""
        with _explained(self._path):
            rows = self._db.execute("SELECT DISTINCT owner FROM notices").fetchall()
        return [owner for (owner,) in rows]

    def adopt_notices(self, owner: str, by: str) -> None:
        """Take over the notices of a server that has gone."""
        with self._writing():
            self._db.execute("UPDATE notices SET owner = ? WHERE owner = ?", (by, owner))

    def delay_notice(self, number: int, due: float) -> None:
        """Sending has failed; it is to be tried again at this time."""
        with self._writing():
            self._db.execute(
                "UPDATE notices SET attempts = attempts + 1, due = ? WHERE number = ?",
                (due, number),
            )

    def drop_notice(self, number: int) -> None:
        """It has been sent, or is given up."""
        with self._writing():
            self._db.execute("DELETE FROM notices WHERE number = ?", (number,))


def _make_private(path: Path) -> None:
    """Make a file, if there is none, that only this user can read. Raises OSError.

    One that is there is not opened: to close it would end the locks that SQLite has on it.
    """
    with contextlib.suppress(FileExistsError):
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        os.close(os.open(path, flags, 0o600))


def _storable(value: Any) -> Any:
    """A value without what is no text in a text, such as in the name of a file."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StorageError(f"the record of trainings, {path}, cannot be used: {error}") from error
