"""A model that takes files, and returns the properties of each."""

import os
from typing import Any

from webargs import fields


def get_predict_args() -> dict[str, Any]:
    return {
        "data": fields.Field(type="file", location="form", description="A file."),
        "other": fields.Raw(type="file", location="form"),
        "text": fields.Str(),
    }


def _describe(value: Any) -> Any:
    if not hasattr(value, "filename"):
        return {"type": type(value).__name__, "value": repr(value), "falsy": not value}
    path = value.filename
    return {
        "type": type(value).__name__,
        "module": type(value).__module__,
        "length": len(value),
        "fields": list(value._fields),
        "name": value.name,
        "filename": path,
        "basename": os.path.basename(path),
        "directory": os.path.dirname(path),
        "extension": os.path.splitext(path)[1],
        "content_type": value.content_type,
        "original_filename": value.original_filename,
        "content": open(path, "rb").read().decode("latin-1") if path else None,
    }


def predict(**kwargs: Any) -> Any:
    return {name: _describe(value) for name, value in kwargs.items()}
