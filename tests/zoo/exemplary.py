"""A model that declares examples and weights."""

import os
from typing import Any

from webargs import fields, validate

from deepaas.model.v2.wrapper import UploadedFile


def get_predict_args() -> dict[str, Any]:
    return {
        "letter": fields.Raw(metadata={"type": "file", "location": "form"}),
        "others": fields.List(fields.Raw(metadata={"type": "file", "location": "form"})),
        "text": fields.Str(),
        "count": fields.Int(load_default=1, validate=validate.Range(min=1)),
        "mode": fields.Str(metadata={"location": "query"}),
        "password": fields.Str(load_only=True),
        "options": fields.Dict(),
        "accept": fields.Str(validate=validate.OneOf(["application/json", "text/plain"])),
    }


def _shown(value: Any) -> Any:
    if isinstance(value, list):
        return [_shown(one) for one in value]
    return os.path.getsize(str(value.filename)) if isinstance(value, UploadedFile) else value


def predict(**arguments: Any) -> Any:
    shown = {name: _shown(value) for name, value in arguments.items()}
    return str(shown) if arguments["accept"] == "text/plain" else shown


def get_train_args() -> dict[str, Any]:
    return {"epochs": fields.Int(load_default=1000)}


def train(epochs: int) -> int:
    return epochs


examples = [
    {"letter": "samples/letter.txt", "others": ["samples/letter.txt"], "mode": "fast"},
    {"text": "a", "count": 3, "options": {"deep": [1, None]}, "accept": "text/plain"},
    {"text": "b", "password": "secret"},
    {"text": "b", "accept": "text/plain"},
]
train_examples = [{"epochs": 1}]
weights = ["samples", "$DEEPAAS_MODEL_WEIGHTS/trained.bin"]
