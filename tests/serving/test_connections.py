"""More connections than the server has descriptors for: clients wait, and nothing else fails."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import resource
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.conftest import Serve
from tests.serving.callers import Caller, Journal, predicted
from tests.serving.processes import pids
from tests.support import ANSWER_SECONDS, HOST, Part, Server, multipart, predictions, wait_until

OPEN_FILES = 256
FLOOD = 300
FULL = "New clients have to wait"
ROOM = "New clients no longer have to wait"
PATH = "/v2/models/numbered/predict/"
MEGABYTE = 1024 * 1024


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


class Flood(threading.Thread):
    """Keeps silent connections open, and replaces those that are closed."""

    def __init__(self, port: int, size: int) -> None:
        super().__init__()
        self._port = port
        self._size = size
        self._over = threading.Event()

    def run(self) -> None:
        with contextlib.ExitStack() as opened:
            found: list[socket.socket] = []
            while not self._over.wait(0.01):
                found = [one for one in found if not _is_closed(one)]
                while len(found) < self._size and not self._over.is_set():
                    one = opened.enter_context(socket.create_connection((HOST, self._port)))
                    one.setblocking(False)
                    found.append(one)

    def end(self) -> None:
        self._over.set()
        self.join()


def _is_closed(sock: socket.socket) -> bool:
    try:
        closed = sock.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        closed = True
    sock.close()
    return closed


@contextlib.contextmanager
def flood(server: Server, size: int) -> Iterator[None]:
    flooding = Flood(server.port, size)
    flooding.start()
    try:
        wait_until(lambda: FULL in server.log(), within=10, what="the limit")
        yield
    finally:
        flooding.end()


class Client:
    """Sends numbered requests on one connection, and checks that each response has its number."""

    def __init__(self, server: Server, first: int) -> None:
        self._connection = http.client.HTTPConnection(HOST, server.port, timeout=ANSWER_SECONDS)
        self._next = first

    def ask(self, do: str = "", size: int = 0) -> None:
        number, self._next = self._next, self._next + 1
        do = do or ("json", "file", "bytes")[number % 3]
        size = size or (3000 if number % 2 else 2 * MEGABYTE)
        asked = {"number": number, "do": do, "size": size}
        headers = {"Content-Type": "application/json"}
        headers["Accept"] = "application/json" if do == "json" else "application/octet-stream"
        self._connection.request("POST", PATH, json.dumps(asked), headers)
        answer = self._connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content
        found = json.loads(content)["predictions"]["content"].encode() if do == "json" else content
        assert set(found.split()) == {str(number).encode()}

    def close(self) -> None:
        self._connection.close()


def ask_often(client: Client) -> None:
    for _ in range(15):
        client.ask()


def test_flood_costs_no_worker_and_no_answer(serve: Serve) -> None:
    """Callers get their own responses during the flood, on old connections and on new ones."""
    server = serve({}, "zoo.numbered", "--workers", "2", open_files=OPEN_FILES)
    workers = pids(server, "numbered")
    clients = [Client(server, 1_000_000 * (number + 1)) for number in range(6)]
    with contextlib.ExitStack() as ends, ThreadPoolExecutor(len(clients)) as executor:
        for client in clients:
            ends.callback(client.close)
            client.ask()
        with flood(server, FLOOD):
            list(executor.map(ask_often, clients))
            assert predictions(server.predict("numbered", params={"number": 7}))
        assert server.get("/v2/health/live").status_code == 200
        list(executor.map(ask_often, clients))
    wait_until(lambda: ROOM in server.log(), within=10, what="the end of the waiting")
    assert sorted(pids(server, "numbered")) == sorted(workers)
    assert server.log().count(FULL) == 1


def test_limit_of_connections_follows_from_that_of_descriptors(serve: Serve) -> None:
    """A larger `--max-connections` is reduced to that limit, and the log says so."""
    flags = ("--max-connections", "100000")
    server = serve({}, "zoo.numbered", *flags, open_files=OPEN_FILES)
    said = re.search(r"only (\d+) connections are possible.*Let it open (\d+)", server.log())
    assert said
    possible, needed = map(int, said.groups())
    assert 10 < possible < OPEN_FILES / 3
    assert needed > 3 * 100_000


def test_process_with_few_descriptors_serves(serve: Serve) -> None:
    server = serve({}, "zoo.numbered", open_files=80)
    assert "WARNING" in server.log()
    assert predictions(server.predict("numbered", params={"number": 7}))


def most_connections(server: Server) -> int:
    found = re.search(r"only (\d+) connections are possible", server.log())
    assert found
    return int(found[1])


def test_connections_that_are_accepted_have_descriptors_for_their_files(serve: Serve) -> None:
    """On each possible connection, a client sends two files and does not read the response."""
    server = serve({}, "zoo.numbered", open_files=OPEN_FILES)
    workers = pids(server, "numbered")
    most = most_connections(server)
    form = multipart(*(Part("files", b"x" * size, f"{size}.bin") for size in (3_000_000, 1000)))
    target = f"{PATH}?do=file&size={8 * MEGABYTE}&number=7&accept=application/octet-stream"
    body = form["content"]
    in_second_file = body.index(b"1000.bin") + 100
    head = f"POST {target} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len(body)}\r\n"
    head += f"Content-Type: {form['headers']['Content-Type']}\r\n\r\n"
    with contextlib.ExitStack() as opened:
        clients = [
            opened.enter_context(socket.create_connection((HOST, server.port), ANSWER_SECONDS))
            for _ in range(most)
        ]
        for client in clients:
            client.sendall(head.encode() + body[:in_second_file])
        wait_until(lambda: len(server.uploads()) == 2 * most, within=60, what="the uploads")
        assert 3 * most < descriptors_of(server) < OPEN_FILES - 20
        for client in clients:
            client.sendall(body[in_second_file:])
        for client in clients:
            assert client.recv(15) == b"HTTP/1.1 200 OK"
        # The uploads are removed before the responses, which are files, have been sent.
        assert 2 * most < descriptors_of(server) < OPEN_FILES - 20
    assert predictions(server.predict("numbered", params={"number": 7}))
    assert pids(server, "numbered") == workers


def descriptors_of(server: Server) -> int:
    return int(psutil.Process(server.pid).num_fds())


# --- at the limit


def connections(server: Server) -> int:
    found = psutil.Process(server.pid).net_connections("tcp")
    return len([one for one in found if one.status == psutil.CONN_ESTABLISHED])


def test_unused_connection_makes_room_first_then_the_one_that_is_idle_longest(serve: Serve) -> None:
    server = serve({}, "zoo.numbered", "--max-connections", "3")
    with contextlib.ExitStack() as opened:
        first = opened.enter_context(contextlib.closing(Client(server, 1)))
        first.ask("json", 10)
        unused = opened.enter_context(socket.create_connection((HOST, server.port)))
        second = opened.enter_context(contextlib.closing(Client(server, 1001)))
        second.ask("json", 10)
        assert predictions(server.predict("numbered", params={"number": 7}))
        unused.settimeout(ANSWER_SECONDS)
        assert unused.recv(1) == b""
        first.ask("json", 10)  # on its old connection
        third = opened.enter_context(contextlib.closing(Client(server, 2001)))
        third.ask("json", 10)
        assert predictions(server.predict("numbered", params={"number": 7}))
        first.ask("json", 10)
        with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
            second.ask("json", 10)


def test_connections_with_requests_keep_their_places(serve: Serve, journal: Journal) -> None:
    """A client that connects then waits, and is served when another client has left."""
    server = serve({}, "zoo.gated", "--max-connections", "2")
    wait_until(lambda: connections(server) == 0, within=5, what="an end to the looks at the port")
    with contextlib.ExitStack() as opened:
        busy = [opened.enter_context(Caller(server)) for _ in range(2)]
        for number, caller in enumerate(busy):
            caller.predict("gated", journal.args(number, gate=f"gate-{number}"))
        journal.wait_for("begin", 0)
        wait_until(lambda: connections(server) == 2, within=5, what="two connections")
        assert FULL not in server.log()  # no client waits yet
        late = opened.enter_context(Caller(server))
        late.predict("gated", journal.args(2))
        wait_until(lambda: FULL in server.log(), within=10, what="the limit")
        journal.open("gate-0")
        assert predicted(busy[0].answer())["number"] == 0
        journal.open("gate-1")
        assert predicted(busy[1].answer())["number"] == 1
        assert predicted(late.answer())["number"] == 2
    wait_until(lambda: ROOM in server.log(), within=10, what="the end of the waiting")


# --- no descriptor is free


@contextlib.contextmanager
def without_descriptors(server: Server) -> Iterator[None]:
    """Reduce the server's descriptor limit to those it has open, so that clients must wait."""
    limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    open_now = max(numbers(server)) + 1
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (open_now, limits[1]))
    try:
        with contextlib.ExitStack() as opened:
            for _ in range(open_now):
                opened.enter_context(socket.create_connection((HOST, server.port)))
            # The server may have opened one more before the limit was set.
            wait_until(
                lambda: numbers(server).issuperset(range(open_now)), within=5, what="the end of all"
            )
            yield
    finally:
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)


def numbers(server: Server) -> set[int]:
    return {int(path.name) for path in Path(f"/proc/{server.pid}/fd").iterdir()}


def test_client_waits_while_no_descriptor_is_left(serve: Serve) -> None:
    server = serve({}, "zoo.numbered")
    with ThreadPoolExecutor(1) as executor:
        with without_descriptors(server):
            late = executor.submit(server.get, "/v2/health/live")
            wait_until(lambda: FULL in server.log(), within=5, what="the words in the log")
            assert "Too many open files" in server.log()
            assert not late.done()
        assert late.result().status_code == 200
    wait_until(lambda: ROOM in server.log(), within=10, what="the end of the waiting")


def test_worker_whose_file_cannot_be_received_ends_and_no_other_gets_it(serve: Serve) -> None:
    server = serve({}, "zoo.numbered")
    worker = pids(server, "numbered")
    with contextlib.ExitStack() as opened:
        client = opened.enter_context(contextlib.closing(Client(server, 1)))
        client.ask("file")
        with without_descriptors(server), pytest.raises(AssertionError, match="worker_died"):
            client.ask("file")
        wait_until(lambda: pids(server, "numbered") not in ([], worker), within=20, what="another")
        for _ in range(3):
            client.ask("file")
    assert re.search(r"numbered\[0\] is killed: .*no descriptor left", server.log())
    assert "Traceback" not in server.log()
