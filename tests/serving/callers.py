"""Clients that can leave, the journal of zoo.gated, and other helpers of tests about waiting."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

import httpx
import psutil
import pytest

from tests.conftest import short_and_long
from tests.support import HOST, RawAnswer, Server, wait_until

WAIT_SECONDS = 25.0
"""Seconds that an expected event may take on a busy machine."""


ALIKE_BYTES = 2000
"""The length of the bodies of `alike` calls."""


@dataclass(frozen=True)
class Event:
    """A line of a journal."""

    kind: str
    number: int
    pid: int
    time: float


class Arguments(dict[str, Any]):
    """The arguments of a call. All calls with `alike` arguments have the same request head."""

    alike = False


class Journal:
    """The events that the models zoo.gated, gated_async and gated_batch record about their calls.

    `alike` calls have their arguments in bodies of one length, so that the server receives the same
    head each time. Other calls have their arguments in the query, so that their heads differ.
    """

    def __init__(self, directory: Path, *, alike: bool = False) -> None:
        self.directory = directory
        self.alike = alike
        directory.mkdir(parents=True, exist_ok=True)

    def args(self, number: int = 0, *, gate: str = "", **others: Any) -> Arguments:
        """Return the arguments of a call that records its events in this journal."""
        made = Arguments(journal=str(self.directory), number=number, gate=gate, **others)
        made.alike = self.alike
        return made

    def prepare(self, server: Server, model: str, headers: Mapping[str, str] | None = None) -> None:
        """Let the server cache the head of `alike` calls, with a call that records nothing."""
        if self.alike:
            with Caller(server) as caller:
                unnoted = self.args()
                unnoted["journal"] = ""
                caller.predict(model, unnoted, headers=headers)
                assert caller.answer().status == 200

    def open(self, gate: str) -> None:
        """Release the calls that wait at this gate."""
        (self.directory / gate).touch()

    def events(self, kind: str = "") -> list[Event]:
        """Return the recorded events of this kind, or of all kinds, in order."""
        path = self.directory / "journal"
        if not path.exists():
            return []
        lines = [line.split() for line in path.read_text().splitlines()]
        events = [Event(what, int(n), int(pid), float(when)) for what, n, pid, when in lines]
        return [event for event in events if kind in ("", event.kind)]

    def numbers(self, kind: str) -> list[int]:
        """Return the numbers of the calls that have recorded an event of this kind, in order."""
        return [event.number for event in self.events(kind)]

    def wait_for(self, kind: str, number: int) -> Event:
        """Wait for the event of this kind from the call with this number."""
        wait_until(
            lambda: number in self.numbers(kind), within=WAIT_SECONDS, what=f"{kind} of {number}"
        )
        return next(event for event in self.events(kind) if event.number == number)

    def assert_one_at_a_time(self) -> None:
        """Check that no process began a call before its previous call had ended."""
        running: dict[int, int] = {}
        for event in self.events():
            if event.kind == "begin":
                assert event.pid not in running, f"{event} while {running[event.pid]} runs"
                running[event.pid] = event.number
            elif event.kind == "end":
                assert running.pop(event.pid) == event.number


class Caller:
    """A client with one connection, which it may close at any time.

    `receive_buffer` is the size of the kernel's receive buffer in bytes; 0 leaves it to the kernel.
    """

    def __init__(self, server: Server, *, receive_buffer: int = 0) -> None:
        self._socket = socket.socket()
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(WAIT_SECONDS)
        try:
            self._socket.connect((HOST, server.port))
        except BaseException:
            self._socket.close()
            raise
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""
        self._is_used = False

    def __enter__(self) -> Caller:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.leave()

    def leave(self) -> None:
        self._socket.close()

    def break_off(self) -> None:
        """Abort the connection: the server receives a reset, as when a client process is killed."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        length: int | None = None,
    ) -> None:
        """Send a request; `length` is the announced length if it differs from that of `body`."""
        self._is_used = True
        target = path + ("?" + urlencode(params) if params else "")
        size = len(body) if length is None else length
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost", f"Content-Length: {size}"]
        lines += [f"{key}: {value}" for key, value in (headers or {}).items()]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def predict(self, model: str, params: Mapping[str, Any], **kwargs: Any) -> None:
        """Send a prediction request. `alike` arguments go into the body if no body is given.

        The first call sends another request before, because only then the connection is idle.
        """
        path = f"/v2/models/{model}/predict/"
        if isinstance(params, Arguments) and params.alike and not {"body", "length"} & set(kwargs):
            if not self._is_used:
                self.request("GET", "/v2/health/live")
                assert self.answer().status == 200
            headers = {"Content-Type": "application/json", **(kwargs.get("headers") or {})}
            body = json.dumps(params).encode().ljust(ALIKE_BYTES)
            self.request("POST", path, headers=headers, body=body)
        else:
            self.request("POST", path, params=params, **kwargs)

    def receive(self, size: int = 65536, *, timeout: float = WAIT_SECONDS) -> bytes:
        """Return the next bytes, or empty bytes if the connection was closed."""
        self._socket.settimeout(timeout)
        try:
            return self._socket.recv(size)
        except ConnectionResetError:
            return b""

    def answer(self, *, timeout: float = WAIT_SECONDS) -> RawAnswer:
        """Return the response to the oldest request; it must have a Content-Length."""
        deadline = time.monotonic() + timeout
        head, body = self._read_to(b"\r\n\r\n", deadline)
        status_line, *lines = head.decode("latin-1").split("\r\n")
        headers = [(key, value.strip()) for key, _, value in (ln.partition(":") for ln in lines)]
        answer = RawAnswer(status_line, headers, b"")
        size = int(answer.header("Content-Length") or 0)
        while len(body) < size:
            body += self._more(deadline, body)
        answer.body, self._received = body[:size], body[size:]
        return answer

    def _read_to(self, end: bytes, deadline: float) -> tuple[bytes, bytes]:
        while end not in self._received:
            self._received += self._more(deadline, self._received)
        head, _, rest = self._received.partition(end)
        return head, rest

    def _more(self, deadline: float, so_far: bytes) -> bytes:
        data = self.receive(timeout=max(0.01, deadline - time.monotonic()))
        if not data:
            raise ConnectionError(f"the server closed the connection after {so_far[-200:]!r}")
        return data

    def rest(self, *, timeout: float = WAIT_SECONDS) -> bytes:
        """Read until the server closes the connection, and return all that was read."""
        deadline = time.monotonic() + timeout
        received, self._received = [self._received], b""
        while data := self.receive(timeout=max(0.01, deadline - time.monotonic())):
            received.append(data)
        return b"".join(received)

    def is_closed(self, *, within: float = WAIT_SECONDS) -> bool:
        """Return whether the server closes the connection in time without sending anything more."""
        try:
            return self.receive(timeout=within) == b""
        except TimeoutError:
            return False


EITHER_WAY = pytest.mark.parametrize(
    "journal", short_and_long(["alike"], ["different"]), indirect=True
)
"""Runs a test with `alike` calls, and if it is long also with calls whose heads differ.

Tests without this mark have calls whose heads differ.
"""


def make_journal(directory: Path, request: pytest.FixtureRequest) -> Journal:
    """Return the journal of a test, which may have the mark EITHER_WAY."""
    return Journal(directory / "journal", alike=getattr(request, "param", "") == "alike")


def code_of(answer: RawAnswer) -> str:
    """Return the code of an error, and check that its message is also the reason phrase."""
    content = json.loads(answer.body)
    assert set(content) == {"message", "code", "request_id"}, content
    assert answer.reason == content["message"][:400]
    assert answer.header("Content-Type") == "application/json; charset=utf-8"
    return str(content["code"])


def message_of(answer: RawAnswer) -> str:
    return str(json.loads(answer.body)["message"])


def predicted(answer: RawAnswer) -> Any:
    """Return the prediction. The status must be 200."""
    assert answer.status == 200, (answer.status_line, answer.body[:500])
    return json.loads(answer.body)["predictions"]


def settle(server: Server) -> None:
    """Wait until the server has read everything sent before: it serves connections in order."""
    for _ in range(2):
        assert server.get("/v2/health/live").status_code == 200


class Callers(list[Caller]):
    """Callers that all leave at the end of the `with` block."""

    def __enter__(self) -> Callers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for caller in self:
            caller.leave()


def queue(
    server: Server, model: str, journal: Journal, numbers: range, *, gate: str = ""
) -> Callers:
    """Send calls that reach the server in the order of their numbers."""
    callers = Callers()
    for number in numbers:
        callers.append(Caller(server))
        callers[-1].predict(model, journal.args(number, gate=gate))
        settle(server)
    return callers


def descriptors(server: Server) -> int:
    """Count the server's descriptors, without those that uvloop opens at the first connection."""
    directory = Path(f"/proc/{server.pid}/fd")
    count = 0
    for path in directory.iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed after it was listed
            count += int(path.name) <= 2 or path.readlink() != Path("/dev/null")
    return count


def wait_for_descriptors(server: Server, most: int, *, within: float = WAIT_SECONDS) -> None:
    """Wait until the server holds at most this many descriptors."""
    wait_until(
        lambda: descriptors(server) <= most,
        within=within,
        what=f"at most {most} descriptors",
    )


def wait_no_files(server: Server, *, within: float = WAIT_SECONDS) -> None:
    """Wait until no uploads and no spilled bodies are left."""
    wait_until(lambda: not server.temporary_files(), within=within, what="removal of all files")


def processes(server: Server) -> int:
    """Count the descendant processes of the server."""
    return len(psutil.Process(server.pid).children(recursive=True))


class Load:
    """Calls a function repeatedly in several threads while the `with` block runs.

    `results` holds the return values. The block's end raises what the function has raised.
    """

    def __init__(self, call: Callable[[int], Any], *, threads: int = 4) -> None:
        self.results: list[Any] = []
        self._call = call
        self._threads = threads
        self._stop = threading.Event()

    def _run(self, first: int) -> None:
        number = first
        while not self._stop.is_set():
            self.results.append(self._call(number))
            number += self._threads

    def wait_for_more(self, count: int) -> None:
        """Wait until this many more calls have returned."""
        target = len(self.results) + count
        wait_until(
            lambda: len(self.results) >= target or self.has_ended(),
            within=30,
            what=f"{count} more answers",
        )

    def has_ended(self) -> bool:
        """Return whether a thread has ended early because the function raised."""
        return any(future.done() for future in self._futures)

    @contextlib.contextmanager
    def running(self) -> Iterator[Load]:
        with ThreadPoolExecutor(self._threads) as executor:
            self._futures: list[Future[None]] = [
                executor.submit(self._run, first) for first in range(self._threads)
            ]
            try:
                yield self
            finally:
                self._stop.set()
            for future in self._futures:
                future.result(timeout=WAIT_SECONDS)


@contextlib.contextmanager
def in_background(call: Callable[[], httpx.Response]) -> Iterator[Future[httpx.Response]]:
    """Make the call in a thread while the block runs; yields the future of its response."""
    with ThreadPoolExecutor(1) as executor:
        yield executor.submit(call)
