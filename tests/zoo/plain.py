"""Returns the requested kind of value, without an `accept` argument."""

import collections
import datetime
import decimal
import enum
import io
import math
import uuid
from typing import Any

from webargs import fields


class Colour(enum.Enum):
    RED = "red"


class Point(collections.namedtuple("Point", "x y")):
    """A named tuple."""


def get_predict_args() -> dict[str, Any]:
    return {"kind": fields.Str(required=True)}


KINDS: dict[str, Any] = {
    "none": lambda: None,
    "str": lambda: "héllo",
    "bool": lambda: True,
    "int": lambda: 5,
    "big-int": lambda: 2**70,
    "float": lambda: 0.1,
    "list": lambda: [1, [2]],
    "tuple": lambda: (1, ("a", None)),
    "namedtuple": lambda: Point(1, 2),
    "dict": lambda: {"a": {"b": [1.5]}, "é": "ü"},
    "int-keys": lambda: {2: "a", None: "b", True: "c", 1.5: "d"},
    "tuple-keys": lambda: {(1, 2): "a"},
    "nan": lambda: [math.nan, 1.0, {"x": math.inf, "y": -math.inf}],
    "set": lambda: {3},
    "frozenset": lambda: frozenset(["a"]),
    "date": lambda: datetime.date(2024, 2, 29),
    "datetime": lambda: datetime.datetime(2024, 2, 29, 12, 30, 1),
    "uuid": lambda: uuid.UUID(int=1),
    "decimal": lambda: decimal.Decimal("1.5"),
    "enum": lambda: Colour.RED,
    "ordered": lambda: collections.OrderedDict([("z", 1), ("a", 2)]),
    "bytes": lambda: b"\x00\xff",
    "ascii-bytes": lambda: b"abc",
    "bytesio": lambda: io.BytesIO(b"buffer"),
    "object": lambda: object(),
    "function": lambda: KINDS,
    "surrogate": lambda: "\ud800",
    "huge": lambda: "x" * 3_000_000,
}


def predict(**kwargs: Any) -> Any:
    return KINDS[kwargs["kind"]]()
