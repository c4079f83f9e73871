"""A model whose `warm` raises."""

from typing import Any


def warm() -> None:
    raise RuntimeError("too cold to warm")


def predict(**kwargs: Any) -> Any:
    return "predicted"
