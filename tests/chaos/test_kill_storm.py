"""Processes are killed at random moments while clients predict, upload, stream, queue and train."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.clients import Allowed
from tests.chaos.cluster import Cluster
from tests.chaos.disturbances import Kills
from tests.chaos.rounds import Rounds
from tests.conftest import Chaos, short_and_long

DEATHS = Allowed(frozenset({(500, "worker_died"), (503, "model_not_ready")}), breaks=True)


@pytest.mark.parametrize("servers", short_and_long([2], [1]))
def test_kills_lose_nothing_swap_nothing_and_leave_nothing(
    tmp_path: Path, chaos: Chaos, servers: int
) -> None:
    kills = Kills()
    with Cluster(tmp_path / "cluster", servers) as cluster:
        Rounds(cluster, chaos.seed, kills, DEATHS).run(chaos.rounds)
    print(f"killed: {dict(kills.hits)}")
    assert kills.hits
