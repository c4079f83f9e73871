"""Integers above 64 bits keep all their digits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import Serve
from tests.support import Server, predictions
from tests.zoo.integers import SIZE

VALUES: list[dict[str, Any]] = [
    {"one": 2**64 + 1},
    {"ids": [1, 2**64 + 1, -(2**64) - 1]},
    {"raw": {"id": [2**64 + 1, 1.5, 1e300]}},
    {"nested": {"id": 2**64 + 1}},
    {"table": {"a": {"b": [2**64 + 1]}}},
    {"one": 2**63, "ids": [2**64 - 1, 2**64, -(2**63), -(2**63) - 1]},
]
TYPES = ["application/json", "application/json; charset=utf-8", "application/json;charset=utf-16"]


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all({"integers": "zoo.integers"})


@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize("arguments", VALUES, ids=lambda value: "-".join(value))
def test_json_body_keeps_them(server: Server, arguments: Any, content_type: str) -> None:
    charset = content_type.rpartition("=")[2] if "charset" in content_type else "utf-8"
    body = json.dumps(arguments).encode(charset)
    answer = server.predict("integers", content=body, headers={"Content-Type": content_type})
    found = predictions(answer)
    expected = {**arguments, "default": SIZE}
    assert found["texts"] == {name: repr(value) for name, value in expected.items()}
    assert found["values"] == expected


@pytest.mark.parametrize("place", ["params", "data"])
def test_query_and_form_keep_them(server: Server, place: str) -> None:
    sent = {place: {"one": str(2**64 + 1), "ids": ["5", str(2**64 + 1)]}}
    found = predictions(server.predict("integers", **sent))
    assert found["values"] == {"one": 2**64 + 1, "ids": [5, 2**64 + 1], "default": SIZE}


def test_arguments_of_a_training_keep_them(server: Server) -> None:
    arguments = {"raw": {"id": 2**64 + 1}, "ids": [2**64 + 1]}
    record = server.post("/v2/models/integers/train/", json=arguments).json()
    assert record["args"] == {**arguments, "default": SIZE}
    listed = server.get("/v2/models/integers/train/").json()
    assert listed[0]["args"] == {**arguments, "default": SIZE}


def test_metadata_keeps_them(server: Server) -> None:
    assert server.get("/v2/models/integers/").json()["size"] == SIZE
    assert server.get("/v2/models/").json()["models"][0]["size"] == SIZE


def test_description_keeps_them(server: Server) -> None:
    paths = server.get("/swagger.json").json()["paths"]
    parameters = paths["/v2/models/integers/predict/"]["post"]["parameters"]
    assert [one["default"] for one in parameters if one["name"] == "default"] == [SIZE]
