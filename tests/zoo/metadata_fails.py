"""A model whose `get_metadata` raises."""

from typing import Any


def get_metadata() -> dict[str, Any]:
    raise ValueError("no metadata today")


def predict(**kwargs: Any) -> Any:
    return "predicted"
