"""Rounds in which clients send requests while the servers are disturbed; each ends with a check.

Every acknowledged training and job must exist, must have ended and must have run once. Nothing else
may be left.
"""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.clients import Allowed, Clients, Place, Work
from tests.chaos.cluster import Cluster
from tests.support import wait_until

ENDED = ("done", "error", "cancelled")
END_SECONDS = 90.0
CLIENTS = 8
Disturbance = Callable[[Cluster, random.Random, float], None]


def no_disturbance(cluster: Cluster, chance: random.Random, seconds: float) -> None:
    """Leave the servers alone."""
    time.sleep(seconds)


@dataclass
class Rounds:
    """A cluster, a disturbance of it, and the outcomes that clients may see.

    `seconds` is the length of one round. A training or a job may fail with the message `excuse`
    although none of its processes was killed.
    """

    cluster: Cluster
    seed: int
    disturbance: Disturbance = no_disturbance
    allowed: Allowed = field(default_factory=Allowed)
    seconds: float = 1.5
    work_pause: float = 4.0
    clients: int = CLIENTS
    excuse: str | None = None

    def __post_init__(self) -> None:
        self.endings: Counter[tuple[str, str]] = Counter()
        self.statuses: Counter[str] = Counter()
        self._numbers = itertools.count()
        self._ledger = self.cluster.directory / "ledger"
        self._ledger.mkdir()
        self._place = Place(self.cluster.ports, self._ledger, self.allowed, self.work_pause)

    def run(self, rounds: int) -> None:
        """Run some rounds. A failure names the seed and the round."""
        began = time.monotonic()
        servers = "one server" if self.cluster.size == 1 else f"{self.cluster.size} servers"
        print(f"\n{rounds} rounds with {servers}, seed {self.seed}", flush=True)
        for number in itertools.islice(self._numbers, rounds):
            self._run_one(number)
        took = time.monotonic() - began
        endings = ", ".join(f"{a} {b}: {n}" for (a, b), n in sorted(self.endings.items()))
        print(f"{rounds} rounds in {took:.0f} s; {endings}; works: {dict(self.statuses)}")

    def _run_one(self, number: int) -> None:
        try:
            self.round(number)
        except BaseException as error:
            told = f"seed {self.seed}, round {number}: {error}"
            raise AssertionError(f"{told}\n{self.cluster.log()}") from error

    def round(self, number: int) -> None:
        name = f"{self.seed}-{number}"
        self.cluster.killed.clear()
        with Clients(self._place, name, self.clients) as clients:
            self.disturbance(self.cluster, random.Random(name), self.seconds)
        self.endings += clients.endings
        self.cluster.wait_ready()
        records = self._ended_records()
        self._check_works(clients.works, records)
        self._check_records(records)
        self._remove(records)
        self.cluster.check_nothing_left()

    # --- trainings and jobs

    def _ended_records(self) -> dict[str, Any]:
        """Wait until all trainings and jobs have ended, and return their records by uuid."""
        records: dict[str, Any] = {}

        def have_ended() -> bool:
            records.clear()
            records.update((record["uuid"], record) for record in self.cluster.records())
            return all(record["status"] in ENDED for record in records.values())

        wait_until(have_ended, within=END_SECONDS, what="the end of all trainings and jobs")
        return records

    def _check_works(self, works: list[Work], records: dict[str, Any]) -> None:
        """Check that each acknowledged work was removed or has its reported status."""
        for work in works:
            if work.is_in_doubt:
                continue
            record = records.get(work.uuid)
            if record is None:  # a client has removed it after its end
                assert work.told in ("done", "error"), f"{work} is lost"
            else:
                assert record["args"]["id"] == work.id
                assert work.told in ("", record["status"]), (work, record)

    def _check_records(self, records: dict[str, Any]) -> None:
        for uuid, record in records.items():
            self.statuses[record["status"]] += 1
            id = record["args"]["id"]
            noted = self._noted(id)
            assert noted in ([], ["begin"], ["begin", "end"]), f"{record} was run so: {noted}"
            assert record["attempt"] <= 1, record
            if record["status"] == "done":
                assert noted == ["begin", "end"], (record, noted)
                assert self._output(record)["id"] == id, record
            elif record["status"] == "error":
                is_excused = record["message"] == self.excuse
                assert is_excused or uuid in self.cluster.killed, f"nobody has killed {record}"

    def _noted(self, id: str) -> list[str]:
        """Return the events that a model has recorded for a training or a job."""
        path = self._ledger / id
        return path.read_text().split() if path.exists() else []

    def _output(self, record: dict[str, Any]) -> Any:
        if "jobs" not in record["path"]:
            return record["result"]["output"]
        return self._get(f"{record['path']}/result")["predictions"]

    def _get(self, path: str) -> Any:
        answer = self.cluster.servers[-1].get(path)
        assert answer.status_code == 200, (path, answer.text)
        return answer.json()

    def _remove(self, records: dict[str, Any]) -> None:
        """Remove all records. This removes their files and kills their leftover processes."""
        servers: Iterator[Any] = iter(self.cluster.servers * len(records))
        for record in records.values():
            answer = next(servers).request("DELETE", record["path"])
            assert answer.status_code == 200, answer.text
        assert list(self.cluster.records()) == []
