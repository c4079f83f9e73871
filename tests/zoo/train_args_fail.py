"""A model whose `get_train_args` raises, so it can predict but not train."""

from typing import Any


def predict() -> str:
    return "predicted"


def get_train_args() -> dict[str, Any]:
    raise RuntimeError("the data set has gone")


def train(**kwargs: Any) -> Any:
    return kwargs
