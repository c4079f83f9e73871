"""A model whose `warm` dereferences a null pointer."""

import ctypes
from typing import Any


def warm() -> None:
    ctypes.string_at(0)


def predict(**kwargs: Any) -> Any:
    return "predicted"
