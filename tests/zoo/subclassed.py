"""Fields that override methods of marshmallow, and handle `missing` themselves."""

from typing import Any

import marshmallow
from webargs import fields

SEEN: list[str] = []


class Deserializing(fields.Field):
    """Its `deserialize` handles absent values too."""

    def deserialize(self, value: Any, attr: Any = None, data: Any = None, **kwargs: Any) -> Any:
        if value is marshmallow.missing:
            return "was missing"
        return f"deserialized {value}"


class Validating(fields.Str):
    """Records the values that it validates."""

    def _validate(self, value: Any) -> None:
        SEEN.append(value)
        super()._validate(value)
        if value == "bad":
            raise marshmallow.ValidationError("Bad it is.")


class Lettered(fields.Field):
    """Converts a letter to its number."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        if not isinstance(value, str) or len(value) != 1:
            raise marshmallow.ValidationError("One letter, please.")
        return ord(value)


def _even(value: int) -> None:
    if value % 2:
        raise marshmallow.ValidationError("Must be even.")


def get_predict_args() -> dict[str, Any]:
    return {
        "always": Deserializing(),
        "noted": Validating(missing="nothing"),
        "letter": Lettered(missing=None, description="A letter."),
        "even": fields.Int(validate=_even),
        "truthy": fields.Int(validate=lambda value: value > 0),
        "messages": fields.Int(
            required=True, error_messages={"required": "Say a number.", "invalid": "No number."}
        ),
        "constant": fields.Constant(5),
        "method": fields.Function(deserialize=lambda value: f"function {value}"),
    }


def predict(**kwargs: Any) -> Any:
    seen, SEEN[:] = list(SEEN), []
    return {"arguments": kwargs, "validated": seen}
