"""A model whose fields and schema create objects that cannot all be pickled."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from marshmallow import Schema, fields, post_load


class Function(fields.Field):
    """Becomes a value that cannot be pickled."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Callable[[], Any]:
        return lambda: value


@dataclass
class Options:
    rate: float = 0.1


class Train(Schema):
    function = Function()
    rate = fields.Float()
    whole = fields.Bool()

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> Any:
        return Options(data["rate"]) if data.pop("whole", False) else data


def predict() -> str:
    return "predicted"


def get_train_args() -> Schema:
    return Train()


def train(**kwargs: Any) -> Any:
    return sorted(kwargs)
