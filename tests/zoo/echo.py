"""Returns the `repr` and the type of each argument."""

from typing import Any

from webargs import fields


def get_metadata() -> dict[str, Any]:
    return {"name": "echo", "description": "Answers with what it was given."}


def get_predict_args() -> dict[str, Any]:
    return {
        "text": fields.Str(),
        "number": fields.Int(),
    }


def predict(**kwargs: Any) -> Any:
    return {name: [type(value).__name__, value] for name, value in kwargs.items()}
