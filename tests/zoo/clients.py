"""Two models for generated clients: one takes nested JSON, the other takes files and trains."""

import os
import time
from typing import Any

from marshmallow import Schema
from webargs import fields, validate

from deepaas import training

GATE_SECONDS = 120.0


class Point(Schema):
    x = fields.Float(required=True)
    y = fields.Float(load_default=0.0)


class Region(Schema):
    name = fields.Str(required=True)
    corners = fields.List(fields.Nested(Point), load_default=[])


class Regions:
    """Scales the corners of a region."""

    def get_predict_args(self) -> dict[str, Any]:
        return {
            "region": fields.Nested(Region, required=True),
            "scale": fields.Float(load_default=1.0, validate=validate.Range(min=0)),
            "tags": fields.List(fields.Str(), load_default=[]),
            "notes": fields.Dict(load_default={}),
        }

    def predict(self, **kwargs: Any) -> dict[str, Any]:
        region, scale = kwargs["region"], kwargs["scale"]
        corners = [[corner["x"] * scale, corner["y"] * scale] for corner in region["corners"]]
        return {
            "name": region["name"],
            "corners": corners,
            "tags": kwargs["tags"],
            "notes": kwargs["notes"],
        }


class Pictures:
    """Returns the names and the texts of files, as JSON or as CSV."""

    def get_predict_args(self) -> dict[str, Any]:
        several = {"type": "file", "location": "form"}
        return {
            "image": fields.Field(required=True, metadata={"type": "file"}),
            "others": fields.List(fields.Field(), load_default=[], metadata=several),
            "comment": fields.Str(load_default=""),
            "accept": fields.Str(validate=validate.OneOf(["application/json", "text/csv"])),
        }

    def predict(self, **kwargs: Any) -> Any:
        files = [kwargs["image"], *kwargs["others"]]
        found = [[one.original_filename, _text_of(one.filename)] for one in files]
        if kwargs.get("accept") == "text/csv":
            return "".join(f"{name},{text}\n" for name, text in found)
        return {"files": found, "comment": kwargs["comment"]}

    def get_train_args(self) -> dict[str, Any]:
        return {
            "epochs": fields.Int(load_default=2, validate=validate.Range(min=1)),
            "gate": fields.Str(load_default=""),
        }

    def train(self, epochs: int, gate: str) -> dict[str, Any]:
        """Wait until the file `gate` exists if it is given, and write an artefact."""
        until = time.monotonic() + GATE_SECONDS
        while gate and not os.path.exists(gate):
            if time.monotonic() > until:
                raise TimeoutError("the gate was not opened")
            time.sleep(0.005)
        for epoch in range(1, epochs + 1):
            print(f"epoch {epoch} of {epochs}", flush=True)
            training.report(progress=epoch / epochs, loss=1 / epoch)
        folder = training.directory() / "weights"
        folder.mkdir()
        (folder / "final.txt").write_text(f"after {epochs} epochs")
        return {"epochs": epochs}


def _text_of(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()
