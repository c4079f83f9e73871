"""A long run of all features, in which no resource may grow."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.cluster import Cluster
from tests.chaos.rounds import Rounds
from tests.conftest import Chaos
from tests.serving.processes import MEGABYTE
from tests.serving.traces import memory

PARTS = 4
WORK_PAUSE = 40.0
"""Average seconds between two works of a client: few enough not to overload the machine."""


def test_long_use_takes_no_more_memory_descriptors_processes_and_files(
    tmp_path: Path, chaos: Chaos
) -> None:
    """Every request gets the correct response. The memory is compared after each part."""
    with Cluster(tmp_path / "cluster", 1) as cluster:
        seconds = chaos.soak_seconds / PARTS
        rounds = Rounds(cluster, chaos.seed, seconds=seconds, work_pause=WORK_PAUSE)
        sizes = []
        for _ in range(PARTS):
            rounds.run(1)
            sizes.append(memory(cluster.servers[0]) / MEGABYTE)
        print(f"memory of the server after each part: {[round(size, 1) for size in sizes]} MiB")
    assert sizes[-1] - sizes[0] < 20
    assert sizes[-1] - sizes[1] < 10
