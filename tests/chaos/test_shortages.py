"""The disk or the descriptors run out at random moments and become available again soon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.clients import Allowed
from tests.chaos.cluster import Cluster
from tests.chaos.disturbances import Shortage
from tests.chaos.rounds import Rounds
from tests.conftest import Chaos, Disk, mounted
from tests.serving.test_connections import FLOOD, FULL, ROOM, Flood
from tests.support import Server, wait_until

DISK_BYTES = 64 * 1024 * 1024
NO_RESULT = "There is no room for the result: No space left on device"
OPEN_FILES = 352
"""Enough for about 40 connections: the clients need far fewer, and the flood opens far more."""

NO_ROOM = Allowed(frozenset({(507, "storage_failed")}))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with mounted(tmp_path / "disk", f"size={DISK_BYTES}") as disk:
        yield disk


def test_full_disk_refuses_what_is_new_and_loses_nothing(
    tmp_path: Path, disk: Disk, chaos: Chaos
) -> None:
    """Uploads and records are on the disk. Every accepted training and job is done, except those
    whose result does not fit on the disk.
    """
    with Cluster(tmp_path / "cluster", 2, disk=disk.path) as cluster:
        disturbance = Shortage(disk.fill, disk.make_room, 1.0)
        rounds = Rounds(cluster, chaos.seed, disturbance, NO_ROOM, excuse=NO_RESULT)
        rounds.run(chaos.fewer_rounds)
    refused = [action for action, ending in rounds.endings if ending == "storage_failed"]
    assert {"predict", "predict_alike", "stream"}.isdisjoint(refused)


class Floods:
    """Opens more silent connections to a server than it has descriptors for."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._flood = Flood(server.port, FLOOD)
        self._number = 0

    def begin(self) -> None:
        self._number += 1
        self._flood = Flood(self._server.port, FLOOD)
        self._flood.start()
        self._wait_for(FULL)

    def end(self) -> None:
        self._flood.end()
        self._wait_for(ROOM)

    def _wait_for(self, words: str) -> None:
        """Wait until the log contains these words once more."""
        wait_until(lambda: self._server.log().count(words) >= self._number, within=30, what=words)


def test_flood_of_connections_delays_answers_and_changes_nothing_else(
    tmp_path: Path, chaos: Chaos
) -> None:
    """No worker ends, no connection in use breaks, every request gets the correct response, and
    every accepted training and job is done.
    """
    with Cluster(tmp_path / "cluster", 1, open_files=OPEN_FILES) as cluster:
        (server,) = cluster.servers
        floods = Floods(server)
        disturbance = Shortage(floods.begin, floods.end, 1.0)
        Rounds(cluster, chaos.seed, disturbance).run(chaos.fewer_rounds)
        assert "is killed" not in server.log()
        assert "died" not in server.log()
