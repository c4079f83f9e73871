"""A model with secret arguments, some of `predict` and some of `train`."""

from typing import Any

from webargs import fields

ODD_NAMES = ["a;b", "a&b", "a+b", "x=y", "50%", "p[q]", "schlüssel", "what?"]


def get_predict_args() -> dict[str, Any]:
    return {
        "token": fields.Str(load_only=True, missing=""),
        "api-key": fields.List(fields.Str(metadata={"format": "password"})),
        **{name: fields.Str(load_only=True) for name in ODD_NAMES},
        "text": fields.Str(missing=""),
        "number": fields.Int(),
    }


def get_train_args() -> dict[str, Any]:
    return {"passphrase": fields.Str(load_only=True, missing=""), "text": fields.Str(missing="")}


def predict(**kwargs: Any) -> dict[str, Any]:
    if kwargs["text"] == "fail":
        raise ValueError("it went wrong")
    return {"length": len(kwargs["token"])}


def train(**kwargs: Any) -> dict[str, Any]:
    return {"length": len(kwargs["passphrase"])}
