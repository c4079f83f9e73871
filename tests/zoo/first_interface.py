"""Has the functions of the first interface, which `deepaas-predict` calls."""

import io
import tempfile
from pathlib import Path
from typing import Any


def predict_data(arguments: dict[str, Any]) -> Any:
    (upload,) = arguments["files"]
    accept = arguments["accept"]
    content = Path(upload.filename).read_text()
    if accept == "application/json":
        return {"content": content, "name": upload.name, "type": upload.content_type, "it's": None}
    if accept == "text/plain":
        raise ValueError("no text here")
    if accept == "application/zip":
        return io.BytesIO(b"buffer")
    path = Path(tempfile.mkdtemp(), "chart.png")
    path.write_bytes(b"picture")
    return path.open("rb")


def predict_url(arguments: dict[str, Any]) -> Any:
    return {"urls": arguments["urls"], "accept": arguments["accept"]}
