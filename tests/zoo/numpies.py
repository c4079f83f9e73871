"""Returns numpy values."""

from typing import Any

import numpy
from webargs import fields

KINDS: dict[str, Any] = {
    "array": lambda: numpy.arange(6, dtype="int64").reshape(2, 3),
    "float32": lambda: {"score": numpy.float32(0.5)},
    "float64": lambda: [numpy.float64(0.25)],
    "int8": lambda: numpy.int8(-3),
    "bool": lambda: numpy.bool_(True),
    "nan": lambda: numpy.array([1.0, numpy.nan]),
    "float16": lambda: numpy.array([0.5, 2.0], dtype="float16"),
    "strings": lambda: numpy.array(["a", "b"]),
    "fortran": lambda: numpy.asfortranarray(numpy.arange(4).reshape(2, 2)),
    "str": lambda: numpy.str_("text"),
    "empty": lambda: numpy.zeros((0, 2)),
}


def get_predict_args() -> dict[str, Any]:
    return {"kind": fields.Str(required=True)}


def predict(**kwargs: Any) -> Any:
    return KINDS[kwargs["kind"]]()
