"""State directories of older versions can be opened, and nothing in them is lost."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import pytest

from deepaas.jobs.store import Ending, Store
from tests.support import wait_until
from tests.training.test_callbacks import Receiver
from tests.training.trainings import Place, Site

# The first schema, which version 2.7.0 wrote until it changed.
FIRST = """
CREATE TABLE records (
    number INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
    model TEXT NOT NULL, owner TEXT NOT NULL, status TEXT NOT NULL, date TEXT NOT NULL,
    args TEXT NOT NULL DEFAULT '{}', callback TEXT NOT NULL DEFAULT '',
    attempt INTEGER NOT NULL DEFAULT 0, keeper TEXT NOT NULL DEFAULT '', pid INTEGER,
    started REAL, finished REAL, stop TEXT NOT NULL DEFAULT '', message TEXT NOT NULL DEFAULT '',
    output TEXT, answer TEXT, progress REAL, exit_code INTEGER, signal INTEGER,
    lingering INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX by_model ON records (model, kind, number);
CREATE INDEX by_status ON records (status, number);
CREATE TABLE notices (
    number INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL, owner TEXT NOT NULL,
    record TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL
);
PRAGMA user_version=1;
"""
SECOND = f"""{FIRST}
CREATE TABLE measured (uuid TEXT PRIMARY KEY, duration REAL, ended REAL);
CREATE TABLE clock (boot TEXT NOT NULL, base REAL NOT NULL, seen REAL NOT NULL);
PRAGMA user_version=2;
"""
DONE, WAITING = "d" * 32, "0" * 32
RECORD = {
    "number": 1,
    "uuid": DONE,
    "kind": "train",
    "model": "trains",
    "owner": "1-2-gone",
    "status": "done",
    "date": "2026-11-25 18:32:50.938554",
    "args": '{"text": "old"}',
    "callback": "",
    "attempt": 1,
    "keeper": "4194304:1",
    "pid": 4194305,
    "started": 1_000_000.0,
    "finished": 1_000_003.5,
    "stop": "",
    "message": "",
    "output": '{"loss": 0.5}',
    "answer": None,
    "progress": 1.0,
    "exit_code": 0,
    "signal": None,
    "lingering": 0,
}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with one record of an ended training."""
    state = tmp_path / "state"
    (state / "work" / DONE / "artifacts").mkdir(parents=True)
    (state / "servers").mkdir()
    (state / "servers" / "1-2-gone").touch()
    with contextlib.closing(sqlite3.connect(state / "trainings.db", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript(FIRST)
        insert(db, RECORD)
    return state


def insert(db: sqlite3.Connection, record: dict[str, object]) -> None:
    marks = ", ".join("?" * len(record))
    db.execute(f"INSERT INTO records ({', '.join(record)}) VALUES ({marks})", [*record.values()])


def test_records_are_shown_and_removed(state: Path) -> None:
    trainings = Site(state).serve()
    try:
        (record,) = trainings.list()
        assert trainings.get(DONE) == {**record, "metrics": [], "artifacts": []}
        assert (record["uuid"], record["date"]) == (DONE, RECORD["date"])
        assert record["result"]["output"] == {"loss": 0.5}
        assert record["duration"] == "0:00:03.500000"
        assert trainings.delete(DONE).status_code == 200
        assert trainings.list() == []
        assert not (state / "work" / DONE).exists()
        assert trainings.wait(trainings.begin())["status"] == "done"
    finally:
        trainings.server.stop()


def test_old_record_has_times_in_utc_and_nothing_that_was_not_noted(state: Path) -> None:
    """The server has the same time zone as the one before it, as is usual."""
    with contextlib.closing(sqlite3.connect(state / "trainings.db", isolation_level=None)) as db:
        db.executescript(SECOND.replace(FIRST, ""))
        db.execute("INSERT INTO measured VALUES (?, 2.5, NULL)", (DONE,))
    trainings = Site(state).serve(env={"TZ": "Asia/Tokyo"})
    try:
        record = trainings.get(DONE)
        assert record["date_utc"] == "2026-11-25T09:32:50.938554Z"
        assert record["start_date_utc"] == "1970-01-12T13:46:40.000000Z"
        assert record["finish_date_utc"] == "1970-01-12T13:46:43.500000Z"
        assert record["finish_date"] == "1970-01-12 22:46:43.500000"
        assert record["duration"] == "0:00:02.500000"  # it includes the time for loading
        assert record["load_seconds"] is None
        assert (record["weights_loaded_utc"], record["weights_problem"]) == (None, None)
    finally:
        trainings.server.stop()


def test_old_records_are_removed_in_time_and_not_before(state: Path) -> None:
    """The age of old records counts from the first sweep."""
    for ttl, is_kept in (("1000", True), ("0.1", False)):
        trainings = Site(state).serve("--training-ttl", ttl, "--sweep-interval", "0.1")
        try:
            if is_kept:
                clock = "SELECT count(*) FROM clock"
                wait_until(lambda: value_of(state, clock) == 1, within=20, what="a sweep")  # noqa: B023
                assert len(trainings.list()) == 1
            else:
                wait_until(lambda: trainings.list() == [], within=20)  # noqa: B023
        finally:
            trainings.server.stop()


def value_of(state: Path, query: str) -> object:
    with contextlib.closing(sqlite3.connect(state / "trainings.db")) as db:
        return db.execute(query).fetchone()[0]


def test_what_was_to_be_told_is_told(state: Path) -> None:
    receiver = Receiver()
    told = {**RECORD, "callback": receiver.url}
    with contextlib.closing(sqlite3.connect(state / "trainings.db", isolation_level=None)) as db:
        db.execute("UPDATE records SET callback = ?", (receiver.url,))
        db.execute(
            "INSERT INTO notices (uuid, owner, record, due) VALUES (?, '1-2-gone', ?, 1e12)",
            (DONE, json.dumps(told)),
        )
    try:
        trainings = Site(state).serve("--allow-callbacks", "127.0.0.1")
        receiver.wait_for("done")
        assert receiver.posts[0].record["duration"] == "0:00:03.500000"
        trainings.server.stop()
    finally:
        receiver.close()


def test_what_has_waited_is_begun(state: Path, place: Place) -> None:
    """The request files have the same form; only the database had another schema."""
    site = Site(state)
    before = site.serve()
    first = before.begin(place=place)
    place.wait_for_attempt()
    waiting = before.begin()
    before.server.kill()
    with contextlib.closing(sqlite3.connect(state / "trainings.db", isolation_level=None)) as db:
        db.executescript(
            "DROP TRIGGER note_change; DROP TABLE changes; DROP TABLE measured; DROP TABLE clock; "
            "DROP TABLE details; PRAGMA user_version=1"
        )
    place.open_gate()
    trainings = site.serve()
    assert trainings.wait(waiting)["status"] == "done"
    assert trainings.get(first)["status"] in ("done", "error")
    site.close()


def test_details_are_added_to_the_forms_before(state: Path) -> None:
    """A supervisor of that version still adds its own columns by name."""
    with contextlib.closing(Store(state)) as store:
        store.add("u", "train", "trains", "me", principal="alice", request_id="first")
    with contextlib.closing(sqlite3.connect(state / "trainings.db", isolation_level=None)) as db:
        db.executescript(
            "DROP TRIGGER note_change; DROP TABLE changes; "
            "ALTER TABLE details DROP COLUMN request_id; "
            "ALTER TABLE details DROP COLUMN principal; PRAGMA user_version=3"
        )
    with contextlib.closing(Store(state)) as store:
        record = store.get("u")
        assert record is not None
        assert (record.principal, record.request_id, record.asked is not None) == (None, "", True)
        store.add("v", "train", "trains", "me", principal="bob", request_id="second")
        store.loaded("v", 0.5)
        named = store.get("v")
        assert named is not None
        assert (named.principal, named.request_id, named.load_seconds) == ("bob", "second", 0.5)
    with contextlib.closing(sqlite3.connect(state / "trainings.db", isolation_level=None)) as db:
        db.execute("INSERT INTO details (uuid, asked, origin) VALUES ('w', 1.0, '')")


def test_a_supervisor_of_the_version_before_can_still_write(state: Path) -> None:
    """It was started before the upgrade, and expects the old columns."""
    with contextlib.closing(Store(state)) as store:
        store.add("u", "train", "trains", "me")
        store.accept("u", "{}")
        store.start("u")
        store.claim("u", "1:2")
    with contextlib.closing(sqlite3.connect(state / "trainings.db", isolation_level=None)) as db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(records)")]
        assert columns == list(RECORD)
        db.execute("UPDATE records SET status = 'done', finished = started + 2 WHERE uuid = 'u'")
    with contextlib.closing(Store(state)) as store:
        record = store.get("u")
        assert record is not None
        assert (record.status, record.duration) == ("done", None)
        assert store.finish("u", Ending("error")) is None
        changes = [(one.status, one.seconds) for one in store.changes("me")]
        assert changes == [("queued", None), ("running", None), ("done", 2)]
