"""A model whose metadata overrides every key for which a description may promise a type."""

from typing import Any


def get_metadata() -> dict[str, Any]:
    return {
        "id": 5,
        "name": None,
        "description": ["several", "texts"],
        "author": {"A. Author": "a@example.org"},
        "version": 1.5,
        "url": None,
        "license": {"name": "MIT"},
        "links": {"rel": 3},
        "problem": False,
        "metadata_problem": [1],
    }


def predict(**kwargs: Any) -> Any:
    return None
