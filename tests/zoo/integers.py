"""Takes integers of any size wherever JSON can have them, and returns them."""

from typing import Any

from webargs import fields

SIZE = 2**70 + 1


def get_metadata() -> dict[str, Any]:
    return {"name": "integers", "description": "Integers of any size.", "size": SIZE}


def get_predict_args() -> dict[str, Any]:
    return {
        "one": fields.Int(),
        "ids": fields.List(fields.Int()),
        "raw": fields.Raw(),
        "nested": fields.Nested({"id": fields.Int()}),
        "table": fields.Dict(),
        "default": fields.Int(missing=SIZE),
    }


def predict(**kwargs: Any) -> Any:
    return {"texts": {name: repr(value) for name, value in kwargs.items()}, "values": kwargs}


def get_train_args() -> dict[str, Any]:
    return get_predict_args()


def train(**kwargs: Any) -> Any:
    from deepaas.training import report

    report(progress=0.5, size=SIZE)
    return kwargs
