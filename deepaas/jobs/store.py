"""The records of trainings and asynchronous predictions: an SQLite database that processes share.

A record's `status` changes in one direction only:

    incoming → queued → starting → running → done, error or cancelled
                  └─────────┴──→ cancelled

Each step is one UPDATE that names the status before it, so a second process that tries the same
step changes nothing. A training is claimed by one supervisor process and ends once.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from deepaas.exceptions import DiskFullError
from deepaas.jobs.database import COLUMNS, on_full_disk_too
from deepaas.jobs.notices import Notice, Notices
from deepaas.jobs.times import local_text

CANCELLED = "cancelled"
ENDED = ("done", "error", CANCELLED)
STATUSES = ("queued", "starting", "running", *ENDED)
_MARKS = ", ".join("?" * len(ENDED))


@dataclass(frozen=True)
class Record:
    """A training (`kind` "train") or an asynchronous prediction (`kind` "predict").

    Times are seconds since 1970; `date` is the time of the request, as text. `args`, `output` and
    `answer` (the head of a prediction's response) are JSON. `owner` is the server responsible for
    it, `supervisor` the identity of its supervisor process, `pid` that of the process that does the
    work. `stop` is the reason why it must end. `has_leftover_processes` says that it has ended but
    processes that it started still run. `load_seconds` is how long it took to load and warm the
    model, and `duration` how long its function ran after that. Both are measured with a monotonic
    clock. Trainings run by an older version have no `load_seconds`: their `duration` includes it.

    `asked` is the time of `date`, and `origin` where the model comes from (`ModelSource.origin`);
    older versions wrote neither. `weights_loaded` is the time since which every prediction comes
    from the new weights; `weights_problem` is why that has not happened. `principal` is the name of
    the client that asked for it; None if clients did not have to sign in. `request_id` is the id of
    the request that made the record; older versions did not write it.
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
    supervisor: str = ""
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
    has_leftover_processes: int = 0
    duration: float | None = None
    asked: float | None = None
    origin: str = ""
    load_seconds: float | None = None
    weights_loaded: float | None = None
    weights_problem: str = ""
    principal: str | None = None
    request_id: str = ""

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED

    @property
    def label(self) -> str:
        """Return what identifies the job in the log."""
        request = f" (request {self.request_id})" if self.request_id else ""
        return f"{self.uuid} of model {self.model}{request}"


@dataclass(frozen=True)
class Ending:
    """How the work on a record ended. `output` and `answer` are JSON."""

    status: str
    message: str = ""
    output: str | None = None
    answer: str | None = None

    @classmethod
    def because(cls, reason: str) -> Ending:
        """Return the end of a job that was stopped for a reason."""
        return cls(CANCELLED) if reason == CANCELLED else cls("error", reason)


class Store(Notices):
    """The records of trainings and of asynchronous predictions.

    On a full disk, new records are refused. The end of a job, and the removal of a record, may use
    the reserve.
    """

    # --- reading

    def version(self) -> int:
        """Return a number that changes when another process writes."""
        with self._translated_errors():
            return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def get(self, uuid: str) -> Record | None:
        records = self._select("WHERE uuid = ?", uuid)
        return records[0] if records else None

    def find(
        self,
        kind: str,
        model: str,
        statuses: Sequence[str] = STATUSES,
        limit: int = -1,
        origin: str = "",
    ) -> list[Record]:
        """Return the newest `limit` records of a model that have one of `statuses`, oldest first.

        With an `origin`, records of other models of the same name are left out.
        """
        marks = ", ".join("?" * len(statuses))
        found = self._select(
            f"WHERE model = ? AND kind = ? AND status IN ({marks}) "
            "AND (? = '' OR coalesce(origin, '') IN ('', ?)) ORDER BY number DESC LIMIT ?",
            *(model, kind, *statuses, origin, origin, limit),
        )
        return found[::-1]

    def other_origins(self, model: str, origin: str) -> dict[str, int]:
        """Return the number of records of other models of the same name, by origin."""
        with self._translated_errors():
            rows = self._db.execute(
                "SELECT origin, count(*) FROM records JOIN details USING (uuid) "
                "WHERE model = ? AND origin NOT IN ('', ?) GROUP BY origin ORDER BY origin",
                (model, origin),
            ).fetchall()
        return dict(rows)

    def without_weights(self) -> list[Record]:
        """Return the trainings that are done and whose weights are not known to be loaded."""
        return self._select(
            "WHERE kind = 'train' AND status = 'done' AND details.uuid IS NOT NULL "
            "AND weights_loaded IS NULL ORDER BY number"
        )

    def unfinished(self) -> list[Record]:
        """Return the records that have not ended or have leftover processes, oldest first."""
        # `lingering` is the column of has_leftover_processes.
        return self._select(f"WHERE status NOT IN ({_MARKS}) OR lingering ORDER BY number", *ENDED)

    def ended_for(self, kind: str, seconds: float, now: float) -> list[Record]:
        """Return records that ended at least `seconds` before `now` and have no leftover processes.

        `now` is a time that `note_ages` returned.
        """
        return self._select(
            "WHERE kind = ? AND ended <= ? AND NOT lingering ORDER BY number", kind, now - seconds
        )

    def _select(self, condition: str, *values: object) -> list[Record]:
        with self._translated_errors():
            cursor = self._db.execute(
                "SELECT records.*, duration, asked, coalesce(origin, ''), load_seconds, "
                "weights_loaded, coalesce(weights_problem, ''), principal, "
                "coalesce(request_id, '') FROM records "
                "LEFT JOIN measured USING (uuid) LEFT JOIN details USING (uuid) " + condition,
                values,
            )
            return [Record(*row) for row in cursor]

    # --- steps of a record

    def add(
        self,
        uuid: str,
        kind: str,
        model: str,
        owner: str,
        callback: str = "",
        origin: str = "",
        principal: str | None = None,
        request_id: str = "",
    ) -> None:
        """Add a record for a request that is not validated yet."""
        now = time.time()
        with self._writing():
            self._db.execute(
                "INSERT INTO records (uuid, kind, model, owner, callback, status, date) "
                "VALUES (?, ?, ?, ?, ?, 'incoming', ?)",
                (uuid, kind, model, owner, callback, local_text(now)),
            )
            self._db.execute(
                "INSERT INTO details (uuid, asked, origin, principal, request_id) "
                "VALUES (?, ?, ?, ?, ?)",
                (uuid, now, _storable(origin), principal, request_id),
            )

    def accept(self, uuid: str, args: str) -> Record | None:
        """Queue a request that is valid."""
        return self._step(uuid, ("incoming",), status="queued", args=args)

    def start(self, uuid: str) -> Record | None:
        """Note that a supervisor process is about to be started."""
        return self._step(uuid, ("queued",), status="starting")

    @on_full_disk_too
    def claim(self, uuid: str, supervisor: str) -> Record | None:
        """Give the record to this supervisor process.

        Return None if another has claimed it, or if it was cancelled or removed.
        """
        record = self.get(uuid)
        attempt = record.attempt + 1 if record else 1
        return self._step(
            uuid,
            ("starting",),
            status="running",
            supervisor=supervisor,
            attempt=attempt,
            started=time.time(),
        )

    def working(self, uuid: str, pid: int) -> Record | None:
        """Note the pid of the process that does the work.

        The reserve is not released for this, as that process may be filling the disk.
        """
        return self._step(uuid, ("running",), pid=pid)

    def loaded(self, uuid: str, seconds: float) -> None:
        """Note that the model was loaded and warmed in so many seconds and its function is called.

        The reserve is not released for this, as that function may be filling the disk.
        """
        with self._writing():
            self._db.execute(
                "INSERT INTO details (uuid, load_seconds) SELECT uuid, ? FROM records "
                "WHERE uuid = ? "
                "ON CONFLICT (uuid) DO UPDATE SET load_seconds = excluded.load_seconds",
                (seconds, uuid),
            )

    def note_weights(self, uuid: str, loaded: float | None, problem: str = "") -> None:
        """Note when the weights of a training were loaded, or why they were not.

        Once they are loaded, later calls change nothing. On a full disk this fails, as it can wait.
        """
        with self._writing():
            self._db.execute(
                "UPDATE details SET weights_loaded = ?, weights_problem = ? "
                "WHERE uuid = ? AND weights_loaded IS NULL",
                (loaded, _storable(problem), uuid),
            )

    @on_full_disk_too
    def finish(
        self,
        uuid: str,
        ending: Ending,
        progress: float | None = None,
        at: float | None = None,
        duration: float | None = None,
    ) -> Record | None:
        """Note how the work ended, and when: at the time `at`, or now.

        `duration` is the measured number of seconds. Return None if an end was noted before.
        """
        return self._step(
            uuid,
            ("starting", "running"),
            duration,
            **asdict(ending),
            progress=progress,
            finished=time.time() if at is None else at,
        )

    @on_full_disk_too
    def exited(self, uuid: str, exit_code: int | None, signal: int | None) -> None:
        """Note the exit code or the signal with which the process of the work ended."""
        self._update(uuid, exit_code=exit_code, signal=signal)

    @on_full_disk_too
    def note_leftover_processes(self, uuid: str, has_leftover_processes: bool) -> None:
        """Note whether processes that the job started still run after its end."""
        self._update(uuid, has_leftover_processes=int(has_leftover_processes))

    def stop(self, uuid: str, reason: str) -> Record | None:
        """Note why a running job must end; the caller then signals its supervisor process.

        A waiting job ends at once if the reason is CANCELLED. The reserve is not released for a
        running job, as that may be filling the disk.
        """
        waits = self._cancel_waiting(uuid) if reason == CANCELLED else None
        record = self.get(uuid)
        before = record.stop if record else ""  # the first reason counts
        return waits or self._step(uuid, ("running",), stop=before or reason)

    @on_full_disk_too
    def _cancel_waiting(self, uuid: str) -> Record | None:
        return self._step(uuid, ("queued", "starting"), status=CANCELLED, finished=time.time())

    @on_full_disk_too
    def requeue(self, uuid: str) -> Record | None:
        """Queue a record again whose supervisor process has not begun."""
        return self._step(uuid, ("starting",), status="queued")

    @on_full_disk_too
    def adopt(self, uuid: str, owner: str, by: str) -> bool:
        """Take over a record of a server that has exited; return False if another server has done
        so."""
        with self._writing():
            changed = self._db.execute(
                "UPDATE records SET owner = ? WHERE uuid = ? AND owner = ?", (by, uuid, owner)
            ).rowcount
        return bool(changed)

    @on_full_disk_too
    def remove(self, uuid: str) -> bool:
        """Remove a record that has ended or was never accepted; return False if it is neither."""
        with self._writing():
            self._db.execute(
                f"DELETE FROM records WHERE uuid = ? AND status IN ('incoming', {_MARKS})",
                (uuid, *ENDED),
            )
            if self._select("WHERE uuid = ?", uuid):
                return False
            self._db.execute("DELETE FROM notices WHERE uuid = ?", (uuid,))
            self._db.execute("DELETE FROM measured WHERE uuid = ?", (uuid,))
            self._db.execute("DELETE FROM details WHERE uuid = ?", (uuid,))
            return True

    def _step(
        self, uuid: str, statuses: Sequence[str], duration: float | None = None, **values: Any
    ) -> Record | None:
        """Change a record that has one of these statuses; return None if it has another."""
        marks = ", ".join("?" * len(statuses))
        settings = _settings(values)
        with self._writing():
            changed = self._db.execute(
                f"UPDATE records SET {settings} WHERE uuid = ? AND status IN ({marks})",
                (*map(_storable, values.values()), uuid, *statuses),
            ).rowcount
            if not changed:
                return None
            if duration is not None:
                self._db.execute(
                    "INSERT INTO measured (uuid, duration) VALUES (?, ?)", (uuid, duration)
                )
            record = self.get(uuid)
            assert record is not None
            if record.callback and "status" in values and record.status != "starting":
                self._db.execute(
                    "INSERT INTO notices (uuid, owner, record, due) VALUES (?, ?, ?, 0)",
                    (uuid, record.owner, _to_json(record)),
                )
        return record

    def _update(self, uuid: str, **values: Any) -> None:
        with self._writing():
            self._db.execute(
                f"UPDATE records SET {_settings(values)} WHERE uuid = ?", (*values.values(), uuid)
            )

    # --- ages

    def note_ages(self, boot: str, up: float) -> float:
        """Note which records have ended since the last call; return the time for `ended_for`.

        This clock cannot be set. It counts the seconds for which the machine is up; `up` of them
        have passed since the boot `boot`. It stands still while the machine is off, because only
        the settable clock could tell how long that was.
        """
        with contextlib.suppress(DiskFullError):  # old records can be removed nevertheless
            try:
                return self._note_ages(boot, up)
            except DiskFullError:
                if self._some_ended_unnoted():  # their removal will make room
                    return self.write_with_reserve(lambda: self._note_ages(boot, up))
        return self._clock_base(boot, up) + up

    def _some_ended_unnoted(self) -> bool:
        condition = f"WHERE status IN ({_MARKS}) AND ended IS NULL LIMIT 1"
        return bool(self._select(condition, *ENDED))

    def _note_ages(self, boot: str, up: float) -> float:
        with self._writing():
            base = self._clock_base(boot, up)
            now = base + up
            self._db.execute("DELETE FROM clock")
            self._db.execute("INSERT INTO clock VALUES (?, ?, ?)", (boot, base, now))
            self._db.execute(
                "INSERT INTO measured (uuid, ended) SELECT uuid, ? FROM records "
                "LEFT JOIN measured USING (uuid) "
                f"WHERE status IN ({_MARKS}) AND ended IS NULL "
                "ON CONFLICT (uuid) DO UPDATE SET ended = excluded.ended",
                (now, *ENDED),
            )
        return now

    def _clock_base(self, boot: str, up: float) -> float:
        """Return the number of seconds to add to `up`."""
        with self._translated_errors():
            row = self._db.execute("SELECT boot, base, seen FROM clock").fetchone()
        known, base, seen = row or ("", 0.0, 0.0)
        clock_continues = known == boot and base + up >= seen
        return float(base if clock_continues else seen - up)

    # --- notices

    def noticed(self, notice: Notice) -> Record | None:
        """Return the record as it was when it changed; None if it has been removed meanwhile."""
        with self._translated_errors():
            row = self._db.execute(
                "SELECT record FROM notices WHERE number = ?", (notice.number,)
            ).fetchone()
        return _from_json(row[0]) if row else None


def _settings(values: Iterable[str]) -> str:
    """Return the assignments of an UPDATE that sets these fields of a record."""
    return ", ".join(f"{COLUMNS.get(name, name)} = ?" for name in values)


def _to_json(record: Record) -> str:
    """Return a record as JSON with the column names, which every version can read."""
    return json.dumps({COLUMNS.get(name, name): value for name, value in asdict(record).items()})


def _from_json(text: str) -> Record:
    """Return a record from JSON. A newer version may have written fields that are not known."""
    names = {COLUMNS.get(one.name, one.name): one.name for one in fields(Record)}
    values = json.loads(text).items()
    return Record(**{names[column]: value for column, value in values if column in names})


def _storable(value: Any) -> Any:
    """Replace the surrogates in a text, which can come from file names: SQLite does not store
    them."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
