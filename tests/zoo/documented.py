"""A module with a docstring.

Its second paragraph is indented.
"""

import dataclasses
import types
from typing import Any, NamedTuple

from deepaas.model.v2.base import BaseModel


def predict(**kwargs: Any) -> Any:
    return "predicted"


class Documented(BaseModel):
    """A class with a docstring.

    Its second paragraph is not indented.
    """

    def predict(self, **kwargs: Any) -> Any:
        return "predicted"


class Undocumented(BaseModel):
    def predict(self, **kwargs: Any) -> Any:
        return "predicted"


@dataclasses.dataclass
class UndocumentedData:
    weights: str = "weights"

    def predict(self, **kwargs: Any) -> Any:
        return "predicted"


@dataclasses.dataclass
class DocumentedData:
    """A dataclass with a docstring."""

    weights: str = "weights"

    def predict(self, **kwargs: Any) -> Any:
        return "predicted"


class Pair(NamedTuple):
    predict: Any


instance = Documented()
namespace = types.SimpleNamespace(predict=predict)
base = BaseModel()
pair = Pair(predict)
