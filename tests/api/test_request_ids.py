"""Request ids: in responses, in the log, and in the model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from deepaas.events import RequestRefused
from tests.conftest import Serve
from tests.serving.inside import Client, House
from tests.serving.segments import Line, predict
from tests.support import Server, wait_until

HEADER = "X-Request-ID"
SANE = ["a", "7f3c-1", "a.b_c~d:e/f+g=h@i-j", "x" * 128]
UNUSUAL = ["", "a b", "x" * 129, "ä", 'a"b', "a,b", "<script>"]


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    kinds = ("Plain", "Streaming", "Async", "Batched")
    return serve_all({kind: f"zoo.knows_request:{kind}" for kind in kinds})


@pytest.fixture(scope="module")
async def own() -> AsyncIterator[House]:
    async with House("zoo.knows_request:Plain") as opened:
        yield opened


def predicted(server: Server, model: str, id: str) -> Any:
    """Return the prediction of a request with this id, after checking the id of the response."""
    answer = server.post(f"/v2/models/{model}/predict/", headers={HEADER: id})
    assert answer.status_code == 200, answer.text
    assert answer.headers[HEADER] == id
    return answer.json()["predictions"]


@pytest.mark.parametrize("model", ["Plain", "Async", "Batched"])
def test_model_gets_the_id_of_its_request(server: Server, model: str) -> None:
    for id in ("first", "second"):
        assert predicted(server, model, id)["id"] == id


def test_stream_has_the_id_of_its_request(server: Server) -> None:
    answer = server.post("/v2/models/Streaming/predict/", headers={HEADER: "of-a-stream"})
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["id"] for line in lines] == ["of-a-stream"] * 2
    assert answer.headers[HEADER] == "of-a-stream"


@pytest.mark.parametrize("model", ["Async", "Batched"])
def test_requests_that_are_answered_together_keep_their_ids(server: Server, model: str) -> None:
    ids = [f"{model}-{number}" for number in range(8)]
    with ThreadPoolExecutor(8) as executor:
        found = list(executor.map(lambda id: predicted(server, model, id), ids))
    assert [one["id"] for one in found] == ids
    if model == "Async":
        assert [one["before"] for one in found] == ids


@pytest.mark.parametrize("id", SANE)
def test_usual_id_is_taken(server: Server, id: str) -> None:
    assert server.raw_request("GET", "/v2/models/", headers={HEADER: id}).header(HEADER) == id


@pytest.mark.parametrize("id", UNUSUAL)
def test_unusual_id_is_replaced(server: Server, id: str) -> None:
    made = server.raw_request("GET", "/v2/models/", headers={HEADER: id}).header(HEADER)
    assert made not in ("", None, id)


def test_each_request_without_an_id_gets_a_new_one(server: Server) -> None:
    paths = ["/", "/nowhere", "/v2/models/Plain/predict/", "/v2/models/", "/api"]
    ids = [server.get(path).headers[HEADER] for path in paths * 2]
    assert len(set(ids)) == len(ids)


def test_id_is_in_the_access_log(server: Server) -> None:
    server.get("/v2/models/", headers={HEADER: "to-be-logged"})
    line = '"GET /v2/models/ HTTP/1.1" 200 '
    wait_until(
        lambda: any(line in one and one.endswith(" to-be-logged") for one in lines(server)),
        within=10,
    )


def lines(server: Server) -> list[str]:
    return server.log().splitlines()


def test_failure_of_a_model_is_logged_with_the_id(server: Server) -> None:
    answer = server.post(
        "/v2/models/Plain/predict/", params={"fails": "true"}, headers={HEADER: "to-fail"}
    )
    assert answer.status_code == 500
    assert answer.headers[HEADER] == "to-fail"
    wait_until(lambda: "predict of model Plain failed (request to-fail)" in server.log(), within=10)


REFUSED = {
    "malformed": b"nonsense\r\n\r\n",
    "a target that is not a URL": b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
    "a head that is too large": b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
    "a malformed chunk": b"POST /v2/models/Plain/predict/ HTTP/1.1\r\nHost: localhost\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "an unusual transfer coding": b"POST /v2/models/Plain/predict/ HTTP/1.1\r\nHost: localhost\r\n"
    b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a foreign host": b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
}


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED)
def test_refused_request_gets_a_new_id(server: Server, request_: bytes) -> None:
    """The same id is in the header, in the JSON and in the access log."""
    answers = [server.raw(request_) for _ in range(2)]
    ids = [answer.header(HEADER) for answer in answers]
    assert len(set(ids)) == 2
    for id, answer in zip(ids, answers, strict=True):
        assert id
        assert json.loads(answer.body)["request_id"] == id
        wait_until(lambda: f" {id}\n" in server.log(), within=10, what="the line of the request")  # noqa: B023


def test_refused_request_keeps_the_id_of_its_client(server: Server) -> None:
    """A head that was parsed is enough for that."""
    head = f"POST /v2/models/Plain/predict/ HTTP/1.1\r\nHost: localhost\r\n{HEADER}: given\r\n"
    answer = server.raw(head.encode() + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")
    assert (answer.status, answer.header(HEADER)) == (400, "given")


def test_texts_of_404_and_501_have_the_id_only_in_a_header(server: Server) -> None:
    for path, text in [("/nowhere", "404: Not Found"), ("/v2/models/Plain/train/", "501: ")]:
        answer = server.post(path, headers={HEADER: "of-a-text"})
        assert answer.text.startswith(text)
        assert "of-a-text" not in answer.text
        assert answer.headers[HEADER] == "of-a-text"


def test_error_in_a_stream_has_the_id(server: Server) -> None:
    answer = server.post(
        "/v2/models/Streaming/predict/", params={"fails": "true"}, headers={HEADER: "of-an-item"}
    )
    error = json.loads(answer.text.splitlines()[-1])["error"]
    assert error["request_id"] == "of-an-item"


@pytest.mark.parametrize("is_limited", [True, False])
async def test_refusals_before_the_middleware_are_events(is_limited: bool) -> None:
    """Without limits, connections use only the public parts of aiohttp."""
    async with House("zoo.knows_request:Plain", is_limited=is_limited) as house:
        refused: list[RequestRefused] = []
        house.app.kernel.events.request_refused.listen(refused.append)
        cases = {
            "malformed": "bad_request",
            "a head that is too large": "head_too_large" if is_limited else "bad_request",
            "an unusual transfer coding": "bad_request",
        }
        for case in cases:
            async with Line(house.port) as line:
                await line.send(REFUSED[case])
                assert b'"request_id":"' in await line.rest()
        assert [one.code for one in refused] == list(cases.values())


async def test_fast_path_makes_a_new_id_for_each_request() -> None:
    async with House("zoo.knows_request:Plain") as house, Client(house) as client:
        path = f"{house.pool.name}"
        body = b'{"text": "a"}'
        ask = predict(path, "", body)
        first = await client.long(ask)
        others = [await client.short(ask) for _ in range(3)]
        ids = [one.request_id for one in (first, *others)]
        assert [one.predicted["id"] for one in (first, *others)] == ids
        assert len(set(ids)) == 4
        failing = predict(path, "", b'{"text": "a", "fails": 1}')
        await client.long(failing)
        await client.ask(failing)
        assert house.handled == 3  # a failure is answered on the normal path


@pytest.mark.parametrize("id", [*SANE, *(id for id in UNUSUAL if id.isascii())])
async def test_both_paths_agree_on_ids(own: House, id: str) -> None:
    ask = predict(own.pool.name, "", b"{}", f"{HEADER}: {id}")
    async with Client(own) as client:
        own.http.heads.clear()
        seen = [await client.long(ask), await client.short(ask)]
    assert [one.request_id == id for one in seen] == [id in SANE] * 2
    assert [one.predicted["id"] for one in seen] == [one.request_id for one in seen]


async def test_request_that_leaves_the_fast_path_keeps_its_id() -> None:
    """A worker has its id already when the normal path answers."""
    async with House("zoo.knows_request:Streaming") as house, Line(house.port) as line:
        ask = predict(house.pool.name, "", b"{}")
        for _ in range(3):
            seen = await line.ask(ask)
            ids = {json.loads(one)["id"] for one in seen.body.splitlines()}
            assert ids == {seen.request_id}
            await asyncio.sleep(0)
