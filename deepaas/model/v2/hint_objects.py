"""Classes as types of arguments: dataclasses, TypedDicts, named tuples and pydantic models."""

from __future__ import annotations

import dataclasses
import inspect
import operator
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from marshmallow import Schema, fields

from deepaas.model.v2.docstrings import texts_of
from deepaas.model.v2.hint_constraints import HintError
from deepaas.model.v2.hint_fields import ModelField, ObjectSchema, OpenSchema

EMPTY = inspect.Parameter.empty


@dataclass
class Member:
    """A value in an object: its name, its type hint, and its default."""

    name: str
    hint: Any
    default: Any = EMPTY
    description: str = ""
    may_be_absent: bool = False
    key: str = ""
    """The name in a request, if it is another one."""
    is_only_described: bool = False
    """Whether something else than its field validates it."""


def members_of(cls: type) -> Callable[[], Iterator[Member]] | None:
    """Return a function that yields the members of a class of objects, or None for other classes.

    The function raises HintError.
    """
    if _is_model(cls):
        return lambda: _of_model(cls)
    if hasattr(cls, "__required_keys__"):
        return lambda: _of_typed_dict(cls)
    if dataclasses.is_dataclass(cls):
        return lambda: _of_dataclass(cls)
    if issubclass(cls, tuple) and hasattr(cls, "_fields") and hasattr(cls, "__annotations__"):
        return lambda: _of_named_tuple(cls)
    return None


def nested_class_of(cls: type) -> tuple[Callable[..., fields.Field], dict[str, Any]]:
    """Return the class of the field for these objects, and its keyword arguments."""
    if not _is_model(cls):
        return fields.Nested, {}
    return ModelField, {"model": cls}


def schema_of(cls: type, made: Mapping[str, fields.Field]) -> type[Schema]:
    """Return the schema of the objects, from the fields of their members."""
    if hasattr(cls, "__required_keys__"):
        return Schema.from_dict(dict(made), name=cls.__name__)
    if _is_model(cls):
        is_open = getattr(cls, "model_config", {}).get("extra") != "forbid"
        return (OpenSchema if is_open else Schema).from_dict(dict(made), name=cls.__name__)
    schema = ObjectSchema.from_dict(dict(made), name=cls.__name__)
    schema.made = cls  # type: ignore[attr-defined]
    return schema


def _hints_of(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise HintError(
            f"has the type {cls.__name__}, whose type hints have the unknown name {error.name!r}",
            "define or import it at the top of the module",
        ) from None
    except Exception as error:
        raise HintError(
            f"has the type {cls.__name__}, whose type hints cannot be read ({error})"
        ) from None


def required_keys(cls: type, hints: Mapping[str, Any]) -> set[str]:
    """Return the keys that a TypedDict must have. `hints` are its resolved type hints."""
    required = set(getattr(cls, "__required_keys__", ()))
    for name, hint in hints.items():  # Python does not see these in hints that are texts
        qualifier = getattr(typing.get_origin(hint), "_name", "")
        if qualifier == "Required":
            required.add(name)
        elif qualifier == "NotRequired":
            required.discard(name)
    return required


def _of_typed_dict(cls: type) -> Iterator[Member]:
    texts, hints = texts_of(cls), _hints_of(cls)
    required = required_keys(cls, hints)
    for name, hint in hints.items():
        is_absent = name not in required
        yield Member(name, hint, description=texts.get(name, ""), may_be_absent=is_absent)


def _of_dataclass(cls: type) -> Iterator[Member]:
    texts, hints = texts_of(cls), _hints_of(cls)
    for one in dataclasses.fields(cls):
        if not one.init:
            continue
        default = EMPTY if one.default is dataclasses.MISSING else one.default
        text = one.metadata.get("description") or texts.get(one.name, "")
        may_be_absent = one.default_factory is not dataclasses.MISSING
        yield Member(one.name, hints[one.name], default, str(text), may_be_absent)


def _of_named_tuple(cls: type) -> Iterator[Member]:
    texts, hints = texts_of(cls), _hints_of(cls)
    defaults = getattr(cls, "_field_defaults", {})
    for name in cls._fields:  # type: ignore[attr-defined]
        yield Member(name, hints.get(name, Any), defaults.get(name, EMPTY), texts.get(name, ""))


# --- pydantic


def _is_model(cls: type) -> bool:
    pydantic = sys.modules.get("pydantic")
    model = getattr(pydantic, "BaseModel", None)
    return isinstance(model, type) and issubclass(cls, model) and hasattr(cls, "model_fields")


def _of_model(cls: type) -> Iterator[Member]:
    texts = texts_of(cls)
    for name, info in getattr(cls, "model_fields", {}).items():
        hint = info.annotation
        if info.metadata:
            hint = operator.getitem(typing.Annotated, (hint, *info.metadata))
        is_required = info.is_required()
        has_value = not is_required and info.default_factory is None
        alias = info.validation_alias or info.alias
        yield Member(
            name,
            hint,
            info.default if has_value else EMPTY,
            info.description or texts.get(name, ""),
            may_be_absent=not is_required,
            key=alias if isinstance(alias, str) else "",
            is_only_described=True,
        )
