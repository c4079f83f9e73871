"""A model whose `predict` and `warm` are wrapped by a decorator that hides their names."""

from collections.abc import Callable
from typing import Any

from webargs import fields


def hiding(function: Callable[..., Any]) -> Callable[..., Any]:
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return inner


def get_predict_args() -> dict[str, Any]:
    return {"text": fields.Str(missing="x")}


@hiding
def warm() -> None:
    pass


@hiding
def predict(**kwargs: Any) -> Any:
    return kwargs
