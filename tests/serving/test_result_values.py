"""A value is the same JSON in the response, whichever way it takes through the server."""

from __future__ import annotations

import datetime
import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepaas.model.v2.json_encoder import to_json
from tests.conftest import Serve
from tests.support import Server, predictions
from tests.training.trainings import Trainings
from tests.zoo import values

MODELS = {
    "plain": "zoo.values:Plain",
    "schema": "zoo.values:WithSchema",
    "yields": "zoo.values:Yields",
    "batched": "zoo.values:Batched",
    "asynchronous": "zoo.values:Asynchronous",
}
EXAMPLES = 3
"""Each example takes two processes that load numpy and pandas."""


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all(MODELS, "--train-result-size", "10000000")


def _recipe(name: str, *parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(st.just(name), *parts).map(list)


def _array(dtype: str, elements: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    items = st.lists(elements, max_size=4)
    return _recipe("array", items, st.just(dtype), st.sampled_from(sorted(values.LAYOUTS)))


_dates = st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2200, 1, 1))
_moments = _dates.map(datetime.datetime.isoformat)
_leaves = st.one_of(
    _recipe("plain", st.none() | st.booleans() | st.text(max_size=4)),
    _recipe("float", st.floats().map(repr)),
    _recipe("int", st.integers(-(2**80), 2**80).map(str)),
    _recipe("date", st.dates().map(str)),
    _recipe("datetime", _moments),
    _recipe("time", st.times().map(str)),
    _recipe("uuid", st.uuids().map(str)),
    _recipe("decimal", st.decimals().map(str)),
    _recipe("path", st.text("ab/", max_size=4)),
    _recipe("colour", st.sampled_from(["RED", "GREEN"])),
    _recipe("set", st.lists(st.integers() | st.text(max_size=2), max_size=3)),
    _array("f2", st.floats(width=16).map(repr)),
    _array("f4", st.floats(width=32).map(repr)),
    _array("f8", st.floats().map(repr)),
    _array("i8", st.integers(-(2**63), 2**63 - 1)),
    _array("u8", st.integers(0, 2**64 - 1)),
    _array("?", st.booleans()),
    _array("M8[D]", st.none() | st.dates().map(str)),
    _array("M8[ns]", st.none() | _moments),
    _array("M8[s]", st.none() | _moments),
    _recipe("table", st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3)),
    _recipe("series", st.lists(_moments, max_size=3)),
    _recipe("whole numbers", st.lists(st.none() | st.integers(0, 2**62), max_size=3)),
    _recipe("nothing"),
)
_keys = st.one_of(
    _recipe("plain", st.text(max_size=3)),
    _recipe("plain", st.integers()),
    _recipe("date", st.dates().map(str)),
    _recipe("uuid", st.uuids().map(str)),
)


def _pair(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(_keys, inner).map(list)


_recipes = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        _recipe("list", st.lists(inner, max_size=3)),
        _recipe("tuple", st.lists(inner, max_size=3)),
        _recipe("deque", st.lists(inner, max_size=3)),
        _recipe("pair", inner, inner),
        _recipe("box", inner),
        _recipe("answer", inner),
        _recipe(
            "dict",
            st.lists(
                st.tuples(_keys, inner).map(list), max_size=3, unique_by=lambda p: str(p[0][1])
            ),
        ),
    ),
    max_leaves=6,
)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(_recipes, min_size=40, max_size=80))
def test_value_is_the_same_json_whatever_its_way(server: Server, recipes: list[Any]) -> None:
    form = {"data": {"recipes": json.dumps(recipes)}}
    expected = [json.loads(to_json(values.make(recipe))) for recipe in recipes]
    _check_that_all_are_finite(expected)
    training = server.post("/v2/models/plain/train/", **form).json()["uuid"]
    job = server.predict("plain", **form, headers={"Prefer": "respond-async"}).json()["uuid"]
    for model in ("plain", "batched", "asynchronous"):
        assert predictions(server.predict(model, **form)) == expected
    assert server.predict("schema", **form).json() == {"values": expected}
    lines = server.predict("yields", **form).text.split("\n")
    assert [json.loads(line) for line in lines[:-1]] == expected
    record = Trainings(server, "plain").wait(training)
    assert record["result"]["output"] == expected
    Trainings(server, "plain", "jobs").wait(job)
    assert predictions(server.get(f"/v2/models/plain/jobs/{job}/result")) == expected


def _check_that_all_are_finite(value: Any) -> None:
    if isinstance(value, list):
        for item in value:
            _check_that_all_are_finite(item)
    elif isinstance(value, dict):
        _check_that_all_are_finite(list(value.values()))
    else:
        assert not isinstance(value, float) or math.isfinite(value)
