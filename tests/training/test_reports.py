"""Reports of a training: any values, any number, from several processes at once."""

from __future__ import annotations

import contextlib
import enum
import fcntl
import json
import math
import os
import resource
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepaas.training import directory, report, reports
from deepaas.training.reports import last_report, read_reports

END_SECONDS = 60.0


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reports file of this process, which acts as a training."""
    path = tmp_path / "reports.jsonl"
    monkeypatch.setenv(reports.REPORTS, str(path))
    monkeypatch.delenv(reports.REPORTS_SIZE, raising=False)
    return path


def told(file: Path) -> list[dict[str, Any]]:
    """Return all reports, without their times."""
    return [{name: value for name, value in one.items() if name != "time"} for one in all_of(file)]


def all_of(file: Path) -> list[dict[str, Any]]:
    """Return all reports of a file; fail if it contains anything else."""
    found = read_reports(file)
    assert len(found) == len([line for line in file.read_bytes().split(b"\n") if line])
    return found


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Limit the size of files written by this process, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def run_all(codes: list[str], file: Path, size: int = reports.DEFAULT_SIZE) -> None:
    """Run pieces of Python at the same time, each in a separate process of the training."""
    env = os.environ | {reports.REPORTS: str(file), reports.REPORTS_SIZE: str(size)}
    with contextlib.ExitStack() as ends:
        processes = []
        for code in codes:
            process = subprocess.Popen([sys.executable, "-c", code], env=env)
            ends.callback(process.wait)
            ends.callback(process.kill)
            processes.append(process)
        assert [process.wait(END_SECONDS) for process in processes] == [0] * len(codes)


# --- contents --------------------------------------------------------------------------------


def test_outside_of_a_training_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (reports.REPORTS, reports.DIRECTORY):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    report(progress=0.5, loss=1)
    assert list(tmp_path.iterdir()) == []
    assert directory() == tmp_path


def test_files_to_be_kept_belong_in_the_directory_of_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(reports.DIRECTORY, str(tmp_path / "artifacts"))
    assert directory() == tmp_path / "artifacts"


def test_report_is_what_was_said_and_when(file: Path) -> None:
    before = time.time()
    report(progress=0.25, epoch=3, loss=0.125, phase="validation")
    report()
    after = time.time()
    times = [one["time"] for one in read_reports(file)]
    assert before - 0.001 <= times[0] <= times[1] <= after + 0.001
    assert told(file) == [
        {"progress": 0.25, "epoch": 3, "loss": 0.125, "phase": "validation"},
        {},
    ]


class Tensor:
    """Like a tensor of torch: it is not a number, but can be converted to one."""

    def __init__(self, *values: float) -> None:
        self._values = values

    def item(self) -> float:
        (value,) = self._values
        return value

    def __str__(self) -> str:
        return f"tensor({list(self._values)})"


class OnlyFloat:
    def __float__(self) -> float:
        return 2.5


class Stubborn:
    """Raises an exception on any access."""

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__

    def __float__(self) -> float:
        raise RuntimeError

    def item(self) -> float:
        raise RuntimeError


class Phase(str, enum.Enum):
    TRAIN = "train"


class Itself(str):
    """A string whose `str()` is of its subclass."""

    __slots__ = ()

    def __str__(self) -> str:
        return self


class Count(enum.IntEnum):
    THREE = 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, 3),
        (True, True),
        (0.5, 0.5),
        ("text", "text"),
        (None, None),
        (math.nan, None),
        (math.inf, None),
        (-math.inf, None),
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
        (2**64 + 1, 2**64 + 1),
        (-(2**70) - 1, -(2**70) - 1),
        (10**400, None),
        (10**5000, None),
        (np.float32(0.5), 0.5),
        (np.float64(0.5), 0.5),
        (np.float16("nan"), None),
        (np.int8(-3), -3),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.bool_(True), True),
        (np.str_("text"), "text"),
        (np.array(2.5), 2.5),
        (np.array([7]), 7),
        (np.array([1, 2]), "[1 2]"),
        (Tensor(0.75), 0.75),
        (Tensor(math.nan), None),
        (Tensor(1, 2), "tensor([1, 2])"),
        (OnlyFloat(), 2.5),
        (Decimal("0.25"), 0.25),
        (Decimal("1e999"), None),
        (Fraction(1, 4), 0.25),
        (Phase.TRAIN, "train"),
        (Count.THREE, 3),
        (Itself("text"), "text"),
        (1j, "1j"),
        (Path("/a"), "/a"),
        ([1, 2], "[1, 2]"),
        (b"12", "b'12'"),
        (Stubborn(), "<Stubborn>"),
        ([Stubborn()], "[<Stubborn instance at 0x"),
        ("x" * 1000, "x" * 200),
        ("\ud800ä😀\n\x00\u2028", "?ä😀\n\x00\u2028"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_metric_becomes_a_number_or_a_text(file: Path, value: Any, expected: object) -> None:
    report(metric=value, after=1)
    (one,) = told(file)
    if isinstance(expected, str) and expected.endswith("0x"):
        assert one["metric"].startswith(expected)
        one["metric"] = expected
    assert one == {"metric": expected, "after": 1}
    assert type(one["metric"]) is type(expected)


@pytest.mark.parametrize(
    "value",
    [
        list(range(1_000_000)),
        dict.fromkeys(range(1_000_000)),
        np.zeros(1_000_000),
        type("T" * 1000, (Stubborn,), {})(),
    ],
    ids=["list", "dict", "array", "name"],
)
def test_large_values_become_short_texts(file: Path, value: Any) -> None:
    report(metric=value)
    assert 0 < len(told(file)[0]["metric"]) <= 200


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (0, 0.0),
        (1, 1.0),
        (7, 1.0),
        (-0.5, 0.0),
        (10**300, 1.0),
        (True, 1.0),
        ("0.5", 0.5),
        (np.float32(0.5), 0.5),
        (Tensor(0.5), 0.5),
        (None, None),
        ("much", None),
        ("nan", None),
        (math.nan, None),
        (math.inf, None),
        (10**400, None),
        ([0.5], None),
        (Stubborn(), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_progress_is_from_0_to_1_or_not_told(file: Path, progress: Any, expected: object) -> None:
    report(progress, loss=1)
    assert told(file) == [{"loss": 1} if expected is None else {"progress": expected, "loss": 1}]


def test_metric_cannot_take_the_place_of_the_time(file: Path) -> None:
    report(time="then", loss=1)
    (one,) = read_reports(file)
    assert abs(one["time"] - time.time()) < END_SECONDS
    assert told(file) == [{"loss": 1}]


def test_no_more_than_a_hundred_metrics_are_kept_with_short_names(file: Path) -> None:
    report(**{f"m{number:03}": number for number in range(1000)})
    report(**{"n" * 1000: 1})
    assert told(file) == [{f"m{number:03}": number for number in range(100)}, {"n" * 200: 1}]


_names = st.text(st.characters(), max_size=250).filter(lambda name: name != "progress")
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(_values, st.dictionaries(_names, _values, max_size=5))
def test_whatever_is_said_is_one_line_of_json(progress: Any, metrics: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        path = Path(name) / "reports"
        patch.setenv(reports.REPORTS, str(path))
        report(progress, **metrics)
        (line,) = path.read_bytes().removesuffix(b"\n").split(b"\n")
        assert isinstance(json.loads(line.decode())["time"], float)
        for value in all_of(path)[0].values():
            assert value is None or type(value) in (bool, int, float, str)


# --- never raises ----------------------------------------------------------------------------


def test_file_is_private_and_nothing_stays_open(file: Path) -> None:
    before = os.listdir("/proc/self/fd")
    mask = os.umask(0)
    try:
        report(loss=1)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("place", ["absent/reports", "file/reports", "directory", "/dev/full"])
def test_report_that_cannot_be_written_harms_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()
    before = os.listdir("/proc/self/fd")
    monkeypatch.setenv(reports.REPORTS, str(tmp_path / place))
    report(loss=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["directory", "file"]
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("room", [0, 5])
def test_full_disk_costs_only_the_reports_that_it_has_no_room_for(file: Path, room: int) -> None:
    report(number=1)
    with files_of_at_most(file.stat().st_size + room):
        report(number=2)
        report(number=3)
    report(number=4)
    assert [one["number"] for one in read_reports(file)] == [1, 4]


def test_full_disk_keeps_what_there_is_when_it_cannot_be_thinned(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(50):
        report(number=number)
    before = file.read_bytes()
    monkeypatch.setenv(reports.REPORTS_SIZE, "1000")
    with files_of_at_most(100):
        report(number=50)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_report_after_one_that_was_cut_off_is_whole(file: Path) -> None:
    report(number=1)
    with file.open("ab") as torn:
        torn.write(b'{"time": 1.5, "numb')
    assert [one["number"] for one in read_reports(file)] == [1]
    assert last_report(file)["number"] == 1
    report(number=3)
    assert [one["number"] for one in read_reports(file)] == [1, 3]


def test_who_has_the_file_locked_is_not_waited_for_long(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "LOCK_SECONDS", 0.02)
    report(number=1)
    with file.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        report(number=2)
        fcntl.flock(other, fcntl.LOCK_UN)
        report(number=3)
    assert told(file) == [{"number": 1}, {"number": 3}]


def test_report_by_a_signal_handler_amid_another_stops_neither(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "LOCK_SECONDS", 0.02)
    monkeypatch.setenv(reports.REPORTS_SIZE, "1000")
    thin = reports._thin

    def interrupted(path: str, fd: int, most: int) -> None:
        report(number="of a handler")
        thin(path, fd, most)

    monkeypatch.setattr(reports, "_thin", interrupted)
    for number in range(100):
        report(number=number)
    assert told(file)[-1] == {"number": 99}
    assert file.stat().st_size <= 1000


# --- many at once ----------------------------------------------------------------------------


def test_no_report_of_any_thread_is_lost(file: Path) -> None:
    def work(name: int) -> None:
        for number in range(100):
            report(name=name, number=number)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    by_thread: dict[int, list[int]] = {}
    for one in all_of(file):
        by_thread.setdefault(one["name"], []).append(one["number"])
    assert by_thread == {name: list(range(100)) for name in range(8)}


WORK = """
from deepaas.training import report
for number in range({count}):
    report(name={name}, number=number)
"""


def test_no_report_of_any_process_is_lost(file: Path) -> None:
    run_all([WORK.format(name=name, count=500) for name in range(4)], file)
    by_process: dict[int, list[int]] = {}
    for one in all_of(file):
        by_process.setdefault(one["name"], []).append(one["number"])
    assert by_process == {name: list(range(500)) for name in range(4)}


def test_processes_that_report_too_much_thin_the_file_together(file: Path) -> None:
    size = 8000
    run_all([WORK.format(name=name, count=1000) for name in range(4)], file, size)
    assert size // 4 <= file.stat().st_size <= size
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    by_process: dict[int, list[int]] = {}
    for one in all_of(file):
        by_process.setdefault(one["name"], []).append(one["number"])
    for numbers in by_process.values():
        assert numbers == sorted(set(numbers))
    assert 999 in [numbers[-1] for numbers in by_process.values()]


def test_children_that_are_forked_amid_reports_report_too(file: Path) -> None:
    code = """
import os, threading
from deepaas.training import report
over = threading.Event()
def work():
    while not over.is_set():
        report(name="thread")
thread = threading.Thread(target=work)
thread.start()
pids = []
for number in range(20):
    pid = os.fork()
    if not pid:
        report(name="child", number=number)
        os._exit(0)
    os.waitpid(pid, 0)
over.set()
thread.join()
report(name="parent")
"""
    run_all([code], file, 10**9)
    found = all_of(file)
    assert [one["number"] for one in found if one["name"] == "child"] == list(range(20))
    assert found[-1]["name"] == "parent"


# --- size limit ------------------------------------------------------------------------------


@pytest.fixture
def small(file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reports file that is limited to 2000 bytes."""
    monkeypatch.setenv(reports.REPORTS_SIZE, "2000")
    return file


def test_file_is_never_larger_than_its_size_and_has_the_newest(small: Path) -> None:
    for number in range(500):
        report(number=number)
        assert small.stat().st_size <= 2000
        assert last_report(small)["number"] == number
    numbers = [one["number"] for one in told(small)]
    assert numbers == sorted(set(numbers))
    assert len(numbers) > 15


def test_thinning_drops_every_second_report_and_not_the_newest(small: Path) -> None:
    number = before = 0
    while not small.exists() or small.stat().st_size > before:
        before = small.stat().st_size if small.exists() else 0
        report(number=number)
        number += 1
    assert [one["number"] for one in told(small)] == list(range(number - 1, -1, -2))[::-1]


def test_only_report_of_its_kind_is_kept(small: Path) -> None:
    report(layers=7)
    for number in range(500):
        report(number=number)
    assert told(small)[0] == {"layers": 7}


@pytest.mark.parametrize("kinds", ["names", "texts"])
def test_of_reports_that_take_turns_both_kinds_remain(small: Path, kinds: str) -> None:
    for number in range(501):
        if kinds == "names":
            report(**{("validation" if number % 2 else "training"): number})
        else:
            report(phase="validation" if number % 2 else "training", number=number)
    found = [number for one in told(small) for number in one.values() if type(number) is int]
    assert found[-2:] == [499, 500]
    even = sum(number % 2 == 0 for number in found)
    assert abs(even - len(found) / 2) <= 2


@pytest.mark.parametrize("others", [1, 2, 3])
def test_thinning_does_not_set_the_progress_back(small: Path, others: int) -> None:
    for number in range(300):
        report(progress=number / 500)
        for other in range(others):
            report(loss=other)
        assert last_report(small)["progress"] == number / 500


def test_reports_that_are_all_different_are_thinned_too(small: Path) -> None:
    for number in range(200):
        report(text=f"epoch {number}")
        assert small.stat().st_size <= 2000
    assert told(small)[-1] == {"text": "epoch 199"}


@pytest.mark.parametrize("size", ["0", "-5", "10"])
def test_newest_report_is_kept_however_small_the_file_has_to_be(
    file: Path, monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    monkeypatch.setenv(reports.REPORTS_SIZE, size)
    for number in range(5):
        report(number=number)
        assert told(file) == [{"number": number}]


def test_size_that_is_no_number_is_the_usual_one(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(reports.REPORTS_SIZE, "much")
    for number in range(200):
        report(number=number)
    assert len(told(file)) == 200


def test_thinning_drops_what_is_no_report_and_mends_a_torn_line(small: Path) -> None:
    small.write_bytes(b"garbage\n\n" * 300)
    for number in range(100):
        report(number=number)
    assert small.stat().st_size <= 2000
    assert read_reports(small)[-1]["number"] == 99


def test_what_a_killed_process_has_left_of_thinning_is_no_harm(small: Path) -> None:
    left = Path(f"{small}.new")
    left.write_bytes(b"x" * 10_000)
    for number in range(100):
        report(number=number)
    assert told(small)[-1] == {"number": 99}
    assert small.stat().st_size <= 2000
    assert not left.exists()


def test_file_that_cannot_be_thinned_does_not_grow_without_end(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "rename", fail)
    monkeypatch.setattr(reports, "_MAX_EXCESS", 4000)
    for number in range(1000):
        report(number=number)
    assert 6000 < small.stat().st_size < 8200
    assert [one["number"] for one in told(small)] == list(range(len(told(small))))


# --- reading ---------------------------------------------------------------------------------


def test_file_that_is_not_there_has_no_reports(tmp_path: Path) -> None:
    assert read_reports(tmp_path / "absent") == []
    assert last_report(tmp_path / "absent") == {}


@pytest.mark.parametrize("place", ["directory", "pipe"])
def test_file_that_is_none_is_an_error_and_leaves_nothing_open(tmp_path: Path, place: str) -> None:
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    before = os.listdir("/proc/self/fd")
    for read in (read_reports, last_report):
        with pytest.raises(OSError, match=r"Is a directory|Illegal seek"):
            read(tmp_path / place)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"nonsense",
        b"\x00" * 1000,
        b"\xff\xfe{}",
        b'{"a": "\xff"}',
        b"[1]",
        b"7",
        b"null",
        b'{"loss": 1',
        b"[" * 100_000,
        b'{"a": ' + b"9" * 10_000 + b"}",
        os.urandom(5000).replace(b"\n", b""),
    ],
)
def test_lines_that_are_no_reports_are_passed_over(file: Path, garbage: bytes) -> None:
    report(number=1)
    with file.open("ab") as more:
        more.write(garbage + b"\n")
    report(number=2)
    with file.open("ab") as more:
        more.write(garbage + b"\n")
    assert [one["number"] for one in read_reports(file)] == [1, 2]
    assert last_report(file)["number"] == 2


def test_last_report_has_the_latest_progress(file: Path) -> None:
    report(progress=0.1, loss=3)
    report(progress=0.2, loss=2)
    report(loss=1)
    last = last_report(file)
    del last["time"]
    assert last == {"progress": 0.2, "loss": 1}


def test_last_report_has_no_progress_if_none_was_told(file: Path) -> None:
    report(loss=2)
    report(loss=1)
    assert set(last_report(file)) == {"time", "loss"}


@pytest.mark.parametrize("progress", ["[1]", '"much"', "null", "{}", "true"])
def test_progress_that_is_no_number_is_none(file: Path, progress: str) -> None:
    file.write_text(f'{{"progress": 0.5}}\n{{"progress": {progress}, "loss": 1}}\n')
    assert last_report(file) == {"progress": 0.5, "loss": 1}
    file.write_text(f'{{"progress": {progress}, "loss": 1}}\n')
    assert last_report(file) == {"loss": 1}


def test_last_report_is_found_before_much_that_is_none(file: Path) -> None:
    report(progress=0.5)
    with file.open("ab") as more:
        more.write(b"x" * 200_000 + b"\n")
    assert last_report(file)["progress"] == 0.5


def test_last_report_may_be_long(file: Path) -> None:
    report(progress=0.5, **{f"m{number}": "\x00" * 200 for number in range(100)})
    assert file.stat().st_size > reports.MAX_SEARCHED
    assert last_report(file)["progress"] == 0.5


def test_progress_is_not_looked_for_in_all_of_a_large_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report(progress=0.5)
    line = b'{"loss": 1}\n'
    with file.open("ab") as more:
        more.write(line * (reports.MAX_SEARCHED // len(line) + 1))
    assert last_report(file) == {"loss": 1}


def test_no_more_than_the_newest_of_a_huge_file_is_read(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "MAX_READ", 30)
    file.write_bytes(b'{"number": 1}\n{"number": 2}\n{"number": 3}\n')
    assert read_reports(file) == [{"number": 2}, {"number": 3}]
