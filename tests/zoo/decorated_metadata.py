"""A model whose `get_metadata` and `get_predict_args` have a decorator that hides their names."""

from collections.abc import Callable
from typing import Any

from webargs import fields


def hiding(function: Callable[..., Any]) -> Callable[..., Any]:
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return inner


@hiding
def get_metadata() -> dict[str, Any]:
    return {"name": "Decorated"}


@hiding
def get_predict_args() -> dict[str, Any]:
    return {"text": fields.Str(missing="x")}


def predict(**kwargs: Any) -> Any:
    return kwargs
