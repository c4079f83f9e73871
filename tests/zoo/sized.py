"""Takes and returns large data: returns the size and the hash of its input, and a given size."""

import hashlib
import os
import pathlib
import shutil
import tempfile
from typing import Any

from webargs import fields, validate

MEDIA_TYPES = ["application/json", "application/octet-stream"]


def get_predict_args() -> dict[str, Any]:
    return {
        "data": fields.Field(type="file", location="form"),
        "files": fields.List(fields.Field(type="file"), type="file", location="form"),
        "text": fields.Str(),
        "number": fields.Int(validate=validate.Range(min=0)),
        "do": fields.Str(missing="describe"),
        "size": fields.Int(missing=0),
        "accept": fields.Str(validate=validate.OneOf(MEDIA_TYPES)),
    }


def _describe(path: str) -> dict[str, Any]:
    digest = hashlib.md5(pathlib.Path(path).read_bytes())
    return {"path": path, "size": os.path.getsize(path), "md5": digest.hexdigest()}


def _bytes(size: int) -> bytes:
    return bytes(range(256)) * (size // 256)


def _file(size: int) -> Any:
    file = tempfile.NamedTemporaryFile(suffix=".bin")  # noqa: SIM115
    file.write(_bytes(size))
    return file


def predict(**kwargs: Any) -> Any:
    uploads = [*kwargs.get("files", [])]
    if "data" in kwargs:
        uploads.append(kwargs["data"])
    match kwargs["do"]:
        case "bytes":
            return _bytes(kwargs["size"])
        case "file":
            return _file(kwargs["size"])
        case "json":
            return "j" * kwargs["size"]
        case "shrink":
            KEPT.append(_file(kwargs["size"]))
            return KEPT[-1]
        case "truncate":
            os.truncate(KEPT[-1].name, 1000)
        case "let-go":
            KEPT.clear()
        case "delete":
            for upload in uploads:
                os.unlink(upload.filename)
        case "move":
            for upload in uploads:
                shutil.move(upload.filename, tempfile.mkdtemp(dir=os.environ["HOME"]))
        case "replace":
            for upload in uploads:
                os.unlink(upload.filename)
                os.mkdir(upload.filename)
        case "fail":
            raise ValueError("failed on purpose")
    if kwargs["do"] in ("delete", "move", "replace"):
        return kwargs["do"]
    return {
        "pid": os.getpid(),
        "files": [{**_describe(one.filename), "name": one.original_filename} for one in uploads],
        "text": len(kwargs.get("text", "")),
    }


KEPT: list[Any] = []
