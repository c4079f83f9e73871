"""A model that recognises the kind of an uploaded file, served by DEEPaaS.

The entry point names a class: `filetype = "deepaas_filetype:FileType"` in the group
`deepaas.v2.model`. Each worker makes one instance of it.
"""

import os
from importlib.metadata import metadata
from typing import Any, ClassVar

from aiohttp.web import HTTPBadRequest
from marshmallow import Schema, fields

from deepaas.model.v2.base import BaseModel
from deepaas.model.v2.wrapper import UploadedFile

# onnxruntime, which runs magika's network, reports its use over the internet unless this is set
# before the import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
from magika import Magika


class FileTypeSchema(Schema):
    """The result of predict."""

    label = fields.Str(required=True, metadata={"description": "Short name, such as python."})
    score = fields.Float(required=True, metadata={"description": "The confidence, from 0 to 1."})
    group = fields.Str(required=True, metadata={"description": "Such as code, image, document."})
    description = fields.Str(required=True, metadata={"description": "For people."})
    mime_type = fields.Str(required=True, metadata={"description": "Such as text/x-python."})


class FileType(BaseModel):
    """A model with magika's neural network, which recognises about 200 kinds of files."""

    schema = FileTypeSchema
    examples: ClassVar = [{"file": "samples/cities.csv"}]

    def __init__(self) -> None:
        self._magika: Magika | None = None

    def warm(self) -> None:
        """Load the network, which is part of the magika package."""
        if self._magika is None:
            self._magika = Magika()

    def get_metadata(self) -> dict[str, Any]:
        """Return the metadata in the package's `pyproject.toml`."""
        package = metadata("deepaas_filetype")
        return {
            "description": package["Summary"],
            "version": package["Version"],
            "license": package["License-Expression"],
            "author": package["Author"],
        }

    def get_predict_args(self) -> dict[str, fields.Field]:
        """Return the arguments: a file."""
        return {
            "file": fields.Raw(
                required=True,
                metadata={
                    "type": "file",
                    "location": "form",
                    "description": "Any file. Its name is not used.",
                },
            ),
        }

    def predict(self, **kwargs: Any) -> dict[str, Any]:
        """Return the kind of `file` in the form of FileTypeSchema.

        Raises HTTPBadRequest if it was sent as text, not as a file.
        """
        file = kwargs["file"]
        if not isinstance(file, UploadedFile) or not file.filename:
            raise HTTPBadRequest(reason="file must be sent as a file")
        self.warm()  # does nothing unless the server runs with --nowarm
        assert self._magika is not None
        result = self._magika.identify_path(file.filename)
        return {
            "label": str(result.output.label),
            "score": round(result.score, 4),
            "group": result.output.group,
            "description": result.output.description,
            "mime_type": result.output.mime_type,
        }
