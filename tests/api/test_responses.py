"""Replies and errors as HTTP responses."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer, make_mocked_request

from deepaas.api.replies import response_from_reply
from deepaas.exceptions import (
    BadRequestError,
    DisabledError,
    MethodNotAllowedError,
    NotFoundError,
    NotImplementedByModelError,
    NotReadyError,
    RequestError,
    StreamFailedError,
    TooLargeError,
    WorkerDiedError,
)
from deepaas.http import responses as answers
from deepaas.http.responses import (
    FileResponse,
    StreamedResponse,
    error_response,
    json_response,
    response_for,
)
from deepaas.model.v2.exchange import Reply

JSON = "application/json; charset=utf-8"
Answer = tuple[int, str, dict[str, str], bytes]


def received(
    make: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], method: str = "GET"
) -> Answer:
    """Return what a client receives: status, reason phrase, headers and body."""

    async def ask() -> Answer:
        async with (
            RawTestServer(make) as server,
            aiohttp.ClientSession() as session,
            session.request(method, server.make_url("/")) as response,
        ):
            body = await response.read()
            return response.status, response.reason or "", dict(response.headers), body

    return asyncio.run(ask())


def sent(answer: Callable[[web.BaseRequest], web.StreamResponse]) -> Answer:
    """Return what a client receives if `answer` makes the response from its request."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        made = answer(request)
        if isinstance(made, FileResponse | StreamedResponse):
            await made.send(request, 30)
        return made

    return received(handle)


def descriptor(path: Path) -> int:
    return os.open(path, os.O_RDONLY)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


# --- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (BadRequestError("text"), 400, "bad_request"),
        (DisabledError("text"), 402, "endpoint_disabled"),
        (TooLargeError("text"), 413, "too_large"),
        (NotReadyError("text"), 503, "model_not_ready"),
        (WorkerDiedError("text"), 500, "worker_died"),
    ],
)
def test_error_is_json_with_a_message_and_a_code(
    error: RequestError, status: int, code: str
) -> None:
    answer = response_for(error)
    assert (answer.status, answer.reason) == (status, "text")
    assert answer.headers["Content-Type"] == JSON
    assert json.loads(answer.body) == {"message": "text", "code": code}  # type: ignore[arg-type]


def test_wrong_method_tells_those_allowed() -> None:
    answer = response_for(MethodNotAllowedError("PUT", {"POST", "GET"}))
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, POST"
    assert json.loads(answer.body) == {  # type: ignore[arg-type]
        "message": "PUT is not allowed here",
        "code": "method_not_allowed",
    }


@pytest.mark.parametrize(("seconds", "header"), [(0, "1"), (1, "1"), (2.6, "3")])
def test_model_that_is_not_ready_says_when_to_come_back(seconds: float, header: str) -> None:
    answer = response_for(NotReadyError("later", retry_after=seconds))
    assert (answer.status, answer.headers["Retry-After"]) == (503, header)


def test_unknown_path_is_plain_text() -> None:
    answer = response_for(NotFoundError("There is nothing at /x"))
    assert (answer.status, answer.reason, answer.text) == (404, "Not Found", "404: Not Found")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_what_the_model_does_not_implement_is_plain_text() -> None:
    message = "Not implemented by underlying model (loaded 'demo')"
    answer = response_for(NotImplementedByModelError(message))
    assert (answer.status, answer.reason) == (501, message)
    assert answer.text == f"501: {message}"
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("message", "in_the_body", "reason"),
    [
        ("two\r\nlines", "two lines", "two lines"),
        ("größer", "größer", "gr??er"),
        ("a\0b\x7fc", "a b c", "a b c"),
        ("x" * 1000, "x" * 1000, "x" * 400),
        ("", "", ""),
    ],
)
def test_message_is_the_reason_phrase_too(message: str, in_the_body: str, reason: str) -> None:
    status, phrase, headers, body = sent(lambda _: error_response(500, "code", message))
    assert (status, phrase, headers["Content-Type"]) == (500, reason, JSON)
    assert json.loads(body) == {"message": in_the_body, "code": "code"}


def test_headers_of_an_error_are_sent() -> None:
    answer = error_response(429, "refused_by_model", "slow down", {"Retry-After": "5"})
    assert answer.headers["Retry-After"] == "5"
    assert answer.headers["Content-Type"] == JSON


# --- replies ---------------------------------------------------------------------------------


def answer_of(reply: Reply) -> Answer:
    """Return what a client receives for a worker's reply."""
    return sent(lambda _: response_from_reply(reply))


@pytest.mark.parametrize("status", [200, 201])
def test_reply_is_json_unless_it_says_otherwise(status: int) -> None:
    found, _, headers, body = answer_of(Reply(status, body=b'{"a":1}'))
    assert (found, body) == (status, b'{"a":1}')
    assert headers["Content-Type"] == JSON
    assert headers["Content-Length"] == "7"
    assert {"Date", "Server"} <= set(headers)


def test_plain_reply_has_the_header_of_any_other() -> None:
    """Plain replies take a separate code path, which must send the same headers."""
    plain, other = (answer_of(Reply(status, body=b"[]"))[2] for status in (200, 201))
    assert plain.pop("Date")
    assert other.pop("Date")
    assert list(plain.items()) == list(other.items())


def test_empty_reply() -> None:
    status, _, headers, body = answer_of(Reply())
    assert (status, body, headers["Content-Length"]) == (200, b"", "0")


def test_reply_has_its_headers() -> None:
    reply = Reply(body=b"\x89PNG", headers={"Content-Type": "image/png"})
    _, _, headers, body = answer_of(reply)
    assert (headers["Content-Type"], body) == ("image/png", b"\x89PNG")


def test_reply_with_a_code_is_an_error() -> None:
    reply = Reply(400, headers={"X-Cause": "y"}, reason="no image", code="refused_by_model")
    status, reason, headers, body = answer_of(reply)
    assert (status, reason, headers["X-Cause"]) == (400, "no image", "y")
    assert json.loads(body) == {"message": "no image", "code": "refused_by_model"}


def test_headers_of_one_answer_are_not_those_of_the_next() -> None:
    response_from_reply(Reply(201)).headers["X-Mine"] = "y"
    json_response({}).headers["X-Mine"] = "y"
    assert "X-Mine" not in response_from_reply(Reply(201)).headers
    assert "X-Mine" not in json_response({}).headers


@pytest.mark.parametrize(("status", "size"), [(200, 5), (201, 5), (200, 200_000), (201, 200_000)])
async def test_answer_to_the_old_protocol(status: int, size: int) -> None:
    """The connection stays open only if the client asks for it."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return response_from_reply(Reply(status, body=b"x" * size))

    async with RawTestServer(handle) as server:
        found = []
        for headers in ("", "Connection: keep-alive\r\n"):
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(f"GET / HTTP/1.0\r\n{headers}\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(size) == b"x" * size
            if not headers:
                assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
            found.append(head.lower())
    closed, kept = found
    assert b"connection: keep-alive" not in closed
    assert b"\r\nconnection: keep-alive\r\n" in kept
    for head in (closed, kept):
        assert head.startswith(b"http/1.0 %d" % status)
        assert b"\r\ncontent-length: %d\r\n" % size in head


def test_json_answer() -> None:
    answer = json_response({"a": [1, None]}, 201)
    assert (answer.status, answer.body) == (201, b'{"a":[1,null]}')
    assert answer.headers["Content-Type"] == JSON


# --- files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 1000])
def test_file_is_sent_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(answers, "CHUNK", 100)
    content = bytes(i % 251 for i in range(size))
    (tmp_path / "file").write_bytes(content)
    fd = descriptor(tmp_path / "file")
    reply = Reply(headers={"Content-Type": "image/png"}, fd=fd)
    status, _, headers, body = sent(lambda _: response_from_reply(reply))
    assert (status, body) == (200, content)
    assert (headers["Content-Type"], headers["Content-Length"]) == ("image/png", str(size))
    assert not is_open(fd)


def test_file_is_json_unless_it_says_otherwise(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"{}")
    reply = Reply(fd=descriptor(tmp_path / "file"))
    _, _, headers, body = sent(lambda _: response_from_reply(reply))
    assert (headers["Content-Type"], body) == (JSON, b"{}")


def test_file_is_sent_from_its_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    fd = descriptor(tmp_path / "file")
    os.lseek(fd, 2, os.SEEK_SET)
    assert sent(lambda _: response_from_reply(Reply(fd=fd)))[3] == b"abc"


def test_file_that_becomes_shorter_breaks_the_answer_off(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    fd = descriptor(tmp_path / "file")
    raised: list[BaseException] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        answer = FileResponse(fd, 200, {})
        os.truncate(tmp_path / "file", 1)
        try:
            await answer.send(request, 30)
        except OSError as error:
            raised.append(error)
            assert request.transport is not None
            request.transport.abort()
        return answer

    with pytest.raises(aiohttp.ClientError):
        received(handle)
    assert str(raised[0]) == "the file became shorter while it was sent"
    assert not is_open(fd)


async def test_file_is_closed_when_it_cannot_be_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    fd = descriptor(tmp_path / "file")

    async def fail(*_: object) -> Any:
        raise ConnectionResetError

    async def send() -> None:
        answer = FileResponse(fd, 200, {})
        monkeypatch.setattr(answer, "prepare", fail)
        await answer.send(make_mocked_request("GET", "/"), 30)

    with pytest.raises(ConnectionResetError):
        await send()
    assert not is_open(fd)


# --- streams ---------------------------------------------------------------------------------

EVENTS = "text/event-stream"
LINES = "application/x-ndjson"


async def parts(of: Sequence[bytes], error: Exception | None = None) -> AsyncIterator[bytes]:
    for part in of:
        yield part
    if error is not None:
        raise error


def streamed(stream: AsyncIterator[bytes], media_type: str) -> Reply:
    return Reply(headers={"Content-Type": media_type, "X-Other": "y"}, stream=stream)


def answer_of_stream(
    of: Sequence[bytes], media_type: str, error: Exception | None = None
) -> Answer:
    return sent(lambda _: response_from_reply(streamed(parts(of, error), media_type)))


def test_stream_is_sent_in_chunks() -> None:
    status, _, headers, body = answer_of_stream([b"a", b"b" * 100_000, b"c"], "text/plain")
    assert (status, body) == (200, b"a" + b"b" * 100_000 + b"c")
    assert (headers["Content-Type"], headers["X-Other"]) == ("text/plain", "y")
    assert headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in headers


def test_stream_of_nothing() -> None:
    status, _, headers, body = answer_of_stream([], EVENTS)
    assert (status, body, headers["Content-Type"]) == (200, b"", EVENTS)


async def test_parts_are_sent_as_they_come() -> None:
    more = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"first"
        await more.wait()
        yield b"second"

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        answer = response_from_reply(streamed(slow(), "text/plain"))
        assert isinstance(answer, StreamedResponse)
        await answer.send(request, 30)
        return answer

    async with (
        RawTestServer(handle) as server,
        aiohttp.ClientSession() as session,
        session.get(server.make_url("/")) as response,
    ):
        assert await asyncio.wait_for(response.content.readany(), 10) == b"first"
        more.set()
        assert await asyncio.wait_for(response.content.read(), 10) == b"second"


FAILED = StreamFailedError("two\nlines", "some_code")


def test_failure_of_a_stream_is_its_last_event() -> None:
    body = answer_of_stream([b"data: 1\n\n"], EVENTS, FAILED)[3]
    error = b'event: error\ndata: {"message":"two\\nlines","code":"some_code"}\n\n'
    assert body == b"data: 1\n\n" + error


def test_failure_of_a_stream_is_its_last_line() -> None:
    body = answer_of_stream([b"1\n"], LINES, FAILED)[3]
    assert body == b'1\n{"error":{"message":"two\\nlines","code":"some_code"}}\n'


def test_failure_of_a_stream_that_has_no_place_for_it_breaks_it_off() -> None:
    with pytest.raises(aiohttp.ClientError):
        answer_of_stream([b"1"], "text/plain", FAILED)


async def _of_a_client_that_does_not_read(
    make: Callable[[], FileResponse | StreamedResponse], seconds: float
) -> BaseException | None:
    """Send a response to a client that reads nothing; return the exception that ends it."""
    outcome: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        answer = make()
        try:
            await answer.send(request, seconds)
        except BaseException as error:
            outcome.set_result(error)
            raise
        outcome.set_result(None)
        return answer

    async with RawTestServer(handle) as server:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((server.host, server.port))
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return await asyncio.wait_for(outcome, 15)


async def _endless() -> AsyncIterator[bytes]:
    while True:
        yield b"x" * 10_000


async def test_client_that_takes_nothing_of_a_stream_is_cut_off() -> None:
    error = await _of_a_client_that_does_not_read(
        lambda: StreamedResponse(_endless(), {"Content-Type": "text/plain"}), 0.3
    )
    assert isinstance(error, ConnectionError | asyncio.CancelledError)


async def test_client_that_takes_nothing_of_a_file_is_cut_off(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(100_000_000)
    fd = descriptor(tmp_path / "file")
    error = await _of_a_client_that_does_not_read(lambda: FileResponse(fd, 200, {}), 0.3)
    assert isinstance(error, ConnectionError | asyncio.CancelledError)
    assert not is_open(fd)
