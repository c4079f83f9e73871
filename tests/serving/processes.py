"""Helpers of tests about processes: workers, their sizes, and calls in progress."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from tests.support import Server, predictions, wait_until

MEGABYTE = 1024 * 1024


def health(server: Server, model: str) -> dict[str, Any]:
    """Return the model's entry on the health page: ready, problem, pids."""
    described: dict[str, Any] = server.get("/v2/health/ready").json()["models"][model]
    return described


def pids(server: Server, model: str) -> list[int]:
    """Return the pids of a model's ready workers."""
    return [int(pid) for pid in health(server, model)["pids"]]


def wait_ready(server: Server, model: str, workers: int = 1) -> list[int]:
    """Wait until this many workers are ready, and return their pids."""
    wait_until(lambda: len(pids(server, model)) == workers, within=10, what=f"{workers} workers")
    return pids(server, model)


def wait_replaced(server: Server, model: str, old: list[int]) -> list[int]:
    """Wait until as many new workers are ready as there are old pids; return the new pids."""

    def are_others() -> bool:
        new = pids(server, model)
        return len(new) == len(old) and not set(new) & set(old)

    wait_until(are_others, within=10, what=f"workers in place of {old}")
    return pids(server, model)


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_gone(processes: list[int], *, within: float = 3) -> None:
    """Wait until none of the processes is alive."""
    wait_until(lambda: not any(map(lives, processes)), within=within, what=f"end of {processes}")


@contextlib.contextmanager
def killed_at_the_end(pid: int) -> Iterator[None]:
    """Kill the process at the end of the block, whether or not the test passes."""
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def answers(server: Server, model: str, **kwargs: Any) -> Any:
    """Return the prediction for these arguments. The status must be 200."""
    return predictions(server.predict(model, **kwargs))


def both_work(server: Server, model: str, directory: Path) -> list[Any]:
    """Return the predictions of two concurrent calls to zoo.dies."""
    gate = directory / "both-gate"
    notes = [directory / f"both-{number}" for number in range(2)]
    with ThreadPoolExecutor(2) as executor:
        calls = [
            executor.submit(server.predict, model, params={"gate": str(gate), "note": str(note)})
            for note in notes
        ]
        try:
            for note in notes:
                wait_until(note.exists, within=5, what="both calls")
        finally:
            gate.touch()
        return [predictions(call.result()) for call in calls]


class Growth:
    """The largest growth of a process's memory, in bytes, since the start.

    A thread measures it every few milliseconds while the block runs.
    """

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._first = self._peak = self._process.memory_info().rss
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    @property
    def bytes(self) -> int:
        return self._peak - self._first

    def _watch(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            while not self._end.wait(0.005):
                self._peak = max(self._peak, self._process.memory_info().rss)

    def __enter__(self) -> Growth:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join()
