"""Replies and errors as HTTP answers."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer, make_mocked_request

from deepaas.api import answers
from deepaas.api.answers import FileAnswer, answer_for, error_answer, json_answer, reply_answer
from deepaas.exceptions import (
    BadRequestError,
    DisabledError,
    MethodNotAllowedError,
    NotFoundError,
    NotImplementedByModelError,
    NotReadyError,
    RequestError,
    TooLargeError,
    WorkerDiedError,
)
from deepaas.model.v2.exchange import Reply

JSON = "application/json; charset=utf-8"
Answer = tuple[int, str, dict[str, str], bytes]


def received(
    make: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], method: str = "GET"
) -> Answer:
    """What a client receives of an answer: status, reason phrase, headers and body."""

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
    """What a client receives of an answer that is made from its request."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        made = answer(request)
        if isinstance(made, FileAnswer):
            await made.send(request)
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
    answer = answer_for(error)
    assert (answer.status, answer.reason) == (status, "text")
    assert answer.headers["Content-Type"] == JSON
    assert json.loads(answer.body) == {"message": "text", "code": code}  # type: ignore[arg-type]


def test_wrong_method_tells_those_allowed() -> None:
    answer = answer_for(MethodNotAllowedError("PUT", {"POST", "GET"}))
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, POST"
    assert json.loads(answer.body) == {  # type: ignore[arg-type]
        "message": "PUT is not allowed here",
        "code": "method_not_allowed",
    }


@pytest.mark.parametrize(("seconds", "header"), [(0, "1"), (1, "1"), (2.6, "3")])
def test_model_that_is_not_ready_says_when_to_come_back(seconds: float, header: str) -> None:
    answer = answer_for(NotReadyError("later", retry_after=seconds))
    assert (answer.status, answer.headers["Retry-After"]) == (503, header)


def test_unknown_path_is_plain_text() -> None:
    answer = answer_for(NotFoundError("There is nothing at /x"))
    assert (answer.status, answer.reason, answer.text) == (404, "Not Found", "404: Not Found")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_what_the_model_does_not_implement_is_plain_text() -> None:
    message = "Not implemented by underlying model (loaded 'demo')"
    answer = answer_for(NotImplementedByModelError(message))
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
    status, phrase, headers, body = sent(lambda _: error_answer(500, "code", message))
    assert (status, phrase, headers["Content-Type"]) == (500, reason, JSON)
    assert json.loads(body) == {"message": in_the_body, "code": "code"}


def test_headers_of_an_error_are_sent() -> None:
    answer = error_answer(429, "refused_by_model", "slow down", {"Retry-After": "5"})
    assert answer.headers["Retry-After"] == "5"
    assert answer.headers["Content-Type"] == JSON


# --- replies ---------------------------------------------------------------------------------


def answer_of(reply: Reply) -> web.Response:
    answer = reply_answer(make_mocked_request("GET", "/"), reply)
    assert isinstance(answer, web.Response)
    return answer


def test_reply_is_json_unless_it_says_otherwise() -> None:
    answer = answer_of(Reply(body=b'{"a":1}'))
    assert (answer.status, answer.body) == (200, b'{"a":1}')
    assert answer.headers["Content-Type"] == JSON


def test_reply_has_its_headers() -> None:
    answer = answer_of(Reply(body=b"\x89PNG", headers={"Content-Type": "image/png"}))
    assert dict(answer.headers) == {"Content-Type": "image/png"}


def test_reply_with_a_code_is_an_error() -> None:
    reply = Reply(400, headers={"X-Cause": "y"}, reason="no image", code="refused_by_model")
    answer = answer_of(reply)
    assert (answer.status, answer.reason, answer.headers["X-Cause"]) == (400, "no image", "y")
    assert json.loads(answer.body) == {"message": "no image", "code": "refused_by_model"}  # type: ignore[arg-type]


def test_headers_of_one_answer_are_not_those_of_the_next() -> None:
    answer_of(Reply()).headers["X-Mine"] = "y"
    json_answer({}).headers["X-Mine"] = "y"
    assert "X-Mine" not in answer_of(Reply()).headers
    assert "X-Mine" not in json_answer({}).headers


def test_json_answer() -> None:
    answer = json_answer({"a": [1, None]}, 201)
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
    status, _, headers, body = sent(lambda request: reply_answer(request, reply))
    assert (status, body) == (200, content)
    assert (headers["Content-Type"], headers["Content-Length"]) == ("image/png", str(size))
    assert not is_open(fd)


def test_file_is_json_unless_it_says_otherwise(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"{}")
    reply = Reply(fd=descriptor(tmp_path / "file"))
    _, _, headers, body = sent(lambda request: reply_answer(request, reply))
    assert (headers["Content-Type"], body) == (JSON, b"{}")


def test_file_is_sent_from_its_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    fd = descriptor(tmp_path / "file")
    os.lseek(fd, 2, os.SEEK_SET)
    assert sent(lambda request: reply_answer(request, Reply(fd=fd)))[3] == b"abc"


def test_file_that_becomes_shorter_breaks_the_answer_off(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    fd = descriptor(tmp_path / "file")
    raised: list[BaseException] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        answer = FileAnswer(fd, 200, {})
        os.truncate(tmp_path / "file", 1)
        try:
            await answer.send(request)
        except OSError as error:
            raised.append(error)
            assert request.transport is not None
            request.transport.abort()
        return answer

    with pytest.raises(aiohttp.ClientError):
        received(handle)
    assert str(raised[0]) == "the file became shorter while it was sent"
    assert not is_open(fd)


def test_file_is_closed_when_it_cannot_be_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    fd = descriptor(tmp_path / "file")

    async def fail(*_: object) -> Any:
        raise ConnectionResetError

    async def send() -> None:
        answer = FileAnswer(fd, 200, {})
        monkeypatch.setattr(answer, "prepare", fail)
        await answer.send(make_mocked_request("GET", "/"))

    with pytest.raises(ConnectionResetError):
        asyncio.run(send())
    assert not is_open(fd)
