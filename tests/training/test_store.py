"""The records of trainings: none is lost, and each step happens once, in any process."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deepaas.exceptions import StorageError, StorageLockedError
from deepaas.jobs.database import VERSION
from deepaas.jobs.notices import Notice
from deepaas.jobs.store import CANCELLED, ENDED, STATUSES, Ending, Record, Store
from deepaas.jobs.times import local_text

END_SECONDS = 60.0
LARGE = json.dumps("x" * 1_000_000)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with contextlib.closing(Store(tmp_path)) as opened:
        yield opened


@pytest.fixture
def quick(store: Store) -> Store:
    """A store that does not wait for the disk."""
    store._db.execute("PRAGMA synchronous=OFF")
    return store


def add(store: Store, uuid: str, status: str = "queued", **kwargs: str) -> str:
    """Add a record with this status, and return its uuid."""
    store.add(uuid, **{"kind": "train", "model": "m", "owner": "me", **kwargs})
    way: dict[str, list[Callable[[], object]]] = {
        "incoming": [],
        "queued": [lambda: store.accept(uuid, "{}")],
        "starting": [lambda: store.start(uuid)],
        "running": [lambda: store.claim(uuid, "1:2")],
        "done": [lambda: store.finish(uuid, Ending("done"))],
        "error": [lambda: store.finish(uuid, Ending("error"))],
        "cancelled": [lambda: store.finish(uuid, Ending(CANCELLED))],
    }
    order = ["incoming", "queued", "starting", "running"]
    before = order[: order.index(status)] if status in order else order
    for step in [step for one in [*before, status] for step in way[one]]:
        assert step() is not None
    return uuid


def record(store: Store, uuid: str) -> Record:
    found = store.get(uuid)
    assert found is not None
    return found


def uuids(records: list[Record]) -> list[str]:
    return [one.uuid for one in records]


@contextlib.contextmanager
def running(code: str, count: int = 1) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run processes with a piece of Python, each with its number as `name`."""
    with contextlib.ExitStack() as ends:
        processes = []
        for name in range(count):
            process = subprocess.Popen(
                [sys.executable, "-c", f"import sys\nname = {name}\n{code}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            ends.callback(process.communicate)
            ends.callback(process.kill)
            processes.append(process)
        yield processes


def said(processes: list[subprocess.Popen[bytes]]) -> list[list[str]]:
    """Return the words that each process has printed; each must exit with 0."""
    words = [process.communicate(timeout=END_SECONDS)[0].decode().split() for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return words


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Limit the size of files written by this process, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Make a directory read-only, for root too."""
    libc = ctypes.CDLL(None)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3; this thread
    before = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, before) == 0
    fewer = (ctypes.c_uint32 * 6)(*before)
    fewer[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, fewer) == 0
    for path in directory.iterdir():
        path.chmod(0o400)
    directory.chmod(0o500)
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0
        directory.chmod(0o700)
        for path in directory.iterdir():
            path.chmod(0o600)


# --- steps of a record -----------------------------------------------------------------------


def test_record_goes_its_way(store: Store) -> None:
    before = time.time()
    store.add("u", "train", "m", "me", "http://callback")
    assert record(store, "u") == Record(
        number=1,
        uuid="u",
        kind="train",
        model="m",
        owner="me",
        status="incoming",
        date=record(store, "u").date,
        callback="http://callback",
        asked=record(store, "u").asked,
    )
    assert record(store, "u").date == local_text(record(store, "u").asked or 0)
    queued = store.accept("u", '{"a": 1}')
    assert queued == replace(record(store, "u"), status="queued", args='{"a": 1}')
    started = store.start("u")
    assert started == replace(queued, status="starting")
    claimed = store.claim("u", "7:8")
    assert claimed is not None
    assert claimed.started is not None
    assert before <= claimed.started <= time.time()
    assert claimed == replace(
        started, status="running", supervisor="7:8", attempt=1, started=claimed.started
    )
    assert store.working("u", 9) == replace(claimed, pid=9)
    store.loaded("u", 0.5)
    ending = Ending("done", "well", '{"b": 2}', '{"c": 3}')
    done = store.finish("u", ending, 0.75, duration=1.5)
    assert done is not None
    assert done.finished is not None
    assert claimed.started <= done.finished <= time.time()
    assert done == replace(
        claimed,
        pid=9,
        status="done",
        message="well",
        output='{"b": 2}',
        answer='{"c": 3}',
        progress=0.75,
        finished=done.finished,
        duration=1.5,
        load_seconds=0.5,
    )
    assert record(store, "u") == done
    assert done.has_ended


STEPS: dict[str, tuple[Callable[[Store, str], Record | None], dict[str, str]]] = {
    "accept": (lambda store, uuid: store.accept(uuid, "{}"), {"incoming": "queued"}),
    "start": (lambda store, uuid: store.start(uuid), {"queued": "starting"}),
    "claim": (lambda store, uuid: store.claim(uuid, "3:4"), {"starting": "running"}),
    "working": (lambda store, uuid: store.working(uuid, 5), {"running": "running"}),
    "requeue": (lambda store, uuid: store.requeue(uuid), {"starting": "queued"}),
    "finish": (
        lambda store, uuid: store.finish(uuid, Ending("done")),
        {"starting": "done", "running": "done"},
    ),
    "cancel": (
        lambda store, uuid: store.stop(uuid, CANCELLED),
        {"queued": CANCELLED, "starting": CANCELLED, "running": "running"},
    ),
    "stop": (lambda store, uuid: store.stop(uuid, "reason"), {"running": "running"}),
}


@pytest.mark.parametrize("status", ["incoming", *STATUSES])
@pytest.mark.parametrize("step", STEPS)
def test_step_is_made_from_its_status_and_from_no_other(
    quick: Store, step: str, status: str
) -> None:
    make, ways = STEPS[step]
    before = record(quick, add(quick, "u", status))
    other = record(quick, add(quick, "other", status))
    after = make(quick, "u")
    if status in ways:
        assert after is not None
        assert after.status == ways[status]
        assert after.has_ended == (after.status in ENDED)
        assert after.has_ended == (after.finished is not None)
    else:
        assert after is None
        assert record(quick, "u") == before
    assert after in (None, record(quick, "u"))
    assert record(quick, "other") == other


@pytest.mark.parametrize("step", STEPS)
def test_step_of_what_is_not_there_is_none(quick: Store, step: str) -> None:
    add(quick, "u")
    assert STEPS[step][0](quick, "absent") is None
    assert quick.get("absent") is None
    assert len(quick.find("train", "m")) == 1


def test_first_reason_to_stop_is_the_one_that_counts(quick: Store) -> None:
    add(quick, "u", "running")
    for reason in (CANCELLED, "stopped with the server", CANCELLED):
        stopped = quick.stop("u", reason)
        assert stopped is not None
        assert (stopped.status, stopped.stop) == ("running", CANCELLED)


def test_end_of_what_was_cancelled_is_no_error() -> None:
    assert Ending.because(CANCELLED) == Ending("cancelled")
    assert Ending.because("reason") == Ending("error", "reason")


def test_end_is_known_with_how_the_process_ended(quick: Store) -> None:
    add(quick, "u", "done")
    quick.exited("u", None, 9)
    assert (record(quick, "u").exit_code, record(quick, "u").signal) == (None, 9)
    quick.exited("u", 3, None)
    assert (record(quick, "u").exit_code, record(quick, "u").signal) == (3, None)


def test_text_may_hold_what_is_no_character(quick: Store) -> None:
    add(quick, "u", "running")
    done = quick.finish("u", Ending("error", "no file \udcff\x00ä😀", output='"\ud800"'))
    assert done is not None
    assert done.message == "no file ?\x00ä😀"
    assert done.output == '"?"'


def test_uuid_is_of_one_record(quick: Store) -> None:
    add(quick, "u")
    with pytest.raises(StorageError, match="UNIQUE"):
        quick.add("u", "train", "m", "me")
    assert len(quick.find("train", "m")) == 1


def test_record_that_has_ended_can_be_removed_with_its_notices(quick: Store) -> None:
    add(quick, "u", "done", callback="http://callback")
    add(quick, "other", "done", callback="http://callback")
    assert quick.remove("u")
    assert quick.get("u") is None
    assert [notice.uuid for notice in quick.notices("me")] == ["other"]
    assert quick.remove("u")


@pytest.mark.parametrize("status", ["incoming", *STATUSES])
def test_only_what_has_ended_or_never_began_is_removed(quick: Store, status: str) -> None:
    add(quick, "u", status)
    may_go = status not in ("queued", "starting", "running")
    assert quick.remove("u") == may_go
    assert (quick.get("u") is None) == may_go


def test_number_of_a_removed_record_is_not_given_again(quick: Store) -> None:
    add(quick, "a", "done")
    quick.remove("a")
    add(quick, "b")
    assert record(quick, "b").number == 2


def test_owner_is_changed_once(quick: Store, tmp_path: Path) -> None:
    add(quick, "u", owner="gone")
    with contextlib.closing(Store(tmp_path)) as other:
        assert other.adopt("u", "gone", "other")
        assert not quick.adopt("u", "gone", "me")
        assert not quick.adopt("absent", "gone", "me")
    assert record(quick, "u").owner == "other"


# --- queries ---------------------------------------------------------------------------------


def test_records_are_found_by_kind_and_model_oldest_first(quick: Store) -> None:
    for uuid, kind, model in (
        ("c", "train", "m"),
        ("a", "predict", "m"),
        ("b", "train", "m"),
        ("d", "train", "n"),
    ):
        add(quick, uuid, kind=kind, model=model)
    assert uuids(quick.find("train", "m")) == ["c", "b"]
    assert uuids(quick.find("predict", "m")) == ["a"]
    assert uuids(quick.find("train", "n")) == ["d"]
    assert quick.find("train", "absent") == []


def test_records_are_found_by_origin_and_those_without_one_always(
    quick: Store, tmp_path: Path
) -> None:
    for uuid, origin in (("a", "here"), ("b", "there"), ("c", ""), ("d", "here")):
        add(quick, uuid, origin=origin)
    with contextlib.closing(sqlite3.connect(tmp_path / "trainings.db")) as db:
        db.execute("DELETE FROM details WHERE uuid = 'c'")  # as an older version leaves it
        db.commit()
    assert uuids(quick.find("train", "m", origin="here")) == ["a", "c", "d"]
    assert uuids(quick.find("train", "m", origin="there")) == ["b", "c"]
    assert uuids(quick.find("train", "m", limit=1, origin="there")) == ["c"]
    assert uuids(quick.find("train", "m")) == ["a", "b", "c", "d"]
    assert (record(quick, "a").origin, record(quick, "c").origin) == ("here", "")


def test_what_is_being_received_is_not_found(quick: Store) -> None:
    add(quick, "u", "incoming")
    assert quick.find("train", "m") == []


def test_newest_are_found_if_there_are_more_than_wanted(quick: Store) -> None:
    for number in range(5):
        add(quick, f"{number}")
    assert uuids(quick.find("train", "m", limit=2)) == ["3", "4"]
    assert uuids(quick.find("train", "m", limit=9)) == ["0", "1", "2", "3", "4"]
    assert quick.find("train", "m", limit=0) == []


def test_records_are_found_by_status(quick: Store) -> None:
    for status in STATUSES:
        add(quick, f"{status} 1", status)
        add(quick, f"{status} 2", status)
    for status in STATUSES:
        assert uuids(quick.find("train", "m", [status])) == [f"{status} 1", f"{status} 2"]
        assert uuids(quick.find("train", "m", [status], 1)) == [f"{status} 2"]
    found = quick.find("train", "m", ["error", "queued"], 3)
    assert uuids(found) == ["queued 2", "error 1", "error 2"]
    assert quick.find("train", "m", []) == []


def test_what_has_not_ended_is_found_and_what_has_left_processes(quick: Store) -> None:
    for status in ("incoming", *STATUSES):
        add(quick, status, status)
    add(quick, "lingering", "done")
    quick.note_leftover_processes("lingering", True)
    assert uuids(quick.unfinished()) == ["incoming", "queued", "starting", "running", "lingering"]
    quick.note_leftover_processes("lingering", False)
    assert uuids(quick.unfinished()) == ["incoming", "queued", "starting", "running"]


def test_what_ended_long_ago_is_found_unless_it_lingers(quick: Store) -> None:
    for status in ("incoming", *STATUSES):
        add(quick, status, status)
    add(quick, "prediction", "done", kind="predict")
    add(quick, "lingering", "done")
    quick.note_leftover_processes("lingering", True)
    assert quick.ended_for("train", 0, quick.note_ages("boot", 1000)) == list_of(quick, *ENDED)
    assert quick.ended_for("predict", 0, 0) == list_of(quick, "prediction")
    now = quick.note_ages("boot", 1059)
    assert quick.ended_for("train", 60, now) == []
    now = quick.note_ages("boot", 1060)
    assert quick.ended_for("train", 60, now) == list_of(quick, *ENDED)
    quick.note_leftover_processes("lingering", False)
    assert quick.ended_for("train", 60, now) == list_of(quick, *ENDED, "lingering")


def list_of(store: Store, *uuids: str) -> list[Record]:
    return [record(store, uuid) for uuid in uuids]


def test_a_thousand_records_are_listed(quick: Store) -> None:
    for number in range(1000):
        add(quick, f"{number}", model="ab"[number % 2])
    assert uuids(quick.find("train", "a")) == [f"{number}" for number in range(0, 1000, 2)]
    assert uuids(quick.find("train", "b", limit=2)) == ["997", "999"]
    assert len(quick.unfinished()) == 1000


# --- ages ------------------------------------------------------------------------------------


def test_age_goes_on_over_the_end_of_a_process(tmp_path: Path) -> None:
    with contextlib.closing(Store(tmp_path)) as store:
        add(store, "u", "done")
        began = store.note_ages("boot", 1000)
    with contextlib.closing(Store(tmp_path)) as store:
        assert store.note_ages("boot", 1500) == began + 500


def test_age_stands_still_while_the_machine_is_off(quick: Store) -> None:
    add(quick, "u", "done")
    quick.note_ages("first", 1000)
    before = quick.note_ages("first", 1040)
    now = quick.note_ages("second", 5)
    assert now == before
    assert quick.ended_for("train", 41, now) == []
    now = quick.note_ages("second", 25)
    assert now == before + 20
    assert uuids(quick.ended_for("train", 60, now)) == ["u"]


def test_age_never_goes_back(quick: Store) -> None:
    before = quick.note_ages("boot", 1000)
    assert quick.note_ages("boot", 10) == before
    assert quick.note_ages("boot", 30) == before + 20


@pytest.mark.parametrize("jump", [400 * 86400, -400 * 86400], ids=["ahead", "back"])
@pytest.mark.parametrize("restart", [False, True])
def test_age_does_not_change_when_the_clock_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float, restart: bool
) -> None:
    """No record is removed too early or kept too long."""
    true_time = time.time
    with contextlib.ExitStack() as stores:
        store = stores.enter_context(contextlib.closing(Store(tmp_path)))
        add(store, "old", "done")
        store.note_ages("boot", 1000)
        if restart:
            stores.close()
        monkeypatch.setattr("time.time", lambda: true_time() + jump)
        if restart:
            store = stores.enter_context(contextlib.closing(Store(tmp_path)))
        add(store, "new", "done")
        store.note_ages("boot", 1030)
        now = store.note_ages("boot", 1040)
        assert uuids(store.ended_for("train", 41, now)) == []
        assert uuids(store.ended_for("train", 39, now)) == ["old"]
        assert uuids(store.ended_for("train", 9, now)) == ["old", "new"]


def test_age_of_a_record_that_is_removed_is_forgotten(quick: Store) -> None:
    add(quick, "u", "running")
    quick.finish("u", Ending("done"), duration=1)
    quick.note_ages("boot", 1000)
    quick.remove("u")
    assert quick._db.execute("SELECT * FROM measured").fetchall() == []


# --- notices ---------------------------------------------------------------------------------


def test_nobody_is_told_without_a_callback(quick: Store) -> None:
    add(quick, "u", "done")
    assert quick.notices("me") == []
    assert quick.notice_owners() == []


def test_each_status_but_starting_is_told_as_it_was_then_one_by_one(quick: Store) -> None:
    add(quick, "u", "running", callback="http://callback")
    quick.working("u", 7)
    quick.stop("u", "reason")
    quick.finish("u", Ending("error", "reason"))
    told = []
    while notices := quick.notices("me"):
        (notice,) = notices
        assert (notice.uuid, notice.callback) == ("u", "http://callback")
        then = noticed(quick, notice)
        told.append((then.status, then.pid, notice.attempts))
        quick.drop_notice(notice.number)
    assert told == [("queued", None, 0), ("running", None, 0), ("error", 7, 0)]


def noticed(store: Store, notice: Notice) -> Record:
    found = store.noticed(notice)
    assert found is not None
    return found


def test_cancelling_what_waits_is_told(quick: Store) -> None:
    add(quick, "u", "queued", callback="http://callback")
    quick.drop_notice(quick.notices("me")[0].number)
    cancelled = quick.stop("u", CANCELLED)
    assert [noticed(quick, notice) for notice in quick.notices("me")] == [cancelled]


def test_notices_are_of_their_owner_in_their_order(quick: Store) -> None:
    for number in range(6):
        add(quick, f"{number}", owner="ab"[number % 2], callback="http://callback")
    assert [notice.uuid for notice in quick.notices("a")] == ["0", "2", "4"]
    assert [notice.uuid for notice in quick.notices("b")] == ["1", "3", "5"]
    assert sorted(quick.notice_owners()) == ["a", "b"]


def test_attempts_to_send_a_notice_are_counted(quick: Store) -> None:
    add(quick, "u", "done", callback="http://callback")
    (before,) = quick.notices("me")
    quick.count_attempt(before.number)
    quick.count_attempt(before.number)
    assert quick.notices("me") == [replace(before, attempts=2)]
    quick.drop_notice(before.number)
    assert quick.noticed(before) is None


def test_notices_of_a_server_that_has_gone_are_taken_over(quick: Store) -> None:
    add(quick, "u", owner="gone", callback="http://callback")
    before = quick.notices("gone")
    quick.adopt_notices("gone", "me")
    assert quick.notices("gone") == []
    assert quick.notices("me") == before
    assert quick.notice_owners() == ["me"]


# --- several processes -----------------------------------------------------------------------


def test_version_tells_that_another_process_has_written(store: Store, tmp_path: Path) -> None:
    before = store.version()
    add(store, "u")
    assert store.version() == before
    with contextlib.closing(Store(tmp_path)) as other:
        add(other, "v")
    after = store.version()
    assert after != before
    assert store.version() == after


CLAIM = """
from pathlib import Path
from deepaas.jobs.store import Store
store = Store(Path({path!r}))
print("ready", flush=True)
sys.stdin.read(1)
for number in range({count}):
    if store.claim(str(number), f"{{name}}:0"):
        print(number)
"""


def test_record_is_claimed_by_one_of_those_who_try_at_once(quick: Store, tmp_path: Path) -> None:
    count = 100
    for number in range(count):
        add(quick, f"{number}", "starting")
    with running(CLAIM.format(path=str(tmp_path), count=count), 3) as processes:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"x")
            process.stdin.flush()
        claimed = said(processes)
    assert sorted(int(number) for words in claimed for number in words) == list(range(count))
    for name, words in enumerate(claimed):
        assert {record(quick, uuid).supervisor for uuid in words} <= {f"{name}:0"}
    assert {record(quick, f"{number}").attempt for number in range(count)} == {1}


OPEN = """
from pathlib import Path
from deepaas.jobs.store import Store
for number in range({count}):
    store = Store(Path({path!r}))
    store.add(f"{{name}}-{{number}}", "train", "m", "me")
    store.accept(f"{{name}}-{{number}}", "{{}}")
    store.close()
"""


def test_store_is_made_opened_and_closed_by_many_at_once(tmp_path: Path) -> None:
    with running(OPEN.format(path=str(tmp_path), count=15), 4) as processes:
        said(processes)
    with contextlib.closing(Store(tmp_path)) as store:
        found = uuids(store.find("train", "m"))
    assert sorted(found) == sorted(f"{name}-{number}" for name in range(4) for number in range(15))


WRITE = """
import itertools
from pathlib import Path
from deepaas.jobs.store import Store
store = Store(Path({path!r}))
for number in itertools.count():
    store.add(str(number), "train", "m", "me")
    store.accept(str(number), {args!r} * 1000)
    print(number, flush=True)
"""


@pytest.mark.parametrize("written", [1, 3, 20])
def test_nothing_is_lost_when_a_process_is_killed_amid_its_work(
    tmp_path: Path, written: int
) -> None:
    with running(WRITE.format(path=str(tmp_path), args="[{}]")) as (process,):
        assert process.stdout is not None
        for number in range(written):
            assert process.stdout.readline() == b"%d\n" % number
        process.send_signal(signal.SIGKILL)
        process.wait(END_SECONDS)
        last = int([str(written - 1), *process.stdout.read().decode().split()][-1])
    with contextlib.closing(Store(tmp_path)) as store:
        found = store.find("train", "m")
        assert last + 1 <= len(found) <= last + 2
        assert {one.args for one in found} == {"[{}]" * 1000}
        assert store._db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        add(store, "after")


AMID = """
from pathlib import Path
from deepaas.jobs.store import Store
store = Store(Path({path!r}))
with store._writing():
    store._db.execute("UPDATE records SET status = 'done'")
    print("written", flush=True)
    sys.stdin.read()
"""


def test_change_that_a_killed_process_has_not_finished_is_not_made(
    store: Store, tmp_path: Path
) -> None:
    add(store, "u", "running")
    with running(AMID.format(path=str(tmp_path))) as (process,):
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        assert record(store, "u").status == "running"
        process.send_signal(signal.SIGKILL)
        process.wait(END_SECONDS)
        assert store.finish("u", Ending("error"))
    assert record(store, "u").status == "error"


def test_write_that_takes_another_process_too_long_is_an_error(tmp_path: Path) -> None:
    with (
        contextlib.closing(Store(tmp_path, wait=0.05)) as store,
        contextlib.closing(sqlite3.connect(tmp_path / "trainings.db")) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageLockedError, match="is locked by another process"):
            add(store, "u")
        assert store.get("u") is None
        other.rollback()
        add(store, "u")


def test_it_is_opened_while_another_process_writes(tmp_path: Path) -> None:
    Store(tmp_path).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "trainings.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        with contextlib.closing(Store(tmp_path, wait=0)) as store:
            assert store.get("u") is None


def test_two_stores_of_one_process_do_not_take_each_others_locks(tmp_path: Path) -> None:
    """Closing any descriptor of a file releases all locks that the process has on it."""
    with contextlib.closing(Store(tmp_path)) as store:
        add(store, "u")
        held = locks()
        assert held
        with contextlib.closing(Store(tmp_path)):
            assert locks() >= held


def locks() -> int:
    """Return the number of locks of this process of the kind that SQLite uses."""
    with open("/proc/locks") as file:
        return sum("POSIX" in line and f" {os.getpid()} " in line for line in file)


# --- the file --------------------------------------------------------------------------------


def test_files_are_private(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        with contextlib.closing(Store(tmp_path)) as store:
            add(store, "u")
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(mask)
    assert modes == dict.fromkeys(["trainings.db", "trainings.db-wal", "trainings.db-shm"], 0o600)


def test_records_are_there_when_it_is_opened_again(tmp_path: Path) -> None:
    with contextlib.closing(Store(tmp_path)) as store:
        add(store, "u", "done")
        before = record(store, "u")
    assert [path.name for path in tmp_path.iterdir()] == ["trainings.db"]
    with contextlib.closing(Store(tmp_path)) as store:
        assert record(store, "u") == before
        assert str(tmp_path) in repr(store)


def test_file_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "trainings.db"
    with contextlib.closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA journal_mode=WAL")
        newer.execute("CREATE TABLE records (other)")
        newer.execute(f"PRAGMA user_version={VERSION + 1}")
    before = path.read_bytes()
    opened = os.listdir("/proc/self/fd")
    versions = rf"version {VERSION + 1}, .*knows {VERSION}"
    with pytest.raises(StorageError, match=f"newer version .*{versions}.*--state-dir"):
        Store(tmp_path)
    assert path.read_bytes() == before
    assert os.listdir("/proc/self/fd") == opened


@pytest.mark.parametrize("place", ["garbage", "directory", "absent", "broken"])
def test_what_cannot_be_opened_is_said(tmp_path: Path, place: str) -> None:
    directory = tmp_path / place
    if place != "absent":
        directory.mkdir()
    path = directory / "trainings.db"
    if place == "garbage":
        path.write_bytes(b"no database" * 1000)
    elif place == "directory":
        path.mkdir()
    elif place == "broken":
        with contextlib.closing(Store(directory)) as store:
            add(store, "u")
        path.write_bytes(path.read_bytes()[:4096])
    opened = os.listdir("/proc/self/fd")
    said = f"record of trainings, {path}, cannot be used: "
    with (
        pytest.raises(StorageError, match=said),
        contextlib.closing(Store(directory)) as store,
    ):
        store.find("train", "m")
    assert os.listdir("/proc/self/fd") == opened


def test_read_only_directory_is_an_error(tmp_path: Path) -> None:
    with read_only(tmp_path), pytest.raises(StorageError, match=r"trainings\.db.*Permission"):
        Store(tmp_path)
    Store(tmp_path).close()


def test_read_only_file_is_an_error_and_can_be_used_afterwards(tmp_path: Path) -> None:
    with contextlib.closing(Store(tmp_path)) as store:
        add(store, "u")
    with read_only(tmp_path), pytest.raises(StorageError, match="readonly database"):
        Store(tmp_path)
    with contextlib.closing(Store(tmp_path)) as store:
        assert uuids(store.find("train", "m")) == ["u"]
        add(store, "v")


def test_full_database_is_an_error_and_can_be_used_afterwards(store: Store) -> None:
    add(store, "u", "incoming")
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StorageError, match=r"trainings\.db.*full"):
        store.accept("u", LARGE)
    assert record(store, "u").status == "incoming"
    store._db.execute("PRAGMA max_page_count=1000000")
    assert store.accept("u", LARGE)
    assert record(store, "u").args == LARGE


def test_full_disk_is_an_error_and_the_store_can_be_used_afterwards(
    store: Store, tmp_path: Path
) -> None:
    add(store, "u", "incoming")
    size = (tmp_path / "trainings.db-wal").stat().st_size
    with files_of_at_most(size + 10_000):
        for _ in range(3):
            with pytest.raises(StorageError, match=r"trainings\.db.*cannot be used"):
                store.accept("u", LARGE)
        assert record(store, "u").status == "incoming"
    assert store.accept("u", LARGE)
    with contextlib.closing(Store(tmp_path)) as other:
        assert record(other, "u").args == LARGE
        assert other._db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_store_that_there_is_no_room_for_is_an_error_and_is_made_later(tmp_path: Path) -> None:
    with files_of_at_most(100), pytest.raises(StorageError, match="cannot be used"):
        Store(tmp_path)
    with contextlib.closing(Store(tmp_path)) as store:
        add(store, "u")


def test_store_that_is_closed_is_an_error(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.close()
    for use in (store.version, store.unfinished, lambda: store.start("u")):
        with pytest.raises(StorageError, match="closed database"):
            use()


# --- weights ---------------------------------------------------------------------------------


def test_trainings_whose_weights_are_not_loaded_are_found(quick: Store) -> None:
    add(quick, "done", "done")
    add(quick, "loaded", "done")
    add(quick, "failed", "error")
    add(quick, "runs", "running")
    add(quick, "job", "done", kind="predict")
    quick.note_weights("loaded", 1.5)
    assert uuids(quick.without_weights()) == ["done"]


def test_weights_are_loaded_once_and_that_ends_the_problem(quick: Store) -> None:
    add(quick, "u", "done")
    quick.note_weights("u", None, "why")
    assert (record(quick, "u").weights_loaded, record(quick, "u").weights_problem) == (None, "why")
    quick.note_weights("u", 1.5)
    quick.note_weights("u", 2.5)
    quick.note_weights("u", None, "later")
    assert (record(quick, "u").weights_loaded, record(quick, "u").weights_problem) == (1.5, "")
    quick.note_weights("absent", 1.5)


def test_nothing_of_a_record_is_left_when_it_is_removed(quick: Store, tmp_path: Path) -> None:
    add(quick, "u", "done")
    quick.loaded("u", 1.0)
    quick.remove("u")
    quick.loaded("u", 1.0)  # by a supervisor that comes too late
    with contextlib.closing(sqlite3.connect(tmp_path / "trainings.db")) as db:
        for table in ("records", "measured", "details", "notices"):
            assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
