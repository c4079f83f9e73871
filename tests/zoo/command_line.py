"""Is called by `deepaas-cli` as existing models are: each argument has a default."""

import io
import logging
from typing import Any

from webargs import fields, validate

STATE = {"warmed": 0}
TYPES = ["application/json", "image/png", "text/plain", "application/zip"]


def warm() -> None:
    STATE["warmed"] += 1


def get_metadata() -> dict[str, Any]:
    return {"name": "command line", "author": ["A", "B"], "license": None}


def get_predict_args() -> dict[str, Any]:
    return {
        "kind": fields.Str(missing="arguments"),
        "number": fields.Int(missing=3, description="A number: 5 % or more."),
        "real": fields.Float(missing=0.5),
        "switch": fields.Bool(missing=True),
        "strings": fields.List(fields.Str(), missing=["a"]),
        "reals": fields.List(fields.Float(), missing=[]),
        "mapping": fields.Dict(missing={}),
        "data": fields.Field(missing=None, type="file", location="form", description="A file."),
        "colour": fields.Str(missing="red", enum=["red", "blue"]),
        "size": fields.Int(missing=1, validate=validate.Range(min=1, max=5)),
        "wire": fields.Str(missing="w", data_key="on-the-wire"),
        "model_name": fields.Str(missing="inner"),
        "workers": fields.Int(missing=4),
        "accept": fields.Str(missing="application/json", validate=validate.OneOf(TYPES)),
    }


def _plain(value: Any) -> Any:
    if not hasattr(value, "original_filename"):
        return value
    with open(value.filename) as file:
        return [value.name, value.content_type, value.original_filename, file.read()]


KINDS: dict[str, Any] = {
    "text": lambda: "plain text",
    "none": lambda: None,
    "list": lambda: [1, {"it's": None}],
    "bytesio": lambda: io.BytesIO(b"buffer"),
    "bytes": lambda: b"bytes",
    "array": lambda: {"é": (1.5, 2)},
}


def predict(**kwargs: Any) -> Any:
    logging.getLogger(__name__).info("a line of the model")
    if kwargs["kind"] == "raise":
        raise ValueError("it does not fit")
    if kwargs["kind"] == "file":
        with open("result.bin", "wb") as out:
            out.write(b"content")
        return open("result.bin", "rb")
    if kwargs["kind"] in KINDS:
        return KINDS[kwargs["kind"]]()
    return {name: _plain(value) for name, value in kwargs.items()}


def get_train_args() -> dict[str, Any]:
    return {
        "epochs": fields.Int(missing=2),
        "rate": fields.Float(required=True, description="The rate."),
        "secret": fields.Str(missing="usual", load_only=True),
    }


def train(**kwargs: Any) -> Any:
    if kwargs["rate"] < 0:
        raise ValueError("it does not converge")
    return {"epochs": kwargs["epochs"], "pair": (1, 2), "warmed": STATE["warmed"]}
