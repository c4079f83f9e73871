"""A model whose `accept` is required."""

from typing import Any

from webargs import fields, validate


def get_predict_args() -> dict[str, Any]:
    return {
        "accept": fields.Str(
            required=True, validate=validate.OneOf(["application/json", "image/png"])
        ),
    }


def predict(**kwargs: Any) -> Any:
    return f"accept={kwargs.get('accept')!r}"
