"""A model whose `accept` has its choices in a tuple."""

from typing import Any

from webargs import fields, validate


def get_predict_args() -> dict[str, Any]:
    return {"accept": fields.Str(validate=validate.OneOf(("image/png", "application/json")))}


def predict(**kwargs: Any) -> Any:
    return f"accept={kwargs.get('accept')!r}"
