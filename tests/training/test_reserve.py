"""The reserve: disk space that can be released, and retries that become rarer."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import pytest

from deepaas.jobs.backoff import FIRST_SECONDS, LAST_SECONDS, Backoff
from deepaas.jobs.reserve import FILES, PROBE_SIZE, Reserve
from tests.conftest import DISK_BYTES, Disk

SIZE = 1_000_000


def free(path: Path) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def leave(disk: Disk, size: int) -> None:
    """Fill the disk, except for this many bytes."""
    disk.fill()
    ballast = disk.path / "ballast"
    os.truncate(ballast, ballast.stat().st_size - size)


def test_it_takes_its_room_and_gives_it_back(disk: Disk) -> None:
    reserve = Reserve(disk.path, SIZE)
    before = free(disk.path)
    assert not reserve.is_there
    assert reserve.make()
    assert reserve.is_there
    assert SIZE <= before - free(disk.path) < SIZE + 50_000
    assert reserve.release()
    assert not reserve.is_there
    assert before - free(disk.path) < 10_000
    assert not reserve.release()


def test_it_takes_files_too(disk: Disk) -> None:
    Reserve(disk.path, SIZE).make()
    files = list((disk.path / "reserve").iterdir())
    assert len(files) == FILES
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)


def test_any_process_can_release_it(disk: Disk) -> None:
    mine, yours = Reserve(disk.path, SIZE), Reserve(disk.path)
    mine.make()
    assert yours.release()
    assert not mine.is_there
    assert mine.make()


def test_one_of_another_size_is_made_larger(disk: Disk) -> None:
    Reserve(disk.path, SIZE).make()
    larger = Reserve(disk.path, 2 * SIZE)
    assert not larger.is_there
    assert larger.make()
    assert free(disk.path) < DISK_BYTES - 2 * SIZE


def test_none_is_made_on_a_disk_that_is_almost_full(disk: Disk) -> None:
    leave(disk, SIZE + SIZE // 2)
    reserve = Reserve(disk.path, SIZE)
    assert not reserve.make()
    assert free(disk.path) >= SIZE
    leave(disk, 3 * SIZE)
    assert reserve.make()


def test_a_part_of_one_is_made_whole_or_given_back(disk: Disk) -> None:
    reserve = Reserve(disk.path, SIZE)
    reserve.make()
    (disk.path / "reserve" / "1").unlink()
    assert not reserve.is_there
    disk.fill()
    assert not reserve.make()
    disk.make_room()
    assert reserve.make()


def test_none_is_wanted_of_no_size(disk: Disk) -> None:
    reserve = Reserve(disk.path)
    disk.fill()
    assert reserve.is_there
    assert reserve.make()


def test_a_directory_in_which_there_can_be_none_does_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "reserve").write_text("in the way")
    reserve = Reserve(tmp_path, SIZE)
    with caplog.at_level(logging.WARNING):
        assert [reserve.make() for _ in range(3)] == [True] * 3
    assert len(caplog.records) == 1
    assert str(tmp_path) in caplog.text


def test_a_disk_without_room_for_a_small_file_is_full(disk: Disk) -> None:
    reserve = Reserve(disk.path)
    assert not reserve.disk_is_full()
    leave(disk, PROBE_SIZE // 2)
    assert reserve.disk_is_full()
    leave(disk, PROBE_SIZE * 2)
    assert not reserve.disk_is_full()
    assert list((disk.path / "reserve").iterdir()) == []


def test_attempts_become_rarer_up_to_a_limit() -> None:
    backoff, pauses = Backoff(), []
    assert backoff.is_due
    for _ in range(6):
        before = time.monotonic()
        backoff.fail()
        pauses.append(round(backoff.due - before))
        assert not backoff.is_due
    assert pauses == [1, 2, 4, 8, LAST_SECONDS, LAST_SECONDS]
    backoff.hurry()
    assert backoff.is_due
    backoff.reset()
    before = time.monotonic()
    backoff.fail()
    assert round(backoff.due - before) == FIRST_SECONDS
