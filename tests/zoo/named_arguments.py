"""Its `predict` names its parameters, with defaults of its own."""

from typing import Any

from webargs import fields


def get_predict_args() -> dict[str, Any]:
    return {"text": fields.Str(required=True), "times": fields.Int()}


def predict(text: str, times: int = 2) -> Any:
    return text * times
