"""A model whose metadata has values that JSON cannot represent."""

import datetime
import pathlib
from typing import Any


def get_metadata() -> dict[str, Any]:
    return {"date": datetime.date(2024, 2, 29), "path": pathlib.PurePosixPath("/a/b")}


def predict(**kwargs: Any) -> Any:
    return "predicted"
