"""A model whose `accept` is located in the headers, without JSON among its choices."""

from typing import Any

from webargs import fields, validate


def get_predict_args() -> dict[str, Any]:
    return {
        "accept": fields.Str(
            validate=validate.OneOf(["image/png", "text/csv"]), location="headers"
        ),
    }


def predict(**kwargs: Any) -> Any:
    return f"accept={kwargs.get('accept')!r}"
