"""JSON Schema for the return annotation of `predict`. It only describes: nothing is checked."""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import decimal
import enum
import inspect
import pathlib
import sys
import types
import typing
import uuid
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from deepaas.model.v2.docstrings import texts_of
from deepaas.model.v2.hint_constraints import HintError
from deepaas.model.v2.hint_objects import required_keys
from deepaas.model.v2.hints import raw_function, resolved
from deepaas.model.v2.json_encoder import to_plain
from deepaas.model.v2.json_schema import PREFIX, Json, Schemas
from deepaas.model.v2.wrapper import ModelWrapper

_SIMPLE: dict[Any, Json] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    None: {"type": "null"},
    type(None): {"type": "null"},
    datetime.datetime: {"type": "string", "format": "date-time"},
    datetime.date: {"type": "string", "format": "date"},
    datetime.time: {"type": "string", "format": "time-local"},
    uuid.UUID: {"type": "string", "format": "uuid"},
    decimal.Decimal: {"type": "string"},
    pathlib.Path: {"type": "string"},
    dict: {"type": "object"},
}

_LISTS = (
    *(list, set, frozenset, collections.abc.Sequence, collections.abc.Collection),
    *(collections.abc.Set, collections.abc.MutableSequence),
)
_DICTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_STREAMS = (
    *(collections.abc.Generator, collections.abc.Iterator, collections.abc.Iterable),
    *(collections.abc.AsyncGenerator, collections.abc.AsyncIterator),
    collections.abc.AsyncIterable,
)
_QUALIFIERS = ("Required", "NotRequired", "ReadOnly")


def schema_of_result(
    model: ModelWrapper, schemas: Schemas, *, streams: bool, batches: bool
) -> Json:
    """Return the schema of a result of predict, or of an item if it streams; {} if not known.

    Classes are added to `schemas`.
    """
    function = model.function("predict_batch" if batches else "predict")
    try:
        annotation = inspect.signature(function).return_annotation  # type: ignore[arg-type]
        if annotation is inspect.Signature.empty:
            return {}
        hint = resolved(raw_function(function), model, annotation)
    except (TypeError, ValueError, HintError):
        return {}
    if batches or streams:
        origins = _LISTS if batches else _STREAMS
        if get_origin(hint) not in origins or not get_args(hint):
            return {}
        hint = get_args(hint)[0]
    return _Results(schemas).of(hint)


class _Results:
    """Makes the schemas of values in the JSON of a response, as `json_encoder` writes them."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas

    def of(self, hint: Any) -> Json:
        origin, args = get_origin(hint), get_args(hint)
        if origin is Annotated:
            return self._annotated(hint)
        if hasattr(hint, "__supertype__"):  # NewType
            return self.of(hint.__supertype__)
        if type(hint).__name__ == "TypeAliasType":
            return self.of(hint.__value__)
        if getattr(origin, "_name", "") in _QUALIFIERS:
            return self.of(args[0])
        if origin in (Union, types.UnionType):
            return _either([self.of(one) for one in args])
        if origin is Literal:
            return {"enum": [to_plain(one) for one in args]}
        if isinstance(hint, collections.abc.Hashable) and hint in _SIMPLE:
            return dict(_SIMPLE[hint])
        plain = hint if origin is None else origin
        if plain is tuple and args and Ellipsis not in args:
            return _with("prefixItems", [self.of(one) for one in args])
        if plain is tuple or plain in _LISTS:
            return {"type": "array", **({"items": self.of(args[0])} if args else {})}
        if plain in _DICTS:
            return {
                "type": "object",
                **({"additionalProperties": self.of(args[1])} if len(args) == 2 else {}),
            }
        if isinstance(plain, type):
            return self._of_numpy(plain, args) or (self._of_class(hint) if hint is plain else {})
        return {}

    def _annotated(self, hint: Any) -> Json:
        made = self.of(hint.__origin__)
        for one in hint.__metadata__:
            text = one if isinstance(one, str) else getattr(one, "documentation", None)
            if isinstance(text, str) and "$ref" not in made:
                made["description"] = text
        return made

    def _of_numpy(self, plain: type, args: tuple[Any, ...]) -> Json:
        numpy = sys.modules.get("numpy")
        if numpy is None or plain.__module__.partition(".")[0] != "numpy":
            return {}
        if plain is numpy.ndarray:
            return {"type": "array"}
        kinds = ((numpy.bool_, "boolean"), (numpy.integer, "integer"), (numpy.floating, "number"))
        return next(({"type": name} for kind, name in kinds if issubclass(plain, kind)), {})

    # --- classes

    def _of_class(self, cls: type) -> Json:
        if issubclass(cls, enum.Enum):
            return {"enum": [to_plain(one.value) for one in cls]}
        if callable(getattr(cls, "model_json_schema", None)):
            return self._of_pydantic(cls)
        if issubclass(cls, tuple) and hasattr(cls, "_fields"):
            hints = _hints_of(cls)
            return _with("prefixItems", [self.of(hints.get(name, Any)) for name in cls._fields])
        if hasattr(cls, "__required_keys__"):
            hints = _hints_of(cls)
            return self._object(cls, lambda: (hints, required_keys(cls, hints)))
        if dataclasses.is_dataclass(cls):
            names = [one.name for one in dataclasses.fields(cls) if not one.name.startswith("_")]

            def members() -> tuple[dict[str, Any], set[str]]:
                hints = _hints_of(cls)
                return {name: hints.get(name, Any) for name in names}, set(names)

            return self._object(cls, members)
        return {}

    def _object(self, cls: type, members: Callable[[], tuple[dict[str, Any], set[str]]]) -> Json:
        def make() -> Json:
            hints, required = members()
            texts = texts_of(cls)
            properties = {name: self.of(hint) for name, hint in hints.items()}
            for name, text in texts.items():
                if name in properties and "$ref" not in properties[name]:
                    properties[name].setdefault("description", text)
            made: Json = {"type": "object", "properties": properties}
            return made | ({"required": sorted(required)} if required else {})

        return {"$ref": PREFIX + self._schemas.name_of(("result", cls), cls.__name__, make)}

    def _of_pydantic(self, cls: Any) -> Json:
        try:
            made = cls.model_json_schema(mode="serialization", by_alias=False)
        except Exception:  # a type of the model has no JSON Schema
            return {}
        nested = made.pop("$defs", {})
        names = {
            f"{PREFIX}{name}": PREFIX + self._schemas.name_of(("result", cls, name), name, dict)
            for name in nested
        }
        for name, one in nested.items():
            target = names[f"{PREFIX}{name}"].removeprefix(PREFIX)
            self._schemas.nested[target] = _renamed(one, names)
        if set(made) == {"$ref"}:
            return {"$ref": names[made["$ref"]]}
        key = ("result", cls)
        return {
            "$ref": PREFIX + self._schemas.name_of(key, cls.__name__, lambda: _renamed(made, names))
        }


def _hints_of(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except Exception:  # a name in them is not known
        return dict.fromkeys(getattr(cls, "__annotations__", {}), Any)


def _either(schemas: list[Json]) -> Json:
    return {} if {} in schemas else {"anyOf": schemas}


def _with(keyword: str, items: list[Json]) -> Json:
    return {"type": "array", keyword: items, "minItems": len(items), "maxItems": len(items)}


def _renamed(value: Any, names: dict[str, str]) -> Any:
    """Return a schema with new names of the nested schemas. `discriminator` has references in
    `mapping`, too."""
    if isinstance(value, list):
        return [_renamed(one, names) for one in value]
    if not isinstance(value, dict):
        return value
    made = {key: _renamed(item, names) for key, item in value.items()}
    mapping = made["mapping"] if isinstance(made.get("mapping"), dict) else {}
    for references, key in [(made, "$ref"), *((mapping, key) for key in mapping)]:
        if isinstance(references.get(key), str):
            references[key] = names.get(references[key], references[key])
    return made
