"""A model whose `accept` has a default but no choices."""

from typing import Any

from webargs import fields


def get_predict_args() -> dict[str, Any]:
    return {"accept": fields.Str(missing="application/json")}


def predict(**kwargs: Any) -> Any:
    return f"accept={kwargs.get('accept')!r}"
