"""Headers from models: valid ones reach the caller; others cause an error and harm nothing."""

from __future__ import annotations

import json
import socket
from urllib.parse import quote, urlencode

import pytest

from tests.conftest import Serve
from tests.serving.processes import pids
from tests.support import HOST, RawAnswer, Server, wait_until
from tests.zoo.sends_headers import BROKEN

PATH = "/v2/models/sends_headers/predict/"

IMPOSSIBLE_NAMES = [
    "X\r\nX-Evil",
    "X\nX-Evil",
    "X\rX-Evil",
    "X\0",
    "X Y",
    "X\t",
    " X",
    "X ",
    "X:",
    "",
    "X-Größe",
    "X\x7f",
    "X(",
    "X/Y",
    "Transfer-Encoding ",
    "Transfer-Encoding\t",
    "Transfer-Encoding:",
]
OF_THE_SERVER = [
    "Transfer-Encoding",
    "transfer-encoding",
    "TRANSFER-ENCODING",
    "Content-Length",
    "content-length",
    "Connection",
    "Keep-Alive",
    "Upgrade",
    "Trailer",
    "TE",
    "Proxy-Connection",
]
IMPOSSIBLE_VALUES = [
    "a\r\nX-Evil: b",
    "a\nb",
    "a\rb",
    "a\0b",
    "\x01",
    "\x7f",
    "größe",
    "\U0001f600",
]


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all({}, "zoo.sends_headers")


def ask(server: Server, **arguments: str) -> RawAnswer:
    return server.raw_request("POST", f"{PATH}?{urlencode(arguments)}")


def refused(server: Server, text: str, **arguments: str) -> None:
    """Check for a 500 with this text, which is also logged, and that the worker goes on."""
    before, workers = len(server.log()), pids(server, "sends_headers")
    answer = ask(server, **arguments)
    content = json.loads(answer.body)
    assert (answer.status, content["code"]) == (500, "impossible_header")
    assert text in content["message"]
    assert content["message"].isprintable()
    assert answer.header("X-Evil") is None
    assert answer.header("Transfer-Encoding") is None
    wait_until(lambda: text in server.log()[before:], within=5, what="a line in the log")
    assert pids(server, "sends_headers") == workers


@pytest.mark.parametrize("status", ["400", "302"])
@pytest.mark.parametrize("name", IMPOSSIBLE_NAMES, ids=ascii)
def test_impossible_name_is_500_and_says_so(server: Server, name: str, status: str) -> None:
    refused(server, f"The name of the header {name!a} is not possible", name=name, status=status)


@pytest.mark.parametrize("name", OF_THE_SERVER)
def test_header_of_the_connection_is_500_and_says_so(server: Server, name: str) -> None:
    refused(server, f"Only the server may send the header {name}", name=name, value="chunked")


@pytest.mark.parametrize("status", ["400", "302"])
@pytest.mark.parametrize("value", IMPOSSIBLE_VALUES, ids=ascii)
def test_impossible_value_is_500_and_says_so(server: Server, value: str, status: str) -> None:
    refused(server, "The value of the header X-Name is not possible", value=value, status=status)


def test_value_that_is_too_long_is_500_and_says_so(server: Server) -> None:
    refused(server, "The value of the header X-Name has 9000 characters", value="v" * 9000)
    assert ask(server, value="v" * 8000).header("X-Name") == "v" * 8000


def test_own_reason_of_the_model_is_told_too(server: Server) -> None:
    refused(server, "The model raised HTTPBadRequest: the own reason", name="X Y")


@pytest.mark.parametrize("name", ["X-Name", "x!#$%&'*+-.^_`|~9", "Retry-After", "Set-Cookie"])
@pytest.mark.parametrize("value", ["value", "", "a b\tc", '"quoted"; a=b', " trimmed "])
def test_possible_header_reaches_the_caller(server: Server, name: str, value: str) -> None:
    answer = ask(server, name=name, value=value)
    assert (answer.status, answer.reason) == (400, "the own reason")
    assert answer.header(name) == value.strip()


@pytest.mark.parametrize("name", ["Content-Type", "Content-Encoding"])
def test_header_about_the_body_is_left_out(server: Server, name: str) -> None:
    """The server writes the body of an error itself."""
    answer = ask(server, name=name, value="gzip")
    assert answer.status == 400
    assert json.loads(answer.body)["message"] == "the own reason"
    assert answer.header(name) != "gzip"


def test_connection_is_fine_after_an_impossible_header(server: Server) -> None:
    def request(**arguments: str) -> bytes:
        target = f"{PATH}?{urlencode(arguments)}"
        return f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode()

    with socket.create_connection((HOST, server.port), timeout=20) as connection:
        connection.sendall(request(name="X\r\nX-Evil") + request(name="X-Good"))
        received = b""
        while b'"code":"refused_by_model"' not in received:
            chunk = connection.recv(65536)
            assert chunk, received
            received += chunk
    first, second = received.split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"500 ")
    assert second.startswith(b"400 ")
    assert b"\r\nX-Good: value\r\n" in second


def test_media_type_that_the_model_offers_must_be_one(server: Server) -> None:
    refused(
        server, f"The model's accept offers {BROKEN!a}, which is not a media type", accept=BROKEN
    )


@pytest.mark.parametrize("name", ["a\r\nX-Evil: 1", 'a"b', "größe\0", "a\\b;c", "x" * 1000])
def test_name_of_a_file_is_encoded(server: Server, name: str) -> None:
    answer = ask(server, file=name, accept="text/plain")
    assert answer.status == 200
    disposition = answer.header("Content-Disposition") or ""
    assert quote(name) in disposition
    assert disposition.isascii()
    assert answer.header("X-Evil") is None


def test_name_of_a_file_that_is_too_long_is_500_and_says_so(server: Server) -> None:
    long = {"file": "x" * 9000, "accept": "text/plain"}
    refused(server, "The value of the header Content-Disposition has", **long)


def test_asynchronous_prediction_with_an_impossible_header_says_so(server: Server) -> None:
    began = server.post(f"{PATH}?name=X%20Y", headers={"Prefer": "respond-async"})
    assert began.status_code == 202
    url = began.headers["Location"]
    wait_until(lambda: server.get(url).json()["status"] == "error", within=30, what="its end")
    result = server.get(f"{url}/result")
    assert (result.status_code, result.json()["code"]) == (500, "impossible_header")


def test_training_with_an_impossible_header_says_so(server: Server) -> None:
    path = "/v2/models/sends_headers/train/"
    uuid = server.post(path, params={"name": "X\r\nX-Evil"}).json()["uuid"]

    def record() -> dict[str, str]:
        return dict(server.get(f"{path}{uuid}").json())

    wait_until(lambda: record()["status"] == "error", within=30, what="its end")
    assert "the own reason" in record()["message"]
