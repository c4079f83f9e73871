"""A model that multiplies matrices of ones, with the threads of numpy's linear algebra."""

from typing import Any

import numpy as np
from webargs import fields


def get_predict_args() -> dict[str, Any]:
    return {"size": fields.Int(required=True), "times": fields.Int(required=True)}


def predict(size: int, times: int) -> float:
    ones = np.ones((size, size))
    return sum(float((ones @ ones)[0, 0]) for _ in range(times))
