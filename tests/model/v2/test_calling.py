"""How models are called: one call at a time, many calls at a time, or in batches."""

from __future__ import annotations

import collections
import functools
import io
import itertools
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from deepaas.exceptions import ModelMistakeError
from deepaas.model.v2.base import BaseModel
from deepaas.model.v2.calling import batch_results, calling_of
from deepaas.model.v2.exchange import Calling, CallingKind
from deepaas.model.v2.wrapper import ModelWrapper


def predict(**kwargs: Any) -> None: ...


def generate(**kwargs: Any) -> Iterator[int]:
    yield 1


async def predict_async(**kwargs: Any) -> None: ...


async def generate_async(**kwargs: Any) -> AsyncIterator[int]:
    yield 1


def predict_batch(batch: list[dict[str, Any]]) -> list[Any]:
    return batch


async def predict_batch_async(batch: list[dict[str, Any]]) -> list[Any]:
    return batch


class Callable:
    def __call__(self, **kwargs: Any) -> None: ...


class CallableAsync:
    async def __call__(self, **kwargs: Any) -> None: ...


def decorated(function: Any) -> Any:
    """Decorate as `functools.wraps` allows: the wrapper is not async, but looks like `function`."""

    @functools.wraps(function)
    def wrapper(**kwargs: Any) -> Any:
        return function(**kwargs)

    return wrapper


def calling(options: dict[str, int] | None = None, **attributes: Any) -> Calling:
    """Return how a model with these attributes is called, with these options."""
    model = ModelWrapper("made", SimpleNamespace(**attributes))
    return calling_of(model, **(options or {}))


SEQUENTIAL, CONCURRENT, BATCH = CallingKind
MANY = Calling(CONCURRENT, 64)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (predict, Calling(SEQUENTIAL)),
        (generate, Calling(SEQUENTIAL)),
        (Callable(), Calling(SEQUENTIAL)),
        (functools.partial(predict, a=1), Calling(SEQUENTIAL)),
        (len, Calling(SEQUENTIAL)),
        (predict_async, MANY),
        (generate_async, MANY),
        (CallableAsync(), MANY),
        (functools.partial(predict_async, a=1), MANY),
        (functools.partial(functools.partial(generate_async, a=1), b=2), MANY),
        (functools.partial(CallableAsync()), MANY),
        (decorated(predict_async), Calling(SEQUENTIAL)),
    ],
)
def test_kind_of_predict_decides(function: Any, expected: Calling) -> None:
    assert calling(predict=function) == expected


def test_model_without_predict_is_called_one_at_a_time() -> None:
    assert calling() == Calling(SEQUENTIAL)


def test_methods_of_a_class_count_as_functions_do() -> None:
    class Async(BaseModel):
        async def predict(self, **kwargs: Any) -> Any: ...

    class Batched(BaseModel):
        max_batch_size = 5

        def predict_batch(self, batch: list[dict[str, Any]]) -> list[Any]:
            return batch

    class Static(BaseModel):
        @staticmethod
        async def predict(**kwargs: Any) -> Any: ...

    assert calling_of(ModelWrapper("a", Async())) == MANY
    assert calling_of(ModelWrapper("b", Batched())) == Calling(BATCH, 5, 0.005)
    assert calling_of(ModelWrapper("c", Static())) == MANY
    assert calling_of(ModelWrapper("d", BaseModel())) == Calling(SEQUENTIAL)


# --- batches


@pytest.mark.parametrize("function", [predict_batch, predict_batch_async])
@pytest.mark.parametrize("other", [{}, {"predict": predict}, {"predict": predict_async}])
def test_predict_batch_is_preferred(function: Any, other: dict[str, Any]) -> None:
    assert calling(predict_batch=function, **other) == Calling(BATCH, 32, 0.005)


@pytest.mark.parametrize(
    ("attributes", "options", "expected"),
    [
        ({}, {}, Calling(BATCH, 32, 0.005)),
        ({"max_batch_size": 8, "max_batch_wait_ms": 100}, {}, Calling(BATCH, 8, 0.1)),
        ({"max_batch_size": None, "max_batch_wait_ms": None}, {}, Calling(BATCH, 32, 0.005)),
        ({"max_batch_wait_ms": 0}, {}, Calling(BATCH, 32, 0.0)),
        ({"max_batch_size": 8}, {"max_batch_size": 0}, Calling(BATCH, 8, 0.005)),
        ({"max_batch_size": 8}, {"max_batch_size": 4}, Calling(BATCH, 4, 0.005)),
        ({"max_batch_wait_ms": 8}, {"max_batch_wait_ms": -1}, Calling(BATCH, 32, 0.008)),
        ({"max_batch_wait_ms": 8}, {"max_batch_wait_ms": 0}, Calling(BATCH, 32, 0.0)),
        ({"max_batch_size": 0}, {"max_batch_size": 4}, Calling(BATCH, 4, 0.005)),
        ({"max_batch_size": 1}, {}, Calling(BATCH, 1, 0.005)),
    ],
)
def test_options_overrule_what_the_model_says(
    attributes: dict[str, Any], options: dict[str, int], expected: Calling
) -> None:
    assert calling(options, predict_batch=predict_batch, **attributes) == expected


@pytest.mark.parametrize(
    ("function", "expected"),
    [(predict, Calling(SEQUENTIAL)), (predict_async, MANY), (None, Calling(BATCH, 1, 0.005))],
)
@pytest.mark.parametrize("how", ["option", "attribute"])
def test_batches_of_one_are_no_batches(function: Any, expected: Calling, how: str) -> None:
    size = {"max_batch_size": 1}
    options, attributes = (size, {}) if how == "option" else ({}, size)
    given: dict[str, Any] = {"predict_batch": predict_batch, **attributes}
    if function is not None:
        given["predict"] = function
    assert calling(options, **given) == expected


@pytest.mark.parametrize("name", ["max_batch_size", "max_batch_wait_ms", "max_concurrency"])
@pytest.mark.parametrize("value", [-1, "many", 2.0, True, [], "5"])
def test_attribute_that_is_no_number_is_named(name: str, value: Any) -> None:
    function = predict_async if name == "max_concurrency" else predict_batch
    kind = "predict" if name == "max_concurrency" else "predict_batch"
    said = rf"{name} is .*, but must be a whole number from [01] to {10**9}; write {name} = \d+$"
    with pytest.raises(ModelMistakeError, match=said):
        calling(None, **{kind: function, name: value})


@pytest.mark.parametrize("name", ["max_batch_size", "max_batch_wait_ms", "max_concurrency"])
def test_attribute_that_is_too_large_is_named(name: str) -> None:
    said = f"{name} is {10**12}, but must be a whole number from [01] to {10**9}"
    with pytest.raises(ModelMistakeError, match=said):
        calling(None, predict=predict_async, **_batch_if(name), **{name: 10**12})


@pytest.mark.parametrize("name", ["max_batch_size", "max_concurrency"])
def test_none_at_all_is_too_few(name: str) -> None:
    with pytest.raises(ModelMistakeError, match=f"{name} is 0, but must be a whole number from 1"):
        calling(None, predict=predict_async, **_batch_if(name), **{name: 0})


def _batch_if(name: str) -> dict[str, Any]:
    return {} if name == "max_concurrency" else {"predict_batch": predict_batch}


# --- many at a time


@pytest.mark.parametrize(
    ("attribute", "option", "expected"), [(None, 0, 64), (5, 0, 5), (5, 9, 9), (0, 9, 9), (1, 0, 1)]
)
def test_concurrency(attribute: Any, option: int, expected: int) -> None:
    options = {"max_concurrency": option}
    found = calling(options, predict=predict_async, max_concurrency=attribute)
    assert found == Calling(CONCURRENT, expected)


def test_attributes_of_another_kind_do_not_matter() -> None:
    assert calling(predict=predict, max_concurrency="many", max_batch_size=0) == Calling(SEQUENTIAL)


# --- results of predict_batch


class Columns(NamedTuple):
    label: list[int]
    score: list[int]


@pytest.mark.parametrize(
    "returned",
    [
        [0, 1],
        (0, 1),
        (number for number in range(2)),
        np.array([0, 1]),
        np.array([0, 1])[::-1][::-1],
        pd.Series([0, 1], index=[1, 0]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_results_of_a_batch_are_taken_in_their_order(returned: Any) -> None:
    assert batch_results(returned, 2) == [0, 1]


def test_rows_of_a_matrix_are_the_results_of_a_batch() -> None:
    first, second = batch_results(np.array([[1, 2, 3], [4, 5, 6]]), 2)
    assert (first.tolist(), second.tolist()) == ([1, 2, 3], [4, 5, 6])


@pytest.mark.parametrize("returned", [[0], [0, 1, 2], (), np.zeros((3, 2)), np.zeros((0, 2))])
def test_wrong_number_of_results_of_a_batch_is_named(returned: Any) -> None:
    with pytest.raises(ValueError, match=f"returned {len(returned)} results for 2 calls"):
        batch_results(returned, 2)


def test_of_a_generator_one_item_too_many_is_taken() -> None:
    taken = []

    def endless() -> Iterator[int]:
        try:
            for number in itertools.count():
                taken.append(number)
                yield number
        finally:
            taken.append(-1)

    with pytest.raises(ValueError, match="yielded more than 2 results for 2 calls"):
        batch_results(endless(), 2)
    assert taken == [0, 1, 2, -1]


@pytest.mark.parametrize(
    "returned",
    [
        None,
        5,
        {"a": 1, "b": 2},
        {"a": 1, "b": 2}.keys(),
        {1, 2},
        "ab",
        b"ab",
        bytearray(b"ab"),
        memoryview(b"ab"),
        np.str_("ab"),
        np.array(2),
        np.float64(2),
        range(2),
        map(int, "01"),
        iter([0, 1]),
        io.StringIO("a\nb\n"),
        collections.deque([0, 1]),
        Columns([0, 1], [0, 1]),
        pd.DataFrame({"label": [0, 1], "score": [0, 1]}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_order_of_results_is_refused(returned: Any) -> None:
    with pytest.raises(TypeError, match=f"returned a {type(returned).__name__}; it must return"):
        batch_results(returned, 2)
