"""Uses every kind of argument that existing models use."""

import datetime
import decimal
import uuid
from typing import Any

from marshmallow import Schema
from webargs import fields, validate


class Inner(Schema):
    city = fields.Str(required=True)
    zip_code = fields.Int()


class Shouting(fields.String):
    """Overrides `_deserialize`."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        return super()._deserialize(value, attr, data, **kwargs).upper()


def get_predict_args() -> dict[str, Any]:
    return {
        "text": fields.Str(description="A text."),
        "number": fields.Int(missing=3, description="A number."),
        "real": fields.Float(missing=0.5),
        "switch": fields.Bool(missing=True),
        "strings": fields.List(fields.Str()),
        "reals": fields.List(fields.Float),
        "integers": fields.List(fields.Int(), missing=[1, 2]),
        "pair": fields.List(fields.Float(), validate=validate.Length(equal=2)),
        "some": fields.List(fields.Str(), validate=validate.Length(min=1, max=3)),
        "link": fields.Url(),
        "day": fields.Date(),
        "moment": fields.DateTime(),
        "key": fields.UUID(),
        "exact": fields.Decimal(),
        "nested": fields.Nested(Inner),
        "mapping": fields.Dict(),
        "anything": fields.Raw(),
        "file": fields.Field(type="file", location="form", description="A file."),
        "raw_file": fields.Raw(metadata={"type": "file", "location": "form"}),
        "bounded": fields.Int(missing=5, validate=validate.Range(min=1, max=10)),
        "bounded_list": fields.Int(validate=[validate.Range(min=1), validate.Range(max=10)]),
        "choice": fields.Str(missing="a", validate=validate.OneOf(["a", "b"])),
        "choice_tuple": fields.Str(validate=validate.OneOf(("a", "b"))),
        "choice_enum": fields.Str(enum=["x", "y"], missing="x"),
        "choice_both": fields.Str(
            missing="x", enum=["x", "y"], metadata={"description": "Both ways."}
        ),
        "contains": fields.List(fields.Str(), validate=validate.ContainsOnly(["p", "q"])),
        "nothing": fields.Str(missing=None),
        "nothing_new": fields.Int(load_default=None, allow_none=True),
        "called": fields.Int(missing=lambda: 7),
        "required": fields.Str(required=True, metadata={"description": "Needed."}),
        "loud": Shouting(missing="quiet"),
        "wire": fields.Str(data_key="on-the-wire"),
        "secret": fields.Str(dump_only=True),
        "write": fields.Str(load_only=True),
        "demo-int": fields.Int(missing=1),
        "bbox(N,W,S,E)": fields.Str(),
        "header": fields.Str(location="headers", description="In a header."),
        "in_json": fields.Dict(location="json", description="In the body."),
        "in_json_too": fields.Str(location="json"),
        "in_query": fields.Str(location="query"),
        "in_form": fields.Str(location="form"),
        "formatted": fields.Str(format="password"),
        "meta_type": fields.Str(metadata={"type": "integer", "format": "int64"}),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, datetime.date | uuid.UUID | decimal.Decimal):
        return f"{type(value).__name__} {value}"
    return value


def predict(**kwargs: Any) -> Any:
    return _plain(kwargs)
