"""Disturbances of the servers while clients send requests."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

from tests.chaos.cluster import Cluster, Member

SERVER_AND_GUARD = "server and guard"
_ONE = ("guard", "supervisor", "training")
KILLED = ("worker", "worker", *_ONE, "server", "server", SERVER_AND_GUARD)
STOPPED = ("worker", "worker", "guard", "supervisor", "training", "server")


def moments(chance: random.Random, number: int, seconds: float) -> list[float]:
    """Return the pauses before `number` random moments within `seconds`, and after the last."""
    times = sorted(chance.uniform(0, seconds) for _ in range(number))
    return [after - before for before, after in zip([0.0, *times], [*times, seconds], strict=True)]


def of_role(cluster: Cluster, role: str) -> list[Member]:
    """Return the processes with this role in the order in which they were started."""
    found = []
    for one in cluster.members():
        with contextlib.suppress(psutil.NoSuchProcess):
            if one.role == role:
                found.append((one.process.create_time(), one.process.pid, one))
    return [one for _, _, one in sorted(found, key=lambda entry: entry[:2])]


@dataclass
class Kills:
    """Sends SIGKILL at random moments. `hits` counts the killed processes by role."""

    hits: Counter[str] = field(default_factory=Counter)

    def __call__(self, cluster: Cluster, chance: random.Random, seconds: float) -> None:
        *pauses, rest = moments(chance, chance.randint(2, 5), seconds)
        for pause in pauses:
            time.sleep(pause)
            self._kill(cluster, chance, chance.choice(KILLED))
        time.sleep(rest)

    def _kill(self, cluster: Cluster, chance: random.Random, role: str) -> None:
        if role in ("server", SERVER_AND_GUARD):
            index = chance.randrange(cluster.size)
            self._kill_server(cluster, index, with_guard=role == SERVER_AND_GUARD)
            self.hits[role] += 1
            time.sleep(chance.choice([0, 0.3]))
            cluster.replace(index)
        elif there := of_role(cluster, role) or of_role(cluster, "worker"):
            one = chance.choice(there)
            with contextlib.suppress(psutil.NoSuchProcess):
                one.process.kill()
                cluster.killed.add(one.training)
                self.hits[one.role] += 1

    def _kill_server(self, cluster: Cluster, index: int, *, with_guard: bool) -> None:
        server = psutil.Process(cluster.servers[index].pid)
        if with_guard:
            server.suspend()  # so that it does not replace its guard
            for one in of_role(cluster, "guard"):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if one.process.ppid() == server.pid:
                        one.process.kill()
        server.kill()


@dataclass
class Stops:
    """Sends SIGSTOP at random moments, and SIGCONT at most a second later.

    `hits` counts the stopped processes by role.
    """

    hits: Counter[str] = field(default_factory=Counter)

    def __call__(self, cluster: Cluster, chance: random.Random, seconds: float) -> None:
        *pauses, rest = moments(chance, chance.randint(1, 3), seconds)
        for pause in pauses:
            time.sleep(pause)
            self._stop_one(cluster, chance, chance.choice(STOPPED))
        time.sleep(rest)

    def _stop_one(self, cluster: Cluster, chance: random.Random, role: str) -> None:
        if role == "server":
            pids = [server.pid for server in cluster.servers]
        else:
            pids = [one.process.pid for one in of_role(cluster, role)]
        if pids:
            self._stop(chance.choice(pids), chance.uniform(0.05, 1.0))
            self.hits[role] += 1

    def _stop(self, pid: int, seconds: float) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(seconds)
            os.kill(pid, signal.SIGCONT)


@dataclass
class Shortage:
    """Takes a resource away at random moments, for at most `longest` seconds each."""

    take: Callable[[], object]
    give_back: Callable[[], object]
    longest: float

    def __call__(self, cluster: Cluster, chance: random.Random, seconds: float) -> None:
        *pauses, rest = moments(chance, 2, seconds)
        for pause in pauses:
            time.sleep(pause)
            self.take()
            try:
                time.sleep(chance.uniform(0.1, self.longest))
            finally:
                self.give_back()
        time.sleep(rest)
