"""Has a Schema class as the schema of its results; the class changes the values that it loads."""

from typing import Any

from marshmallow import Schema, post_load
from webargs import fields


class LabelsSchema(Schema):
    label = fields.Str(required=True)
    score = fields.Float(load_default=1.0)

    @post_load
    def louder(self, data: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {**data, "label": data["label"].upper()}


schema = LabelsSchema


def get_predict_args() -> dict[str, Any]:
    return {"label": fields.Str()}


def predict(**kwargs: Any) -> Any:
    return dict(kwargs)
