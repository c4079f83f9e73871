"""Fields and validators for type hints that marshmallow has no field or validator for."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields, missing, post_load
from marshmallow.validate import Validator

# --- files


class FileField(fields.Raw):
    """A file, as an UploadedFile.

    An empty text stands for a file that was not chosen: it counts as absent, or as null if the
    field is required and takes null.
    """

    only_files = True
    """The server refuses texts for this field, although it overrides `deserialize`."""

    def deserialize(self, value: Any, attr: Any = None, data: Any = None, **kwargs: Any) -> Any:
        if isinstance(value, str) and value == "":
            value = None if self.required and self.allow_none else missing
        return super().deserialize(value, attr, data, **kwargs)

    def shown(self, value: Any) -> Any:
        """Return the loaded value as people may see it, without a path of the server."""
        return value


class FilePath(FileField):
    """A file, as the path of a temporary file that is removed after the response."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        return pathlib.Path(value.filename)

    def shown(self, value: Any) -> Any:
        return getattr(value, "name", None)


class FileContents(FileField):
    """A file, as its contents."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        with open(value.filename, "rb") as file:
            return file.read()

    def shown(self, value: Any) -> Any:
        return None if value is None else f"({len(value)} bytes)"


# --- collections


class TupleOf(fields.List):
    """A tuple of any length, whose items are of one type."""

    only_files = True  # if its items are files

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        return tuple(super()._deserialize(value, *args, **kwargs))


class SetOf(fields.List):
    """A set; it is sent as a list."""

    collect: Callable[[Iterable[Any]], Any] = set

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        items = super()._deserialize(value, *args, **kwargs)
        try:
            return type(self).collect(items)
        except TypeError:
            raise ValidationError("A set cannot have lists or objects in it.") from None


class FrozenSetOf(SetOf):
    collect = frozenset


# --- objects


class ObjectSchema(Schema):
    """A schema that makes an instance of a class from the loaded values of its parameters."""

    made: Callable[..., Any]

    @post_load
    def make(self, data: Mapping[str, Any], **_: Any) -> Any:
        try:
            return type(self).made(**data)
        except ValueError as error:  # the class checks its parameters itself
            raise ValidationError(str(error) or type(error).__name__) from None


class OpenSchema(Schema):
    """A schema that ignores unknown keys."""

    class Meta:
        unknown = EXCLUDE


class ModelField(fields.Nested):
    """An object that a pydantic model validates. The nested schema only describes it."""

    def __init__(self, nested: Any, model: Any, **kwargs: Any) -> None:
        super().__init__(nested, **kwargs)
        self.model = model

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        from pydantic import ValidationError as PydanticError

        try:
            return self.model.model_validate(value)
        except PydanticError as error:
            raise ValidationError(_by_place(error.errors(include_url=False))) from None

    def _serialize(self, nested_obj: Any, attr: Any, obj: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        return None if nested_obj is None else nested_obj.model_dump(mode="json", by_alias=True)


def _by_place(errors: Iterable[Mapping[str, Any]]) -> Any:
    """Return the messages of pydantic in marshmallow's form: nested dictionaries of lists."""
    messages: dict[Any, Any] = {}
    for error in errors:
        here = messages
        path = error["loc"] or ("_schema",)
        for part in path[:-1]:
            following = here.setdefault(part, {})
            if isinstance(following, list):  # the object has messages of its own, too
                following = here[part] = {"_schema": following}
            here = following
        here = here.setdefault(path[-1], [])
        (here.setdefault("_schema", []) if isinstance(here, dict) else here).append(error["msg"])
    return messages


# --- validators


class MultipleOf(Validator):
    """The value is a multiple of a number."""

    error: str

    def __init__(self, number: Any) -> None:
        self.number = number
        self.error = f"Must be a multiple of {number}."

    def _repr_args(self) -> str:
        return f"number={self.number!r}"

    def __call__(self, value: Any) -> Any:
        number = Decimal(str(self.number)) if isinstance(value, Decimal) else self.number
        try:
            rest = value % number
        except (ArithmeticError, TypeError):
            raise ValidationError(self.error) from None
        # The quotient of two floats is rarely exact: 0.3 is a multiple of 0.1.
        if rest and min(abs(rest), abs(number - rest)) > abs(number) / 10**9:
            raise ValidationError(self.error)
        return value


class Holds(Validator):
    """A function returns something true for the value, or something false if `negated`."""

    error: str

    def __init__(self, function: Callable[[Any], Any], *, negated: bool = False) -> None:
        self.function = function
        self.negated = negated
        name = getattr(function, "__name__", type(function).__name__)
        self.error = f"{name} must be {'false' if negated else 'true'} for the value."
        if name == "<lambda>":
            self.error = "Invalid value."

    def _repr_args(self) -> str:
        return f"function={self.function!r}"

    def __call__(self, value: Any) -> Any:
        try:
            holds = bool(self.function(value))
        except (ValueError, TypeError, ArithmeticError) as error:
            raise ValidationError(f"{self.error} ({error})") from None
        if holds is self.negated:
            raise ValidationError(self.error)
        return value
