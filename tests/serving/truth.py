"""Checks that the health page is true while things happen to the workers."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from tests.serving.processes import lives
from tests.support import HOST, Server

INTERVAL = 0.02
NOTICED_AFTER = 5
"""The number of pages after which the server must have noticed that a process has ended.

Each page takes one turn of the server's loop.
"""


@dataclass
class Page:
    """The health page at one time. `dead` lists the pids on it that had already ended."""

    status: int
    content: dict[str, Any]
    dead: list[int]


class HealthWatch:
    """Reads the health page continuously while the block runs, and checks the pages at the end.

    The page must always be served. Its status must fit the models. A model must be ready exactly if
    it has workers and no problem. No listed process may have ended before the request.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._pages: list[Page] = []
        self._error: Exception | None = None
        self._died: dict[int, int] = {}  # the number of pages read before each process ended
        self._known: set[int] = set()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def problems(self, model: str) -> list[str]:
        """Return the problems that the page reported for a model."""
        states = [page.content["models"][model] for page in self._pages]
        return [str(state["problem"]) for state in states if not state["ready"]]

    def __enter__(self) -> HealthWatch:
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
        if kind is None:
            self._check()

    def _watch(self) -> None:
        connection = http.client.HTTPConnection(HOST, self._server.port, timeout=25)
        try:
            while True:
                last = self._end.is_set()
                self._pages.append(self._read(connection))
                if last:
                    return
                self._end.wait(INTERVAL)
        except Exception as error:
            self._error = error
        finally:
            connection.close()

    def _read(self, connection: http.client.HTTPConnection) -> Page:
        self._look_for_deaths()
        connection.request("GET", "/v2/health/ready")
        response = connection.getresponse()
        content = json.loads(response.read())
        pids = {pid for state in content["models"].values() for pid in state["pids"]}
        self._known |= pids
        count = len(self._pages)
        dead = [pid for pid in pids if self._died.get(pid, count) <= count - NOTICED_AFTER]
        return Page(response.status, content, dead)

    def _look_for_deaths(self) -> None:
        for pid in self._known - set(self._died):
            if not lives(pid):
                self._died[pid] = len(self._pages)

    def _check(self) -> None:
        assert self._error is None, f"the health page does not answer: {self._error!r}"
        for page in self._pages:
            for lie in _lies(page):
                raise AssertionError(f"{lie}: {page}")


def _lies(page: Page) -> Iterator[str]:
    states = page.content["models"].values()
    all_ready = all(state["ready"] for state in states)
    if page.status != (200 if all_ready else 503):
        yield "wrong status"
    if page.content["status"] != ("ready" if all_ready else "not ready"):
        yield "wrong word for the status"
    for state in states:
        if state["ready"] != bool(state["pids"]) or state["ready"] != (state["problem"] is None):
            yield "contradiction"
    if page.dead:
        yield f"names the dead {page.dead}"
