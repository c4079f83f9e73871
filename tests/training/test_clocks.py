"""Durations and ages do not depend on the system clock, which may be set at any time.

libfaketime sets the clock for the processes under test only, and does not change their monotonic
clocks. It breaks the system call that time.sleep uses since Python 3.11, so they sleep with select.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.support import install_models, wait_until
from tests.training.test_callbacks import Receiver
from tests.training.trainings import Site, Trainings, kill_server, supervisor_of

LIBRARY = "/usr/lib/*/faketime/libfaketimeMT.so.1"
MODELS = {"timed": "zoo.timed"}
HOUR = 3600
DAY = 24 * HOUR

SLEEP = """\
import select
import time

time.sleep = lambda seconds: select.select([], [], [], seconds) and None
"""


class Clock:
    """The settable clock of the processes under test."""

    def __init__(self, directory: Path, library: str) -> None:
        self._file = directory / "clock"
        site = install_models(directory / "site", MODELS)
        (site / "sitecustomize.py").write_text(SLEEP)
        self.environment = {
            "PYTHONPATH": str(site),
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            # Otherwise timed waits for Python's lock return at once, and the server is always busy.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.set(0)

    def set(self, seconds: int) -> None:
        """Set the clock to the real time plus this many seconds."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n")
        fresh.rename(self._file)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    libraries = glob.glob(LIBRARY)
    if not libraries:
        pytest.skip("libfaketime is not installed (`make faketime`)")
    directory = tmp_path / "clocked"
    directory.mkdir()
    return Clock(directory, libraries[0])


class Clocked:
    """Servers with a settable clock, and the directory where their trainings wait."""

    def __init__(self, site: Site, clock: Clock, place: Path) -> None:
        self.clock = clock
        self._site = site
        self._place = place
        place.mkdir()

    def serve(self, *args: str) -> Trainings:
        return replace(self._site.serve(*args, env=self.clock.environment), model="timed")

    def begin(self, trainings: Trainings) -> str:
        """Start a training, and return its uuid when it waits at the gate."""
        uuid = trainings.begin(place=self._place)
        wait_until((self._place / "begun").exists, within=30, what="a training that begins")
        return uuid

    def open_gate(self) -> None:
        (self._place / "gate").touch()


@pytest.fixture
def clocked(tmp_path: Path, clock: Clock) -> Iterator[Clocked]:
    site = Site(tmp_path / "state", MODELS)
    try:
        yield Clocked(site, clock, tmp_path / "place")
    finally:
        site.close()


def seconds(duration: str) -> float:
    """Return the seconds of a duration in a record."""
    days, _, clock = duration.rpartition(", ")
    hours, minutes, rest = clock.split(":")
    day = int(days.split()[0]) if days else 0
    return day * DAY + int(hours) * HOUR + int(minutes) * 60 + float(rest)


AHEAD = pytest.param(HOUR, id="ahead", marks=pytest.mark.long)


@pytest.mark.parametrize("jump", [pytest.param(-HOUR, id="back"), AHEAD])
def test_duration_is_measured_when_the_clock_is_set(clocked: Clocked, jump: int) -> None:
    trainings = clocked.serve()
    uuid = clocked.begin(trainings)
    clocked.clock.set(jump)
    clocked.open_gate()
    record = trainings.wait(uuid)
    began = datetime.fromisoformat(record["start_date"])
    finished = datetime.fromisoformat(record["finish_date"])
    assert abs(finished - began - timedelta(seconds=jump)) < timedelta(seconds=60)
    assert 0.01 < seconds(record["duration"]) < 60
    assert record["result"]["duration"] == record["duration"]


def test_duration_of_what_a_server_has_seen_die_is_measured(clocked: Clocked) -> None:
    trainings = clocked.serve()
    uuid = clocked.begin(trainings)
    clocked.clock.set(-HOUR)
    supervisor_of(uuid).kill()
    assert 0.01 < seconds(trainings.wait(uuid)["duration"]) < 60


def test_duration_is_that_of_the_work_when_its_server_was_killed(clocked: Clocked) -> None:
    trainings = clocked.serve()
    uuid = clocked.begin(trainings)
    kill_server(trainings.server)
    clocked.clock.set(HOUR)
    clocked.open_gate()
    assert seconds(clocked.serve().wait(uuid)["duration"]) < 60


KEPT = ("--training-ttl", str(HOUR), "--result-ttl", "0.1", "--sweep-interval", "0.1")


def let_records_be_looked_at(trainings: Trainings) -> None:
    """Wait for a sweep: it removes the record of a prediction, which expires at once."""
    jobs = replace(trainings, segment="jobs")
    answer = trainings.server.predict("timed", headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    jobs.wait(answer.json()["uuid"])
    wait_until(lambda: jobs.list() == [], within=20, what="that an old record is removed")


# `test_store.py` checks all four cases with a simulated clock.
@pytest.mark.parametrize(
    ("restart", "jump"),
    [(False, 400 * DAY), pytest.param(True, -400 * DAY, marks=pytest.mark.long)],
)
def test_age_does_not_change_when_the_clock_is_set(
    clocked: Clocked, restart: bool, jump: int
) -> None:
    """No record is removed too early or kept too long."""
    trainings = clocked.serve(*KEPT)
    uuid = clocked.begin(trainings)
    clocked.open_gate()
    trainings.wait(uuid)
    let_records_be_looked_at(trainings)
    if restart:
        kill_server(trainings.server)
    clocked.clock.set(jump)
    if restart:
        trainings = clocked.serve(*KEPT)
    for _ in range(2):
        let_records_be_looked_at(trainings)
    assert [one["uuid"] for one in trainings.list()] == [uuid]


def test_a_callback_is_tried_again_when_the_clock_is_set_back(clocked: Clocked) -> None:
    receiver = Receiver(answers=[500, 500])
    try:
        trainings = clocked.serve("--allow-callbacks", "127.0.0.1")
        headers = {"Callback-URL": receiver.url}
        assert trainings.server.post(trainings.path, headers=headers).status_code == 200
        wait_until(lambda: receiver.posts, within=20, what="a call")
        clocked.clock.set(-DAY)
        receiver.wait_for("queued", "queued", "queued", "running", "done")
    finally:
        receiver.close()
