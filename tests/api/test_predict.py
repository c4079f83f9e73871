"""Predictions over HTTP: concurrent, of any size, and by several models."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from tests.conftest import Serve
from tests.serving.processes import MEGABYTE, both_work, pids, wait_ready
from tests.support import HOST, Server, predictions, wait_until

BINARY = {"accept": "application/octet-stream"}


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all({}, "zoo.echo", "zoo.sized", "zoo.dies", "zoo.hangs")


@pytest.fixture(scope="module")
def pair(serve_all: Serve) -> Server:
    return serve_all({}, "zoo.dies", "--workers", "2")


# --- concurrent predictions


def test_sixteen_connections_each_get_their_own_answers(server: Server) -> None:
    def talk(caller: int) -> int:
        with httpx.Client(base_url=server.url, trust_env=False, timeout=20) as client:
            for number in range(100):
                text = f"{caller} {number} " + "x" * (number * 37 % 5000)
                answer = client.post("/v2/models/echo/predict/", json={"text": text})
                assert predictions(answer) == {"text": ["str", text]}
        return caller

    with ThreadPoolExecutor(16) as executor:
        assert list(executor.map(talk, range(16))) == list(range(16))


def test_sixteen_connections_to_two_workers_each_get_their_own_answers(pair: Server) -> None:
    def talk(caller: int) -> set[int]:
        seen = set()
        with httpx.Client(base_url=pair.url, trust_env=False, timeout=20) as client:
            for number in range(30):
                given = caller * 1000 + number
                sent = {"number": given, "seconds": 0.001}
                answer = predictions(client.post("/v2/models/dies/predict/", params=sent))
                assert answer["number"] == given
                seen.add(answer["pid"])
        return seen

    workers = wait_ready(pair, "dies", 2)
    with ThreadPoolExecutor(16) as executor:
        seen = set().union(*executor.map(talk, range(16)))
    assert seen == set(workers)


def test_two_hundred_callers_at_once_are_all_answered(server: Server) -> None:
    request = (
        b"POST /v2/models/dies/predict/?seconds=0.002&number=%d HTTP/1.1\r\nHost: localhost\r\n"
        b"Connection: close\r\nContent-Length: 0\r\n\r\n"
    )
    connections = [socket.create_connection((HOST, server.port), timeout=20) for _ in range(200)]
    try:
        for number, connection in enumerate(connections):
            connection.sendall(request % number)
        for number, connection in enumerate(connections):
            received = b""
            while chunk := connection.recv(65536):
                received += chunk
            head, _, body = received.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK")
            assert json.loads(body)["predictions"]["number"] == number
    finally:
        for connection in connections:
            connection.close()


def test_connection_is_kept_for_the_next_request(server: Server) -> None:
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        ports = set()
        for status, path in [
            (200, "/v2/models/echo/predict/"),
            (422, "/v2/models/echo/predict/?number=x"),
            (500, "/v2/models/dies/predict/?how=raise"),
            (500, "/v2/models/sized/predict/?do=fail"),
            (404, "/v2/models/nobody/predict/"),
            (405, "/v2/models/"),
            (200, "/v2/models/sized/predict/?do=file&size=2097152&accept=application/octet-stream"),
            (200, "/v2/models/echo/predict/"),
        ]:
            response = client.post(path)
            assert response.status_code == status
            stream = response.extensions["network_stream"]
            ports.add(stream.get_extra_info("client_addr"))
        assert len(ports) == 1


def test_connection_is_closed_when_the_client_asks_for_it(server: Server) -> None:
    answer = server.raw_request("POST", "/v2/models/echo/predict/")
    assert answer.status == 200
    assert (answer.header("Connection") or "").lower() == "close"


# --- workers


def test_short_calls_do_not_wait_for_a_long_one(pair: Server, tmp_path: Path) -> None:
    """An idle worker takes calls that another worker has not begun."""
    wait_ready(pair, "dies", 2)
    note, gate = tmp_path / "begun", tmp_path / "gate"
    with ThreadPoolExecutor(9) as executor:
        sent = {"gate": str(gate), "note": str(note)}
        long_one = executor.submit(pair.predict, "dies", params=sent)
        try:
            wait_until(note.exists, within=5, what="the long call")
            short = [
                executor.submit(pair.predict, "dies", params={"seconds": 0.05, "number": number})
                for number in range(8)
            ]
            numbers = [predictions(one.result())["number"] for one in short]
            assert not long_one.done()
        finally:
            gate.touch()
        assert predictions(long_one.result())["pid"]
    assert numbers == list(range(8))


def test_two_workers_predict_at_the_same_time(pair: Server, tmp_path: Path) -> None:
    wait_ready(pair, "dies", 2)
    assert len({one["pid"] for one in both_work(pair, "dies", tmp_path)}) == 2


# --- several models


def test_models_are_separate(server: Server, tmp_path: Path) -> None:
    """Each model has separate processes and arguments, and none waits for another."""
    processes = {pid for model in ("echo", "sized", "dies") for pid in pids(server, model)}
    assert len(processes) == 3
    assert predictions(server.predict("echo", params={"do": "bytes"})) == {}
    note, gate = tmp_path / "note", tmp_path / "gate"
    with ThreadPoolExecutor(1) as executor:
        sent = {"gate": str(gate), "note": str(note)}
        long_one = executor.submit(server.predict, "dies", params=sent)
        try:
            wait_until(note.exists, within=5, what="the prediction")
            for number in range(20):
                answer = predictions(server.predict("echo", json={"number": number}))
                assert answer == {"number": ["int", number]}
            assert not long_one.done()
        finally:
            gate.touch()
        assert long_one.result().status_code == 200


def test_death_of_a_model_harms_no_request_of_another(server: Server) -> None:
    with ThreadPoolExecutor(4) as executor:
        deaths = executor.map(
            lambda _: server.predict("dies", params={"how": "sigkill"}).status_code, range(3)
        )
        others = executor.map(
            lambda number: predictions(server.predict("echo", json={"number": number})), range(60)
        )
        assert list(others) == [{"number": ["int", number]} for number in range(60)]
        assert set(deaths) <= {500, 503}


# --- sizes

AROUND_A_PACKET = [0, 1, 100_000, 119_000, 122_870, 122_880, 122_890, 131_000, 131_072, 140_000]


@pytest.mark.parametrize("query", [0, 20_000], ids=["short query", "long query"])
@pytest.mark.parametrize("size", [*AROUND_A_PACKET, 3_000_000])
def test_body_of_any_size_comes_whole(server: Server, size: int, query: int) -> None:
    text = "y" * size
    params = {"ignored": "q" * query} if query else {}
    answer = server.predict("echo", json={"text": text}, params=params)
    assert predictions(answer) == {"text": ["str", text]}


def test_bodies_of_all_sizes_at_once_are_not_mixed_up(server: Server) -> None:
    def call(size: int) -> bool:
        text = f"{size} " * (size // 7)
        answer = predictions(server.predict("echo", json={"text": text}))
        return bool(answer == {"text": ["str", text]})

    with ThreadPoolExecutor(8) as executor:
        assert all(executor.map(call, [*AROUND_A_PACKET, 500_000] * 4))


@pytest.mark.parametrize("size", [0, 256, MEGABYTE - 256, MEGABYTE, MEGABYTE + 256, 5 * MEGABYTE])
@pytest.mark.parametrize("do", ["bytes", "file"])
def test_answer_of_any_size_comes_whole(server: Server, do: str, size: int) -> None:
    response = server.predict("sized", params={"do": do, "size": size, **BINARY})
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert response.headers["Content-Length"] == str(size)
    assert response.content == bytes(range(256)) * (size // 256)


@pytest.mark.parametrize("size", [0, MEGABYTE - 100, MEGABYTE, 5 * MEGABYTE])
def test_json_answer_of_any_size_comes_whole(server: Server, size: int) -> None:
    assert predictions(server.predict("sized", params={"do": "json", "size": size})) == "j" * size


def test_large_answers_at_once_are_not_mixed_up(server: Server) -> None:
    def call(number: int) -> bool:
        size = number * 300 * 1024
        do = ("bytes", "file")[number % 2]
        response = server.predict("sized", params={"do": do, "size": size, **BINARY})
        return response.content == bytes(range(256)) * (size // 256)

    with ThreadPoolExecutor(8) as executor:
        assert all(executor.map(call, list(range(1, 12)) * 4))


def test_server_stays_the_same_size_over_many_requests(server: Server) -> None:
    process = psutil.Process(server.pid)
    worker = psutil.Process(pids(server, "echo")[0])

    def many(count: int) -> None:
        """Send `count` different requests on one connection."""
        with socket.create_connection((HOST, server.port), timeout=20) as connection:
            for start in range(0, count, 50):
                requests = b"".join(
                    b"GET /nowhere/%d HTTP/1.1\r\nHost: localhost\r\n\r\n"
                    b"POST /v2/models/echo/predict/?unique=%d HTTP/1.1\r\nHost: localhost\r\n"
                    b"Content-Length: 0\r\n\r\n" % (number, number)
                    for number in range(start, start + 50)
                )
                connection.sendall(requests)
                received = b""
                while received.count(b"404: Not Found") + received.count(b'"predictions"') < 100:
                    received += connection.recv(65536)

    many(500)
    before = [process.memory_info().rss, worker.memory_info().rss]
    many(2500)
    after = [process.memory_info().rss, worker.memory_info().rss]
    assert [later - sooner for sooner, later in zip(before, after, strict=True)] < [
        MEGABYTE * 4
    ] * 2
