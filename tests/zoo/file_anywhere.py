"""A model whose file argument has no location."""

from typing import Any

from webargs import fields


def get_predict_args() -> dict[str, Any]:
    return {"data": fields.Field(type="file", required=True), "text": fields.Str()}


def predict(**kwargs: Any) -> Any:
    with open(kwargs["data"].filename, encoding="utf-8") as file:
        return [kwargs["data"].original_filename, file.read(), kwargs.get("text")]
