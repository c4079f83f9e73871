"""Offers all image types, as several existing models do."""

import io
from typing import Any

from webargs import fields, validate


def get_predict_args() -> dict[str, Any]:
    choices = ["application/json", "image/*"]
    return {
        "accept": fields.Str(missing="application/json", validate=validate.OneOf(choices)),
        "name": fields.Str(missing=""),
    }


def predict(**kwargs: Any) -> Any:
    if kwargs["accept"] != "image/*":
        return f"accept={kwargs['accept']!r}"
    picture = io.BytesIO(b"\x89PNG")
    if kwargs["name"]:
        picture.name = kwargs["name"]
    return picture
