"""Clients that predict, upload, stream, queue jobs and train, and check each response.

Each client has a thread and a random generator. It never retries. A request gets the correct
response or another outcome that the rounds allow; anything else fails the client.
"""

from __future__ import annotations

import hashlib
import http.client
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

from tests.support import HOST, Part, multipart

HANGS = 60.0
"""Seconds after which a request counts as hanging."""

ITEMS = 20
PADDED = 400
LARGEST_UPLOAD = 3_000_000
OCTETS = {"Accept": "application/octet-stream"}
JSON = {"Content-Type": "application/json"}


class BrokenOffError(Exception):
    """The connection ended before the whole response was received."""


@dataclass(frozen=True)
class Allowed:
    """The outcomes of a request that are allowed besides the correct response."""

    errors: frozenset[tuple[int, str]] = frozenset()
    breaks: bool = False


@dataclass
class Work:
    """A training or a job that the server has accepted."""

    uuid: str
    id: str
    path: str
    told: str = ""
    """The status in the response to the last request to cancel or remove it."""

    is_in_doubt: bool = False
    """Whether such a request got no response."""


@dataclass(frozen=True)
class Seen:
    """A response."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def content(self) -> Any:
        return json.loads(self.body)


@dataclass
class Place:
    """The servers' ports, and the directory in which models record their calls."""

    ports: Sequence[int]
    ledger: Path
    allowed: Allowed
    work_pause: float
    """Average seconds between two trainings or jobs of one client."""


@dataclass
class Client:
    """One client. `endings` counts outcomes; `works` lists the accepted trainings and jobs."""

    place: Place
    name: str
    random: random.Random
    over: threading.Event
    endings: Counter[tuple[str, str]] = field(default_factory=Counter)
    works: list[Work] = field(default_factory=list)
    error: BaseException | None = None

    def __post_init__(self) -> None:
        self._numbers = itertools.count()
        self._connections: dict[int, http.client.HTTPConnection] = {}
        self._next_work = time.monotonic() + self._pause() / 2

    def _pause(self) -> float:
        return self.random.expovariate(1 / self.place.work_pause)

    def run(self) -> None:
        """Make requests until the client is stopped."""
        try:
            while not self.over.is_set():
                self._act()
                time.sleep(self.random.uniform(0, 0.01))
        except BaseException as error:
            self.error = error
            self.over.set()
        finally:
            for connection in self._connections.values():
                connection.close()

    def _act(self) -> None:
        action: Callable[[str], str]
        if time.monotonic() >= self._next_work:
            self._next_work += self._pause()
            action = self.random.choice([self.train, self.queue_job])
        else:
            action = self.random.choices([*self.actions], weights=[*self.actions.values()])[0]
        id = f"{self.name}-{next(self._numbers)}"
        try:
            ending = action(id)
        except Exception as error:
            if isinstance(error, BrokenOffError) and self.place.allowed.breaks:
                self.endings[action.__name__, "broken off"] += 1
                time.sleep(0.05)
                return
            raise AssertionError(f"{action.__name__} {id}: {error!r}") from error
        self.endings[action.__name__, ending] += 1

    @property
    def actions(self) -> dict[Callable[[str], str], int]:
        """Return each action with its relative frequency."""
        return {
            self.predict: 40,
            self.predict_alike: 40,
            self.upload: 10,
            self.get_file: 10,
            self.stream: 10,
            self.leave_upload: 3,
            self.leave_stream: 3,
            self.leave_child: 1,
            self.cancel: 1,
        }

    # --- requests

    def _ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Seen:
        """Send a request to a random server. Raises BrokenOffError."""
        port = self.random.choice(self.place.ports)
        connection = self._connections.setdefault(
            port, http.client.HTTPConnection(HOST, port, timeout=HANGS)
        )
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            seen = Seen(answer.status, answer.headers, answer.read())
        except TimeoutError:
            raise AssertionError(f"{method} {path} has no answer after {HANGS} s") from None
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise BrokenOffError(repr(error)) from error
        return seen

    def _is_refused(self, seen: Seen) -> str:
        """Return the code of an allowed error, or an empty string for a success."""
        if seen.status in (200, 202):
            return ""
        code = str(seen.content["code"])
        assert (seen.status, code) in self.place.allowed.errors, (seen.status, seen.body)
        if seen.status == 503:
            assert int(seen.headers["Retry-After"]) >= 1
        return code

    def _target(self, model: str, segment: str = "predict", **arguments: Any) -> str:
        query = f"?{urlencode(arguments)}" if arguments else ""
        return f"/v2/models/{model}/{segment}/{query}"

    def _post_json(self, id: str, **arguments: Any) -> str:
        given = {"id": id, "text": self.random.choice("abc") * self.random.randint(1, 99)}
        body = json.dumps({**given, **arguments}).encode().ljust(PADDED)
        seen = self._ask("POST", self._target("echo"), body, JSON)
        if code := self._is_refused(seen):
            return code
        assert seen.content["predictions"] == given, (id, seen.body)
        return "answered"

    def predict_alike(self, id: str) -> str:
        """Predict with the same request head each time, so that the server uses its fast path."""
        return self._post_json(id)

    def leave_child(self, id: str) -> str:
        """Let the worker start a process that does not end by itself."""
        return self._post_json(id, do="child")

    def predict(self, id: str) -> str:
        seen = self._ask("POST", self._target("echo", id=id, seconds=self.random.choice([0, 0.01])))
        if code := self._is_refused(seen):
            return code
        assert seen.content["predictions"] == {"id": id, "text": ""}, (id, seen.body)
        return "answered"

    def _form(self) -> tuple[bytes, dict[str, Any]]:
        content = self.random.randbytes(self.random.choice([1000, 300_000, LARGEST_UPLOAD]))
        return content, multipart(Part("data", content, "a.bin"))

    def upload(self, id: str) -> str:
        content, form = self._form()
        seen = self._ask("POST", self._target("echo", id=id), form["content"], form["headers"])
        if code := self._is_refused(seen):
            return code
        digest = hashlib.sha256(content).hexdigest()
        assert seen.content["predictions"] == {"id": id, "text": "", "digest": digest}
        return "answered"

    def get_file(self, id: str) -> str:
        size = self.random.choice([10, 200_000])
        target = self._target("echo", id=id, do="file", size=size, accept=OCTETS["Accept"])
        seen = self._ask("POST", target, headers=OCTETS)
        if code := self._is_refused(seen):
            return code
        assert seen.body == f"{id} ".encode() * size, (id, seen.body[:100])
        return "answered"

    def stream(self, id: str) -> str:
        target = self._target("items", id=id, size=ITEMS, seconds=self.random.choice([0, 0.003]))
        seen = self._ask("POST", target)
        if code := self._is_refused(seen):
            return code
        items = [json.loads(line) for line in seen.body.splitlines()]
        error = items.pop()["error"]["code"] if isinstance(items[-1], dict) else ""
        assert items == [[number, id] for number in range(len(items))], (id, items)
        if error:
            assert (500, error) in self.place.allowed.errors, items
            return str(error)
        assert len(items) == ITEMS
        return "answered"

    # --- requests that the client abandons

    def _leave(self, data: bytes, reads: int) -> str:
        port = self.random.choice(self.place.ports)
        connection = http.client.HTTPConnection(HOST, port, timeout=HANGS)
        try:
            connection.connect()
            connection.sock.sendall(data)
            if reads:
                connection.sock.recv(reads)
            time.sleep(self.random.uniform(0, 0.02))
        except TimeoutError:
            raise AssertionError(f"no answer after {HANGS} s") from None
        except OSError as error:
            raise BrokenOffError(repr(error)) from error
        finally:
            connection.close()
        return "left"

    def leave_upload(self, id: str) -> str:
        _, form = self._form()
        body = form["content"]
        head = [
            f"POST {self._target('echo', id=id)} HTTP/1.1",
            "Host: localhost",
            f"Content-Type: {form['headers']['Content-Type']}",
            f"Content-Length: {len(body)}",
        ]
        sent = self.random.randrange(len(body))
        return self._leave("\r\n".join(head).encode() + b"\r\n\r\n" + body[:sent], reads=0)

    def leave_stream(self, id: str) -> str:
        target = self._target("items", id=id, size=1000, seconds=0.001)
        head = f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
        return self._leave(head.encode(), reads=200)

    # --- trainings and jobs

    def train(self, id: str) -> str:
        headers = {} if self.random.random() < 0.5 else self._form()[1]["headers"]
        body = self._form()[1]["content"] if headers else b""
        return self._begin(id, "train", body, headers)

    def queue_job(self, id: str) -> str:
        return self._begin(id, "jobs", b"", {"Prefer": "respond-async"})

    def _begin(self, id: str, segment: str, body: bytes, headers: dict[str, str]) -> str:
        asked = "train" if segment == "train" else "predict"
        wanted: dict[str, Any] = {"id": id, "ledger": self.place.ledger, "text": f"of {id}"}
        wanted["seconds"] = round(self.random.uniform(0, 0.6), 2)
        wanted["do"] = self.random.choice(["", "", "child"]) if segment == "train" else ""
        seen = self._ask("POST", self._target("echo", asked, **wanted), body, headers)
        if code := self._is_refused(seen):
            return code
        uuid = str(seen.content["uuid"])
        self.works.append(Work(uuid, id, f"/v2/models/echo/{segment}/{uuid}"))
        return "taken in"

    def cancel(self, id: str) -> str:
        """Delete a training or a job: this cancels it, or removes it if it has already ended."""
        left = [one for one in self.works if not (one.told or one.is_in_doubt)]
        if not left:
            return "nothing to cancel"
        work = self.random.choice(left)
        work.is_in_doubt = True
        seen = self._ask("DELETE", work.path)
        if code := self._is_refused(seen):
            return code
        record = seen.content
        assert record["uuid"] == work.uuid
        work.is_in_doubt = False
        work.told = str(record["status"])
        assert work.told in ("done", "error", "cancelled"), record
        return work.told


class Clients:
    """Runs clients, each in a thread, inside the `with` block. A failed client fails the block."""

    def __init__(self, place: Place, name: str, size: int) -> None:
        self.over = threading.Event()
        self.clients = [
            Client(place, f"{name}-{number}", random.Random(f"{name}-{number}"), self.over)
            for number in range(size)
        ]
        self._threads = [threading.Thread(target=one.run) for one in self.clients]

    @property
    def endings(self) -> Counter[tuple[str, str]]:
        return sum((one.endings for one in self.clients), Counter())

    @property
    def works(self) -> list[Work]:
        return [work for one in self.clients for work in one.works]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join()
        if kind is None:
            for client in self.clients:
                if client.error is not None:
                    raise client.error
