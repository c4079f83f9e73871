"""A model that recognises the kind of an uploaded file, served by DEEPaaS.

The entry point names a class: `filetype = "deepaas_filetype:FileType"` in the group
`deepaas.v2.model`. Each worker makes one instance of it.
"""

import os
from importlib.metadata import metadata
from pathlib import Path
from typing import Any, ClassVar

from marshmallow import Schema, fields

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


class FileType:
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

    def predict(self, file: Path) -> dict[str, Any]:
        """Return the kind of `file` in the form of FileTypeSchema.

        Args:
            file: Any file. Its name is not used.
        """
        self.warm()  # does nothing unless the server runs with --nowarm
        assert self._magika is not None
        result = self._magika.identify_path(file)
        return {
            "label": str(result.output.label),
            "score": round(result.score, 4),
            "group": result.output.group,
            "description": result.output.description,
            "mime_type": result.output.mime_type,
        }
