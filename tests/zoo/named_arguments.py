"""A model whose `predict` has named parameters with defaults."""

from typing import Any

from webargs import fields


def get_predict_args() -> dict[str, Any]:
    return {"text": fields.Str(required=True), "times": fields.Int()}


def predict(text: str, times: int = 2) -> Any:
    return text * times
