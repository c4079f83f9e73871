"""Takes any number of files with one argument name."""

from typing import Any

from webargs import fields


def get_predict_args() -> dict[str, Any]:
    return {
        "files": fields.List(
            fields.Field(type="file"), required=True, type="file", location="form"
        ),
    }


def predict(**kwargs: Any) -> Any:
    return [
        [one.name, one.original_filename, open(one.filename, errors="replace").read()]
        for one in kwargs["files"]
    ]
