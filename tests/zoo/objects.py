"""Offers a model as an instance and as a class."""

import os
from typing import Any

from webargs import fields


class Model:
    """A model that keeps its state in the instance."""

    def __init__(self) -> None:
        self.calls = 0
        self.made_in = os.getpid()

    def get_metadata(self) -> dict[str, Any]:
        return {"name": "An object", "description": "Counts its calls."}

    def get_predict_args(self) -> dict[str, Any]:
        return {"step": fields.Int(missing=1)}

    def predict(self, **kwargs: Any) -> Any:
        self.calls += kwargs["step"]
        return {"calls": self.calls, "made here": self.made_in == os.getpid()}


instance = Model()


class Needy:
    """A class whose constructor needs an argument."""

    def __init__(self, weights: str) -> None:
        self.weights = weights

    def predict(self, **kwargs: Any) -> Any:
        return self.weights
