"""A model whose metadata has links and no name."""

from typing import Any


def get_metadata() -> dict[str, Any]:
    return {"links": "https://example.org/", "version": "1.2.3"}
