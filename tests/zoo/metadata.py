"""A model whose metadata has the odd values that existing models have."""

from typing import Any


def get_metadata() -> dict[str, Any]:
    return {
        "name": "Another name",
        "id": "another-id",
        "author": ["A. Author", "B. Author"],
        "author-email": {"A. Author": "a@example.org"},
        "license": None,
        "help-train": {"nested": [1, 2.5, None, True]},
        "description": "Overrides the stock text with ünïcode.",
        "any key": "any value",
        "3": 3,
    }
