"""Returns everything that it has received: values, and the names, types and bytes of files."""

from typing import Any

from webargs import fields


def get_predict_args() -> dict[str, Any]:
    return {
        "text": fields.Str(),
        "number": fields.Int(),
        "anything": fields.Raw(),
        "header": fields.Str(location="headers"),
        "data": fields.Field(type="file", location="form"),
        "other": fields.Raw(type="file", location="form"),
    }


def _received(value: Any) -> Any:
    if not hasattr(value, "original_filename"):
        return repr(value)
    with open(value.filename, "rb") as file:
        content = file.read().decode("latin-1")
    return [value.name, value.original_filename, value.content_type, content]


def predict(**kwargs: Any) -> Any:
    return {name: _received(value) for name, value in sorted(kwargs.items())}
