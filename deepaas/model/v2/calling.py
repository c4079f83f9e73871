"""How a model is called: one call at a time, concurrently, or in batches."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable
from itertools import islice
from types import GeneratorType
from typing import Any

from deepaas.exceptions import ModelMistakeError
from deepaas.model.v2.exchange import Calling, CallingKind
from deepaas.model.v2.places import place_of_attribute
from deepaas.model.v2.wrapper import ModelWrapper

MAX_BATCH_SIZE = 32
MAX_BATCH_WAIT_MS = 5
MAX_CONCURRENCY = 64

MOST = 10**9
"""Upper limit of the three settings, so that every timer and every message can hold them."""


def calling_of(
    model: ModelWrapper,
    *,
    max_batch_size: int = 0,
    max_batch_wait_ms: int = -1,
    max_concurrency: int = 0,
) -> Calling:
    """Return how `model` is called. The arguments override the attributes of the model.

    Raises ModelMistakeError for an attribute that is not an integer in its range.
    """
    if model.has("predict_batch"):
        size = max_batch_size or _number(model, "max_batch_size", MAX_BATCH_SIZE, least=1)
        wait = max_batch_wait_ms
        if wait < 0:
            wait = _number(model, "max_batch_wait_ms", MAX_BATCH_WAIT_MS, least=0)
        if size > 1 or not model.has("predict"):
            return Calling(CallingKind.BATCH, size, wait / 1000)
    if _is_async(model.function("predict")):
        at_once = max_concurrency or _number(model, "max_concurrency", MAX_CONCURRENCY, least=1)
        return Calling(CallingKind.CONCURRENT, at_once)
    return Calling(CallingKind.SEQUENTIAL)


def batch_results(returned: Any, size: int) -> list[Any]:
    """Return the results of a batch of `size` calls, in order, from the return value of
    `predict_batch`.

    Raises TypeError unless that is a list, a tuple, an array or tensor with at least one axis, or a
    generator. Raises ValueError unless it has one result for each call. Takes at most `size + 1`
    items from a generator.
    """
    if not _is_list_of_results(returned):
        raise TypeError(
            f"predict_batch returned a {type(returned).__name__}; it must return a list with one "
            "result for each call of the batch"
        )
    results = list(islice(returned, size + 1))
    if len(results) > size and isinstance(returned, GeneratorType):
        returned.close()
        raise ValueError(f"predict_batch yielded more than {size} results for {size} calls")
    if len(results) != size:
        count = len(returned) if len(results) > size else len(results)
        raise ValueError(f"predict_batch returned {count} results for {size} calls")
    return results


def _is_list_of_results(returned: Any) -> bool:
    """Return whether the items can be results of calls, rather than columns, keys or characters."""
    if isinstance(returned, tuple):
        return not hasattr(returned, "_fields")  # the fields of a named tuple are columns
    if isinstance(returned, list | GeneratorType):
        return True
    is_array = callable(getattr(type(returned), "__array__", None))
    has_rows = bool(getattr(returned, "shape", ()))
    is_table = hasattr(returned, "columns")
    return is_array and has_rows and not is_table and isinstance(returned, Iterable)


def yields(model: ModelWrapper) -> bool:
    """Return whether `predict` is a generator function; it is not called."""
    function = _unwrapped(model.function("predict"))
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def _number(model: ModelWrapper, name: str, default: int, least: int) -> int:
    value = getattr(model.model, name, None)
    if value is None:
        return default
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= MOST:
        return value
    text = f"{name} is {value!r:.100}, but must be a whole number from {least} to {MOST}; "
    where = place_of_attribute(model.model, name)
    raise ModelMistakeError((where, f"{text}write {name} = {default}"))


def _is_async(function: Any) -> bool:
    function = _unwrapped(function)
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _unwrapped(function: Any) -> Any:
    """Return the function that finally runs: that of a partial, or `__call__` of a callable
    object."""
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function):
        function = getattr(function, "__call__", function)  # noqa: B004 the method is inspected
    return function
