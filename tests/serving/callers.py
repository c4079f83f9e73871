"""What tests of waiting and leaving share: callers that can go, and the journal of zoo.gated."""

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

from tests.support import HOST, RawAnswer, Server, wait_until

WAIT_SECONDS = 25.0
"""How long something that must happen may take on a machine that is busy with other things."""


ALIKE_BYTES = 2000
"""The length of the bodies of calls that are alike."""


@dataclass(frozen=True)
class Event:
    """A line of a journal."""

    kind: str
    number: int
    pid: int
    time: float


class Arguments(dict[str, Any]):
    """The arguments of a call; if they are `alike` its head is that of all such calls."""

    alike = False


class Journal:
    """What the calls of the models zoo.gated, gated_async and gated_batch have noted.

    `alike` calls have their arguments in bodies of one length, so that the server gets the same
    head again and again, byte for byte; those of others are in the query, and no two are the same.
    """

    def __init__(self, directory: Path, *, alike: bool = False) -> None:
        self.directory = directory
        self.alike = alike
        directory.mkdir(parents=True, exist_ok=True)

    def args(self, number: int = 0, *, gate: str = "", **others: Any) -> Arguments:
        """The arguments of a call that notes what becomes of it here."""
        made = Arguments(journal=str(self.directory), number=number, gate=gate, **others)
        made.alike = self.alike
        return made

    def prepare(self, server: Server, model: str, headers: Mapping[str, str] | None = None) -> None:
        """Let the server know the head of alike calls, by one that is noted nowhere."""
        if self.alike:
            with Caller(server) as caller:
                unnoted = self.args()
                unnoted["journal"] = ""
                caller.predict(model, unnoted, headers=headers)
                assert caller.answer().status == 200

    def open(self, gate: str) -> None:
        """Let the calls go on that wait at this gate."""
        (self.directory / gate).touch()

    def events(self, kind: str = "") -> list[Event]:
        """What was noted, in order."""
        path = self.directory / "journal"
        if not path.exists():
            return []
        lines = [line.split() for line in path.read_text().splitlines()]
        events = [Event(what, int(n), int(pid), float(when)) for what, n, pid, when in lines]
        return [event for event in events if kind in ("", event.kind)]

    def numbers(self, kind: str) -> list[int]:
        """The numbers of the calls of which this was noted, in order."""
        return [event.number for event in self.events(kind)]

    def wait_for(self, kind: str, number: int) -> Event:
        """Wait until this was noted."""
        wait_until(
            lambda: number in self.numbers(kind), within=WAIT_SECONDS, what=f"{kind} of {number}"
        )
        return next(event for event in self.events(kind) if event.number == number)

    def assert_one_at_a_time(self) -> None:
        """No process has begun a call before the one it had begun before was over."""
        running: dict[int, int] = {}
        for event in self.events():
            if event.kind == "begin":
                assert event.pid not in running, f"{event} while {running[event.pid]} runs"
                running[event.pid] = event.number
            elif event.kind == "end":
                assert running.pop(event.pid) == event.number


class Caller:
    """A client with a connection of its own, which it may close at any time.

    `receive_buffer` is what the kernel may take in for it, in bytes; 0 leaves it to the kernel.
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
        """Close the connection."""
        self._socket.close()

    def break_off(self) -> None:
        """Close the connection as it is when a program is killed: what comes is refused."""
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
        """Send a request; `length` is what it announces if that is not the length of `body`."""
        self._is_used = True
        target = path + ("?" + urlencode(params) if params else "")
        size = len(body) if length is None else length
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost", f"Content-Length: {size}"]
        lines += [f"{key}: {value}" for key, value in (headers or {}).items()]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def predict(self, model: str, params: Mapping[str, Any], **kwargs: Any) -> None:
        """Ask for a prediction. Arguments that are alike go into the body, if there is no other.

        The first time something else is asked for before: only then the connection is at rest.
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
        """What comes next, nothing if the connection was closed."""
        self._socket.settimeout(timeout)
        try:
            return self._socket.recv(size)
        except ConnectionResetError:
            return b""

    def answer(self, *, timeout: float = WAIT_SECONDS) -> RawAnswer:
        """The answer to the oldest request, whose length must be told."""
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
        """All that comes until the server closes the connection."""
        deadline = time.monotonic() + timeout
        received, self._received = [self._received], b""
        while data := self.receive(timeout=max(0.01, deadline - time.monotonic())):
            received.append(data)
        return b"".join(received)

    def is_closed(self, *, within: float = WAIT_SECONDS) -> bool:
        """Whether the server closes the connection in that time without a further word."""
        try:
            return self.receive(timeout=within) == b""
        except TimeoutError:
            return False


EITHER_WAY = pytest.mark.parametrize("journal", ["different", "alike"], indirect=True)
"""For tests that are run with calls whose heads differ, and with calls that are alike."""


def make_journal(directory: Path, request: pytest.FixtureRequest) -> Journal:
    """The journal of a test, which may be marked with EITHER_WAY."""
    return Journal(directory / "journal", alike=getattr(request, "param", "") == "alike")


def code_of(answer: RawAnswer) -> str:
    """The code of an error answer, which must have its message as its reason phrase."""
    content = json.loads(answer.body)
    assert set(content) == {"message", "code"}, content
    assert answer.reason == content["message"][:400]
    assert answer.header("Content-Type") == "application/json; charset=utf-8"
    return str(content["code"])


def message_of(answer: RawAnswer) -> str:
    return str(json.loads(answer.body)["message"])


def predicted(answer: RawAnswer) -> Any:
    """What was predicted; the answer must be 200."""
    assert answer.status == 200, (answer.status_line, answer.body[:500])
    return json.loads(answer.body)["predictions"]


def settle(server: Server) -> None:
    """Wait until the server has read what was sent to it before: it serves in turn."""
    for _ in range(2):
        assert server.get("/v2/health/live").status_code == 200


class Callers(list[Caller]):
    """Some callers, all of which leave at the end of the block."""

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
    """Callers whose calls reach the server in the order of their numbers."""
    callers = Callers()
    for number in numbers:
        callers.append(Caller(server))
        callers[-1].predict(model, journal.args(number, gate=gate))
        settle(server)
    return callers


def descriptors(server: Server) -> int:
    """The number of the server's descriptors, without what uvloop opens at the first connection."""
    directory = Path(f"/proc/{server.pid}/fd")
    count = 0
    for path in directory.iterdir():
        with contextlib.suppress(FileNotFoundError):  # it was closed after it was listed
            count += int(path.name) <= 2 or path.readlink() != Path("/dev/null")
    return count


def wait_for_descriptors(server: Server, most: int, *, within: float = WAIT_SECONDS) -> None:
    """Wait until the server holds no more descriptors than that."""
    wait_until(
        lambda: descriptors(server) <= most,
        within=within,
        what=f"at most {most} descriptors",
    )


def wait_no_files(server: Server, *, within: float = WAIT_SECONDS) -> None:
    """Wait until there are no uploads and no spilled bodies any more."""
    wait_until(lambda: not server.temporary_files(), within=within, what="removal of all files")


def processes(server: Server) -> int:
    """How many processes the server has started and not ended."""
    return len(psutil.Process(server.pid).children(recursive=True))


class Load:
    """Calls a function again and again in some threads, as long as the block runs.

    `results` are what it returned. What it raises comes out at the end of the block.
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
        """Wait until that many more calls have come back."""
        target = len(self.results) + count
        wait_until(
            lambda: len(self.results) >= target or self.has_ended(),
            within=30,
            what=f"{count} more answers",
        )

    def has_ended(self) -> bool:
        """Whether a thread has ended before its time, because of what the function raised."""
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
    """Make a call while the block runs; the future holds its response."""
    with ThreadPoolExecutor(1) as executor:
        yield executor.submit(call)
