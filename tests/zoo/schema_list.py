"""Returns a list, and has a schema with a list."""

from typing import Any

from marshmallow import Schema
from webargs import fields


class FoundSchema(Schema):
    label = fields.Str(required=True)
    score = fields.Float(allow_none=True)


schema = FoundSchema(many=True)


def predict(**kwargs: Any) -> Any:
    return [{"label": "a", "score": 0.5}, {"label": "b", "score": None}]
