"""A model whose `get_predict_args` raises."""

from typing import Any


def get_predict_args() -> dict[str, Any]:
    raise ValueError("no arguments today")


def predict(**kwargs: Any) -> Any:
    return "predicted"
