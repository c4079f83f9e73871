"""A model that deletes or moves its file, or raises, as a call asks."""

import os
import shutil
import tempfile
from typing import Any

from webargs import fields


def get_predict_args() -> dict[str, Any]:
    return {
        "data": fields.Field(type="file", location="form", required=True),
        "do": fields.Str(missing="read"),
        "number": fields.Int(),
    }


def predict(**kwargs: Any) -> Any:
    path = kwargs["data"].filename
    with open(path, "rb") as file:
        content = file.read().decode()
    match kwargs["do"]:
        case "delete":
            os.remove(path)
        case "move":
            shutil.move(path, tempfile.mkdtemp(dir=os.environ["HOME"]))
        case "fail":
            raise ValueError("failed with a file in hand")
    return {"path": path, "content": content, "is file": os.path.isfile(path)}
