"""Returns the number of a call as JSON, bytes or a file, of the requested length."""

import tempfile
from typing import Any

from webargs import fields, validate

MEDIA_TYPES = ["application/json", "application/octet-stream"]


def get_predict_args() -> dict[str, Any]:
    return {
        "number": fields.Int(load_default=0),
        "do": fields.Str(load_default="json"),
        "size": fields.Int(load_default=1000),
        "files": fields.List(fields.Field(type="file"), type="file", location="form"),
        "accept": fields.Str(validate=validate.OneOf(MEDIA_TYPES)),
    }


def predict(**kwargs: Any) -> Any:
    text = f"{kwargs['number']} ".encode()
    content = text * (kwargs["size"] // len(text))
    if kwargs["do"] == "file":
        file = tempfile.TemporaryFile()  # noqa: SIM115
        file.write(content)
        return file
    if kwargs["do"] == "bytes":
        return content
    return {"content": content.decode(), "files": len(kwargs.get("files", []))}
