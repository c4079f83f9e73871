"""A model whose `accept` has its choices in a list of validators, and as `enum` too."""

from typing import Any

from webargs import fields, validate


def get_predict_args() -> dict[str, Any]:
    return {
        "accept": fields.Str(
            enum=["image/png", "application/json"],
            validate=[validate.Length(min=1), validate.OneOf(["image/png", "application/json"])],
        ),
    }


def predict(**kwargs: Any) -> Any:
    return f"accept={kwargs.get('accept')!r}"
