"""Request ids: in responses, in the log, and in the model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

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
