"""A model whose arguments are the fields of Schema instances, already bound to them."""

from typing import Any

from marshmallow import Schema
from webargs import fields, validate


class PredictArgs(Schema):
    number = fields.Int(load_default=3, validate=validate.Range(min=1))
    texts = fields.List(fields.Str(), required=True)
    renamed = fields.Str(data_key="wire-name")
    shown = fields.Str(dump_only=True)
    file = fields.Raw(metadata={"type": "file", "location": "form"})


def get_predict_args() -> dict[str, Any]:
    return PredictArgs().fields


def predict(**kwargs: Any) -> Any:
    return kwargs
