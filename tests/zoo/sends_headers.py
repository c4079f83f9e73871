"""Raises an HTTP exception with a header, or returns a file with a name, as the call asks."""

import io
from typing import Any

from aiohttp import web
from webargs import fields, validate

BROKEN = "image/png\r\nX-Evil: 1"


def get_predict_args() -> dict[str, Any]:
    return {
        "name": fields.Str(missing="X-Name"),
        "value": fields.Str(missing="value"),
        "status": fields.Int(missing=400),
        "file": fields.Str(missing=""),
        "accept": fields.Str(validate=validate.OneOf(["application/json", "text/plain", BROKEN])),
    }


def get_train_args() -> dict[str, Any]:
    return {"name": fields.Str(), "value": fields.Str(missing="value")}


def predict(**kwargs: Any) -> Any:
    if kwargs["file"]:
        file = io.BytesIO(b"content")
        file.name = kwargs["file"]
        return file
    headers = {kwargs["name"]: kwargs["value"]}
    if kwargs["status"] == 302:
        raise web.HTTPFound("/elsewhere", headers=headers)
    raise web.HTTPBadRequest(reason="the own reason", headers=headers)


def train(**kwargs: Any) -> Any:
    raise web.HTTPBadRequest(reason="the own reason", headers={kwargs["name"]: kwargs["value"]})
