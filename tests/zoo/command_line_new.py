"""Has arguments that the `deepaas-cli` of the reference release does not read, and no `train`
arguments."""

import os
from typing import Any

from marshmallow import Schema
from webargs import fields, validate

STATE = {"warmed": 0}

os.chdir(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Place(Schema):
    city = fields.Str(required=True)


class Count(fields.Integer):
    """A subclass of a field."""


def warm() -> None:
    STATE["warmed"] += 1


def get_predict_args() -> dict[str, Any]:
    return {
        "optional": fields.Str(),
        "size": fields.Int(missing=1, validate=validate.Range(min=1, max=5)),
        "two-words": fields.Int(missing=1),
        "bbox(N,W,S,E)": fields.Str(missing=""),
        "day": fields.Date(),
        "place": fields.Nested(Place),
        "count": Count(missing=1),
        "raw": fields.Raw(type="file", location="form"),
        "files": fields.List(fields.Field(type="file", location="form")),
        "header": fields.Str(location="headers"),
        "password": fields.Str(format="password", missing="usual secret"),
        "hidden": fields.Str(dump_only=True),
        "choice": fields.Str(missing="a", validate=validate.OneOf(["a", "b"])),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not hasattr(value, "original_filename"):
        return value if isinstance(value, int | str | dict) else str(value)
    with open(value.filename) as file:
        return [value.content_type, value.original_filename, file.read()]


def predict(**kwargs: Any) -> Any:
    return {"warmed": STATE["warmed"], **{name: _plain(value) for name, value in kwargs.items()}}


def train() -> Any:
    return dict(STATE)
