"""The models for DEEPaaS, with only webargs fields, so that old and new releases serve them."""

from collections.abc import Iterator
from typing import Any

from webargs import fields

from benchmarks import functions


class _Model:
    def __init__(self, name: str) -> None:
        self.name = name

    def get_metadata(self) -> dict[str, Any]:
        return {"name": self.name, "description": "A model for measuring servers"}


class _Small(_Model):
    def get_predict_args(self) -> dict[str, Any]:
        return {"a": fields.Float(required=True), "b": fields.Int(required=True)}

    def predict(self, **arguments: Any) -> float:
        return functions.add(arguments["a"], arguments["b"])

    def get_train_args(self) -> dict[str, Any]:
        return {"do": fields.Str(required=True), "seconds": fields.Float(required=True)}

    def train(self, **arguments: Any) -> None:
        """Keep a core busy for `seconds`, or print the time a hundred times in `seconds`."""
        if arguments["do"] == "spin":
            functions.spin(arguments["seconds"])
        else:
            functions.tell_the_time(arguments["seconds"])


class _Floats(_Model):
    def get_predict_args(self) -> dict[str, Any]:
        return {"values": fields.List(fields.Float(), required=True)}

    def predict(self, **arguments: Any) -> float:
        return functions.total(arguments["values"])


class _Upload(_Model):
    def get_predict_args(self) -> dict[str, Any]:
        file = fields.Raw(required=True, metadata={"type": "file", "location": "form"})
        return {"data": file}

    def predict(self, **arguments: Any) -> int:
        with open(arguments["data"].filename, "rb") as file:
            return functions.size(file)


class _Slow(_Small):
    def predict(self, **arguments: Any) -> float:
        return functions.add_slowly(arguments["a"], arguments["b"])


class _Batch(_Slow):
    max_batch_size = functions.MAX_BATCH_SIZE
    max_batch_wait_ms = 5

    def predict_batch(self, batch: list[dict[str, Any]]) -> list[float]:
        return functions.add_batch(batch)


class _Stream(_Model):
    def get_predict_args(self) -> dict[str, Any]:
        return small.get_predict_args()

    def predict(self, **arguments: Any) -> Iterator[float]:
        return functions.add_repeatedly(arguments["a"], arguments["b"])


small = _Small("small")
floats = _Floats("floats")
upload = _Upload("upload")
nobatch = _Slow("nobatch")
batch = _Batch("batch")
varied = _Small("varied")
stream = _Stream("stream")
