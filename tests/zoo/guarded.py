"""Has secret arguments, some for predict and some for train."""

from typing import Any

from webargs import fields


def get_predict_args() -> dict[str, Any]:
    return {
        "token": fields.Str(load_only=True, missing=""),
        "api-key": fields.List(fields.Str(metadata={"format": "password"})),
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
