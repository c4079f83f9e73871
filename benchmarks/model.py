"""The models that are measured: next to no work of their own, so what is seen is the server's.

Served by every server in the table, old and new: nothing but webargs fields and the standard
library. The plain functions are the models; the objects below give them DEEPaaS's face.
"""

from typing import IO, Any

from webargs import fields


def add(a: float, b: int) -> float:
    return a + b


def total(values: list[float]) -> float:
    return sum(values)


def size(file: IO[bytes]) -> int:
    return len(file.read())


class _Model:
    def __init__(self, name: str) -> None:
        self.name = name

    def get_metadata(self) -> dict[str, Any]:
        return {"name": self.name, "description": "A model for measuring servers"}


class _Small(_Model):
    def get_predict_args(self) -> dict[str, Any]:
        return {"a": fields.Float(required=True), "b": fields.Int(required=True)}

    def predict(self, **arguments: Any) -> float:
        return add(arguments["a"], arguments["b"])


class _Floats(_Model):
    def get_predict_args(self) -> dict[str, Any]:
        return {"values": fields.List(fields.Float(), required=True)}

    def predict(self, **arguments: Any) -> float:
        return total(arguments["values"])


class _Upload(_Model):
    def get_predict_args(self) -> dict[str, Any]:
        file = fields.Raw(required=True, metadata={"type": "file", "location": "form"})
        return {"data": file}

    def predict(self, **arguments: Any) -> int:
        with open(arguments["data"].filename, "rb") as file:
            return size(file)


small = _Small("small")
floats = _Floats("floats")
upload = _Upload("upload")
