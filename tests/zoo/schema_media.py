"""Has a schema for JSON, and can also return an image."""

from typing import Any

from webargs import fields, validate

schema = {"label": fields.Str(required=True)}


def get_predict_args() -> dict[str, Any]:
    return {"accept": fields.Str(validate=validate.OneOf(["application/json", "image/png"]))}


def predict(**kwargs: Any) -> Any:
    return {"label": "cat"} if kwargs["accept"] == "application/json" else b"image"
