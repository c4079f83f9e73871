"""Uses the names that modules import from the package."""

from typing import Any

import deepaas
from deepaas.model.v2 import base, wrapper
from deepaas.model.v2.base import BaseModel
from deepaas.model.v2.wrapper import UploadedFile


class Model(BaseModel):
    """A model that derives from the base class and overrides all of its methods."""

    def get_metadata(self) -> dict[str, Any]:
        return {"name": "Derived"}

    def warm(self) -> None:
        pass

    def get_predict_args(self) -> dict[str, Any]:
        return {}

    def get_train_args(self) -> dict[str, Any]:
        return {}

    def train(self, **kwargs: Any) -> Any:
        return {}

    def predict(self, **kwargs: Any) -> Any:
        given = UploadedFile("name", "/tmp/file", "text/plain", "client.txt")
        return {
            "version": deepaas.__version__,
            "same class": wrapper.UploadedFile is UploadedFile and base.BaseModel is BaseModel,
            "defaults": tuple(UploadedFile()),
            "fields": UploadedFile._fields,
            "by name": UploadedFile(name="a", filename="b").filename,
            "is tuple": isinstance(given, tuple),
            "unpacked": [*given],
        }


model = Model()
