"""Trains with arguments of many types and locations, some of which cannot be pickled."""

from collections.abc import Callable
from typing import Any

from webargs import fields


class Own:
    """A type that this module defines."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __repr__(self) -> str:
        return f"Own({self.number})"


class OwnField(fields.Field):
    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Own:
        return Own(int(value))


class FunctionField(fields.Field):
    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Callable[[], str]:
        return lambda: f"function of {value}"


def get_train_args() -> dict[str, Any]:
    return {
        "in_query": fields.Str(metadata={"location": "query"}),
        "anywhere": fields.Int(),
        "token": fields.Str(data_key="X-Token", metadata={"location": "headers"}),
        "in_json": fields.Dict(metadata={"location": "json"}),
        "of_own_type": OwnField(load_default=Own(1)),
        "unpicklable": FunctionField(),
    }


def train(**kwargs: Any) -> dict[str, Any]:
    kwargs["of_own_type"] = repr(kwargs["of_own_type"])
    if "unpicklable" in kwargs:
        kwargs["unpicklable"] = kwargs["unpicklable"]()
    return kwargs
