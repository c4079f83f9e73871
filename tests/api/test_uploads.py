"""Large, concurrent, aborted and unusual uploads work, and leave no files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.conftest import Serve
from tests.serving.processes import MEGABYTE, Growth, pids
from tests.support import HOST, UPLOAD_LOCK, Part, Server, multipart, predictions, wait_until

SIZE = 50 * MEGABYTE
MOST_GROWTH = 20 * MEGABYTE
BOUNDARY = b"deepaas-test-boundary"
BINARY = {"accept": "application/octet-stream"}


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    server = serve_all({}, "zoo.sized", "zoo.many_files", "--noaccess-log")
    for _ in range(3):  # the first allocations are not growth
        server.predict("sized", **multipart(Part("data", b"x" * MEGABYTE, "a.bin")))
        server.predict("sized", json={"text": "x" * MEGABYTE})
        server.predict("sized", params={"do": "bytes", "size": 2 * MEGABYTE, **BINARY})
    return server


@pytest.fixture(scope="module")
def content() -> bytes:
    return random.Random(1).randbytes(MEGABYTE) * (SIZE // MEGABYTE)


def uploads(server: Server) -> list[Path]:
    return server.temporary_files()


@pytest.fixture(autouse=True)
def _nothing_stays(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "server" in request.fixturenames:
        server = request.getfixturevalue("server")
        wait_until(lambda: not uploads(server), within=3, what="removal of all files")


# --- large uploads


def test_large_upload_does_not_go_through_the_servers_memory(
    server: Server, content: bytes
) -> None:
    form = multipart(Part("data", content, "large.bin"))
    with Growth(server.pid) as growth:
        answer = predictions(server.predict("sized", **form))
    assert answer["files"][0]["md5"] == hashlib.md5(content).hexdigest()
    assert answer["files"][0]["size"] == SIZE
    assert growth.bytes < MOST_GROWTH


def test_large_json_body_does_not_go_through_the_servers_memory(server: Server) -> None:
    body = json.dumps({"text": "x" * SIZE}).encode()
    headers = {"Content-Type": "application/json"}
    with Growth(server.pid) as growth:
        answer = predictions(server.predict("sized", content=body, headers=headers))
    assert answer["text"] == SIZE
    assert growth.bytes < MOST_GROWTH


@pytest.mark.parametrize("do", ["bytes", "file"])
def test_large_answer_does_not_go_through_the_servers_memory(server: Server, do: str) -> None:
    with Growth(server.pid) as growth:
        response = server.predict("sized", params={"do": do, "size": SIZE, **BINARY})
    assert response.status_code == 200
    assert response.headers["Content-Length"] == str(SIZE)
    assert response.content == bytes(range(256)) * (SIZE // 256)
    assert growth.bytes < MOST_GROWTH


def test_large_json_answer_does_not_go_through_the_servers_memory(server: Server) -> None:
    with Growth(server.pid) as growth:
        response = server.predict("sized", params={"do": "json", "size": SIZE})
    assert len(predictions(response)) == SIZE
    assert growth.bytes < MOST_GROWTH


def test_large_upload_of_a_slow_client_holds_up_nobody(server: Server) -> None:
    head = request_head(content_length=10 * MEGABYTE)
    with socket.create_connection((HOST, server.port)) as slow:
        slow.sendall(head + form_start("slow.bin") + b"x" * 100_000)
        for _ in range(5):
            assert predictions(server.predict("sized"))["files"] == []


def test_large_answer_to_a_slow_client_stays_out_of_memory(server: Server) -> None:
    query = f"?do=file&size={SIZE}&accept=application/octet-stream".encode()
    with socket.socket() as slow, Growth(server.pid) as growth:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect((HOST, server.port))
        slow.sendall(request_head(query=query, content_length=0))
        assert slow.recv(100).startswith(b"HTTP/1.1 200 OK")
        for _ in range(5):
            assert predictions(server.predict("sized"))["files"] == []
    assert growth.bytes < MOST_GROWTH


# --- many uploads


def request_head(
    *, query: bytes = b"", content_length: int | None = None, headers: bytes = b""
) -> bytes:
    length = b"" if content_length is None else b"Content-Length: %d\r\n" % content_length
    return (
        b"POST /v2/models/sized/predict/" + query + b" HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: multipart/form-data; boundary=" + BOUNDARY + b"\r\n"
        b"Connection: close\r\n" + length + headers + b"\r\n"
    )


def form_start(filename: str) -> bytes:
    disposition = f'form-data; name="data"; filename="{filename}"'
    return b"--" + BOUNDARY + f"\r\nContent-Disposition: {disposition}\r\n\r\n".encode()


def break_off(server: Server, number: int) -> None:
    """Send part of an upload; then close or reset the connection."""
    with socket.create_connection((HOST, server.port), timeout=25) as connection:
        if number % 2:
            no_farewell = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_farewell)
        data = request_head(content_length=300_000) + form_start("cut.bin") + b"c" * 200_000
        connection.sendall(data[: (number * 7919) % len(data)])
        if number % 3 == 0:
            connection.shutdown(socket.SHUT_WR)


def descriptors(*processes: int) -> dict[int, int]:
    """Return how many descriptors each process has open."""
    return {pid: psutil.Process(pid).num_fds() for pid in processes}


def wait_settled(before: dict[int, int]) -> None:
    """Wait until no process has more descriptors open than before."""

    def settled() -> bool:
        now = descriptors(*before)
        return all(now[pid] <= count for pid, count in before.items())

    wait_until(settled, within=5, what=f"return to {before}")


def test_a_thousand_uploads_leave_neither_files_nor_descriptors(serve: Serve) -> None:
    server = serve({}, "zoo.sized", "--noaccess-log")
    large = b"u" * 150_000  # does not fit into a packet
    good = multipart(Part("data", large, "a.bin"), Part("files", b"1", "b"), Part("number", b"1"))
    invalid = multipart(Part("data", large, "a.bin"), Part("number", b"no number"))
    malformed = {**good, "content": good["content"][:-30]}
    json_body = {"json": {"text": "x" * 200_000}}
    failing = {**good, "params": {"do": "fail"}}
    moved = {**good, "params": {"do": "move"}}
    deleted = {**good, "params": {"do": "delete"}}
    requests: list[tuple[dict[str, Any], int]] = [
        (good, 200),
        (invalid, 422),
        (malformed, 400),
        (json_body, 200),
        (failing, 500),
        (moved, 200),
        (deleted, 200),
    ]
    clients = httpx.Client(
        base_url=server.url, trust_env=False, timeout=20, limits=httpx.Limits(max_connections=8)
    )

    def upload(number: int) -> None:
        kind = number % (len(requests) + 2)
        if kind >= len(requests):
            break_off(server, number)
            return
        kwargs, status = requests[kind]
        response = clients.post("/v2/models/sized/predict/", **kwargs)
        assert response.status_code == status, response.text

    with clients, ThreadPoolExecutor(8) as executor:
        list(executor.map(upload, range(45)))
        worker = pids(server, "sized")[0]
        wait_until(lambda: not uploads(server), within=5, what="removal of the first files")
        before = descriptors(server.pid, worker)
        list(executor.map(upload, range(1000)))
        assert pids(server, "sized") == [worker]
        wait_until(lambda: not uploads(server), within=5, what="removal of all files")
    wait_settled(before)
    assert "internal_error" not in server.log()
    assert "Answering" not in server.log()


# --- files inside the model


@pytest.mark.parametrize("do", ["delete", "move", "replace"])
def test_module_may_do_with_its_files_what_it_likes(server: Server, do: str) -> None:
    form = multipart(Part("data", b"one", "a.bin"), Part("files", b"two", "b.bin"))
    assert predictions(server.predict("sized", params={"do": do}, **form)) == do
    for directory in (server.home / "tmp").iterdir():
        assert [path.name for path in directory.rglob("*")] == [UPLOAD_LOCK]


def test_upload_is_in_a_directory_for_the_server_alone(server: Server) -> None:
    form = multipart(Part("data", b"one", "a.bin"))
    path = Path(predictions(server.predict("sized", **form))["files"][0]["path"])
    assert path.parent.stat().st_mode & 0o077 == 0


def test_list_of_files_gives_each_its_own_file(server: Server) -> None:
    parts = [Part("files", f"file {number}".encode(), f"n{number}.txt") for number in range(20)]
    answer = predictions(server.predict("sized", **multipart(*parts)))["files"]
    assert [one["name"] for one in answer] == [f"n{number}.txt" for number in range(20)]
    assert len({one["path"] for one in answer}) == 20
    expected = [hashlib.md5(f"file {number}".encode()).hexdigest() for number in range(20)]
    assert [one["md5"] for one in answer] == expected


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("C:\\\\docs\\\\report.pdf", "report.pdf"),
        ("a/b\\\\c/letter.txt", "letter.txt"),
    ],
)
def test_name_of_a_file_is_its_base_name(server: Server, given: str, base: str) -> None:
    answer = predictions(server.predict("sized", **multipart(Part("data", b"x", given))))
    assert answer["files"][0]["name"] == base
    assert base not in answer["files"][0]["path"]


# --- limits


@pytest.fixture(scope="module")
def limited(serve_all: Serve) -> Server:
    limits = ("--client-max-size", "100000", "--client-max-parts", "5")
    return serve_all({}, "zoo.sized", *limits)


def pieces(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), 10_000):
        yield data[start : start + 10_000]


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("kind", ["form", "json", "other"])
def test_body_beyond_the_limit_is_413(limited: Server, kind: str, chunked: bool) -> None:
    form = multipart(Part("data", b"x" * 150_000, "a.bin"))
    sent: dict[str, tuple[bytes, str]] = {
        "form": (form["content"], form["headers"]["Content-Type"]),
        "json": (json.dumps({"text": "x" * 150_000}).encode(), "application/json"),
        "other": (b"x" * 150_000, "application/octet-stream"),
    }
    data, content_type = sent[kind]
    response = limited.predict(
        "sized",
        content=pieces(data) if chunked else data,
        headers={"Content-Type": content_type},
    )
    assert response.status_code == 413
    assert response.json()["code"] == "too_large"
    assert "100000" in response.json()["message"]
    wait_until(lambda: not uploads(limited), within=3, what="removal of all files")
    assert predictions(limited.predict("sized"))["files"] == []


def test_too_large_a_body_is_refused_before_it_has_come(limited: Server) -> None:
    answer = limited.raw(request_head(content_length=10**12), timeout=25)
    assert answer.status == 413


def test_body_of_exactly_the_limit_is_taken(limited: Server) -> None:
    data = json.dumps({"text": ""}).encode()
    body = data[:-2] + b"x" * (100_000 - len(data)) + data[-2:]
    headers = {"Content-Type": "application/json"}
    assert len(body) == 100_000
    assert limited.predict("sized", content=body, headers=headers).status_code == 200
    assert limited.predict("sized", content=body + b" ", headers=headers).status_code == 413


def test_too_many_parts_are_413(limited: Server) -> None:
    parts = [Part("files", b"x", "a") for _ in range(6)]
    assert limited.predict("sized", **multipart(*parts[:5])).status_code == 200
    response = limited.predict("sized", **multipart(*parts))
    assert response.status_code == 413
    assert "5 parts" in response.json()["message"]
    wait_until(lambda: not uploads(limited), within=3, what="removal of all files")


# --- ways to send


def read_until(connection: socket.socket, end: bytes) -> bytes:
    received = b""
    while end not in received:
        chunk = connection.recv(65536)
        assert chunk, f"closed after {received!r}"
        received += chunk
    return received


def upload_in_two_steps(server: Server, *, expect: bytes) -> tuple[bytes, bytes]:
    """Return the responses from before and after the body was sent."""
    body = form_start("a.bin") + b"content\r\n--" + BOUNDARY + b"--\r\n"
    head = request_head(content_length=len(body), headers=b"Expect: " + expect + b"\r\n")
    with socket.create_connection((HOST, server.port), timeout=25) as connection:
        connection.sendall(head)
        first = read_until(connection, b"\r\n\r\n")
        if not first.startswith(b"HTTP/1.1 100"):
            return first, b""
        connection.sendall(body)
        return first, read_until(connection, b"}")


@pytest.mark.parametrize("expect", [b"100-continue", b"100-Continue"])
def test_expected_continue_is_said(server: Server, expect: bytes) -> None:
    first, then = upload_in_two_steps(server, expect=expect)
    assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert then.startswith(b"HTTP/1.1 200 OK\r\n")
    assert hashlib.md5(b"content").hexdigest().encode() in then
    assert then.count(b"HTTP/1.1") == 1


def test_continue_is_not_said_to_what_is_refused(limited: Server) -> None:
    head = request_head(content_length=150_000, headers=b"Expect: 100-continue\r\n")
    assert limited.raw(head, timeout=25).status == 413
    unknown = head.replace(b"/sized/", b"/nobody/")
    assert limited.raw(unknown, timeout=25).status == 404


def test_answer_after_continue_is_the_same_on_a_kept_connection(server: Server) -> None:
    body = b'{"text": "abc"}'
    head = (
        b"POST /v2/models/sized/predict/ HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    with socket.create_connection((HOST, server.port), timeout=25) as connection:
        for _ in range(3):
            connection.sendall(head)
            assert read_until(connection, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(body)
            assert read_until(connection, b"}}").startswith(b"HTTP/1.1 200 OK\r\n")


def chunked(data: bytes, *, size: int) -> bytes:
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.mark.parametrize("size", [1, 7, 1000, 200_000])
def test_chunks_of_any_size_make_the_same_body(server: Server, size: int) -> None:
    file = random.Random(size).randbytes(min(300_000, size * 2000))
    body = form_start("a.bin") + file + b"\r\n--" + BOUNDARY + b"--\r\n"
    head = request_head(headers=b"Transfer-Encoding: chunked\r\n")
    answer = server.raw(head + chunked(body, size=size))
    assert answer.status == 200
    described = json.loads(answer.body)["predictions"]["files"][0]
    assert (described["size"], described["md5"]) == (len(file), hashlib.md5(file).hexdigest())


@pytest.mark.parametrize("step", [1, 3, 50])
def test_form_that_comes_in_small_pieces_is_the_same(server: Server, step: int) -> None:
    file = b"\r\n--" + BOUNDARY[:-1] + b"\r\n\r\n--\r"
    body = form_start("a.bin") + file + b"\r\n--" + BOUNDARY + b"--\r\n"
    data = request_head(content_length=len(body)) + body
    with socket.create_connection((HOST, server.port), timeout=25) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), step):
            connection.sendall(data[start : start + step])
        answer = read_until(connection, b"}")
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert hashlib.md5(file).hexdigest().encode() in answer


def test_client_that_leaves_before_the_answer_leaves_nothing(server: Server) -> None:
    body = form_start("a.bin") + b"x" * 200_000 + b"\r\n--" + BOUNDARY + b"--\r\n"
    for _ in range(20):
        with socket.create_connection((HOST, server.port), timeout=25) as connection:
            connection.sendall(request_head(content_length=len(body)) + body)
    assert predictions(server.predict("sized"))["files"] == []


def test_client_that_leaves_during_a_large_answer_leaves_nothing(server: Server) -> None:
    query = b"?do=file&size=10485760&accept=application/octet-stream"
    worker = pids(server, "sized")[0]
    before = descriptors(server.pid, worker)
    for _ in range(20):
        with contextlib.closing(socket.create_connection((HOST, server.port))) as connection:
            connection.sendall(request_head(query=query, content_length=0))
            connection.recv(1000)
    wait_settled(before)
    assert "Traceback" not in server.log()


def test_result_file_that_becomes_shorter_breaks_the_answer_off(server: Server) -> None:
    """The client sees that the response is incomplete, and has received only bytes of the file."""
    query = b"?do=shrink&size=20971520&accept=application/octet-stream"
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(25)
        slow.connect((HOST, server.port))
        slow.sendall(request_head(query=query, content_length=0).replace(b"close", b"keep-alive"))
        received = slow.recv(500)
        assert predictions(server.predict("sized", params={"do": "truncate"}))["files"] == []
        with contextlib.suppress(ConnectionResetError):
            while chunk := slow.recv(MEGABYTE):
                received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"Content-Length: 20971520" in head
    assert len(body) < 20971520
    assert b"HTTP/1.1" not in body
    predictions(server.predict("sized", params={"do": "let-go"}))


def test_upload_directory_may_be_anywhere(serve: Serve, tmp_path: Path) -> None:
    server = serve({}, "zoo.sized", "--upload-dir", str(tmp_path))
    answer = predictions(server.predict("sized", **multipart(Part("data", b"x", "a.bin"))))
    assert Path(answer["files"][0]["path"]).is_relative_to(tmp_path)
    server.stop()
    assert list(tmp_path.iterdir()) == []
