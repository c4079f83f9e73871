"""Processes are stopped with SIGSTOP for up to a second, at random moments, and then resumed."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.cluster import Cluster
from tests.chaos.disturbances import Stops
from tests.chaos.rounds import Rounds
from tests.conftest import Chaos


def test_stops_delay_answers_and_change_nothing_else(tmp_path: Path, chaos: Chaos) -> None:
    """Every request gets the correct response, and every training and job is done once."""
    stops = Stops()
    with Cluster(tmp_path / "cluster", 2) as cluster:
        Rounds(cluster, chaos.seed, stops).run(chaos.fewer_rounds)
    print(f"stopped: {dict(stops.hits)}")
