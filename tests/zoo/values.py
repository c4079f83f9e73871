"""Makes values of many types from recipes in JSON, and returns or yields them.

A recipe is a list: the name of a maker in `MAKERS`, and its arguments.
"""

import collections
import dataclasses
import datetime
import decimal
import enum
import json
import pathlib
import uuid
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pydantic
from webargs import fields


class Colour(enum.Enum):
    RED = "red"
    GREEN = 2


@dataclasses.dataclass
class Box:
    content: Any


class Answer(pydantic.BaseModel):
    content: Any


Pair = collections.namedtuple("Pair", "left right")


def make(recipe: list[Any]) -> Any:
    name, *given = recipe
    return MAKERS[name](*given)


def _array(values: list[Any], dtype: str, layout: str) -> Any:
    array = np.array([float(v) for v in values] if dtype[0] == "f" else values, dtype)
    return LAYOUTS[layout](array)


def _series(values: list[str]) -> Any:
    return pd.Series(pd.to_datetime(values, format="ISO8601"), dtype="datetime64[ns]")


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "plain": lambda array: array,
    "strided": lambda array: np.repeat(array, 2)[::2],
    "reversed": lambda array: array[::-1].copy()[::-1],
    "swapped": lambda array: array.astype(array.dtype.newbyteorder()),
    "column": lambda array: np.asfortranarray(np.stack([array, array], axis=-1))[..., 0],
    "scalars": list,
}

MAKERS: dict[str, Callable[..., Any]] = {
    "plain": lambda value: value,
    "float": float,
    "int": int,
    "list": lambda items: [make(item) for item in items],
    "tuple": lambda items: tuple(make(item) for item in items),
    "pair": lambda left, right: Pair(make(left), make(right)),
    "deque": lambda items: collections.deque(make(item) for item in items),
    "dict": lambda pairs: {make(key): make(value) for key, value in pairs},
    "set": set,
    "date": datetime.date.fromisoformat,
    "datetime": datetime.datetime.fromisoformat,
    "time": datetime.time.fromisoformat,
    "uuid": uuid.UUID,
    "decimal": decimal.Decimal,
    "path": pathlib.PurePosixPath,
    "colour": lambda name: Colour[name],
    "box": lambda content: Box(make(content)),
    "answer": lambda content: Answer(content=make(content)),
    "array": _array,
    "table": lambda values: pd.DataFrame({"number": values, "text": [str(v) for v in values]}),
    "series": lambda values: _series(values),
    "whole numbers": lambda values: pd.Series(values, dtype="Int64"),
    "nothing": lambda: [pd.NaT, pd.NA, None, np.datetime64("NaT"), float("nan")],
}


def made(kwargs: dict[str, Any]) -> list[Any]:
    return [make(recipe) for recipe in json.loads(kwargs["recipes"])]


class Plain:
    def get_predict_args(self) -> dict[str, Any]:
        return {"recipes": fields.Str(required=True)}

    def predict(self, **kwargs: Any) -> Any:
        return made(kwargs)

    def get_train_args(self) -> dict[str, Any]:
        return self.get_predict_args()

    def train(self, **kwargs: Any) -> Any:
        return made(kwargs)


class WithSchema(Plain):
    schema: ClassVar = {"values": fields.Raw(required=True)}

    def predict(self, **kwargs: Any) -> Any:
        return {"values": made(kwargs)}


class Yields(Plain):
    def predict(self, **kwargs: Any) -> Iterator[Any]:
        yield from made(kwargs)


class Batched(Plain):
    def predict_batch(self, batch: list[dict[str, Any]]) -> list[Any]:
        return [made(member) for member in batch]


class Asynchronous(Plain):
    async def predict(self, **kwargs: Any) -> Any:
        return made(kwargs)
