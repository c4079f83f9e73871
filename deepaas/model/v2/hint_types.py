"""The field for a type hint. docs/models.md has the table of types and fields."""

from __future__ import annotations

import collections.abc
import copy
import datetime
import decimal
import enum
import inspect
import math
import pathlib
import sys
import types
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from marshmallow import ValidationError, fields, missing, validate

from deepaas.model.v2.hint_constraints import (
    Extras,
    HintError,
    Made,
    Values,
    check_constraints,
    extras_of,
)
from deepaas.model.v2.hint_fields import (
    FileContents,
    FileField,
    FilePath,
    FrozenSetOf,
    SetOf,
    TupleOf,
)
from deepaas.model.v2.hint_objects import members_of, nested_class_of, schema_of
from deepaas.model.v2.wrapper import UploadedFile

EMPTY = inspect.Parameter.empty

_NUMBER = (int, float, decimal.Decimal)


def _ordered(name: str, *kinds: type) -> Values:
    return Values(name, kinds, ordered=True)


_SIMPLE: dict[Any, tuple[type[fields.Field], Values]] = {
    str: (fields.String, Values("a text", (str,), sized=True)),
    int: (fields.Integer, _ordered("a number", *_NUMBER)),
    float: (fields.Float, _ordered("a number", *_NUMBER)),
    bool: (fields.Boolean, Values("a bool", (bool,))),
    decimal.Decimal: (fields.Decimal, _ordered("a number", *_NUMBER)),
    datetime.datetime: (fields.DateTime, _ordered("a datetime", datetime.datetime)),
    datetime.date: (fields.Date, _ordered("a date", datetime.date)),
    datetime.time: (fields.Time, _ordered("a time", datetime.time)),
    datetime.timedelta: (fields.TimeDelta, _ordered("a timedelta", datetime.timedelta)),
    uuid.UUID: (fields.UUID, Values("a UUID", (uuid.UUID,))),
    UploadedFile: (FileField, Values("a file")),
    pathlib.Path: (FilePath, Values("a file")),
    bytes: (FileContents, Values("a file", sized=True)),
}

_LISTS = {
    list: fields.List,
    collections.abc.Sequence: fields.List,
    collections.abc.MutableSequence: fields.List,
    collections.abc.Collection: fields.List,
    collections.abc.Iterable: fields.List,
    set: SetOf,
    collections.abc.Set: SetOf,
    frozenset: FrozenSetOf,
}
_DICTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_FILE = {"type": "file", "location": "form"}
_QUALIFIERS = ("Required", "NotRequired", "ReadOnly", "Final", "ClassVar")


class FieldMaker:
    """Makes fields from resolved type hints, with one nested schema for each class."""

    def __init__(self) -> None:
        self._nested: dict[type, Any] = {}

    def field_of(
        self,
        hint: Any,
        default: Any = EMPTY,
        description: str = "",
        *,
        is_inner: bool = False,
        may_be_absent: bool = False,
    ) -> fields.Field:
        """Return the field for the hint. Raises HintError.

        The field is required, unless there is a default, or `may_be_absent` is true. With
        `is_inner`, it is the field of the items of another field.
        """
        hint, extras, nullable = self._peeled(hint)
        description = extras.description or description
        if extras.given is not None:
            return _completed(extras.given, default, description)
        made = self._made(hint)
        check_constraints(made.values, extras.validators, made.choices)
        options: dict[str, Any] = {"metadata": made.metadata, **made.kwargs}
        if description:
            options["metadata"] = {**made.metadata, "description": description}
        if validators := [*made.validators, *extras.validators]:
            options["validate"] = validators if len(validators) > 1 else validators[0]
        if nullable or made.nullable or default is None:
            options["allow_none"] = True
        if default is not EMPTY:
            options["load_default"] = (lambda: default) if callable(default) else default
        elif not is_inner and not may_be_absent:
            options["required"] = True
        new = made.cls(*made.args, **options)
        if default is not EMPTY and default is not None:
            _check_default(new, default)
        return new

    def _peeled(self, hint: Any) -> tuple[Any, Extras, bool]:
        """Return the type, what `Annotated` adds to it, and whether it may be None."""
        metadata: list[Any] = []
        nullable = False
        while True:
            origin = get_origin(hint)
            if origin is Annotated:
                metadata = [*hint.__metadata__, *metadata]
                hint = hint.__origin__
            elif origin in (Union, types.UnionType) and type(None) in get_args(hint):
                nullable = True
                hint = _union([one for one in get_args(hint) if one is not type(None)])
            elif origin is Literal and None in get_args(hint) and len(get_args(hint)) > 1:
                nullable = True
                hint = Literal[tuple(one for one in get_args(hint) if one is not None)]
            elif getattr(origin, "_name", "") in _QUALIFIERS:
                hint = get_args(hint)[0]
            elif hasattr(hint, "__supertype__"):  # NewType
                hint = hint.__supertype__
            elif type(hint).__name__ == "TypeAliasType":
                hint = hint.__value__
            else:
                return hint, extras_of(metadata), nullable

    def _made(self, hint: Any) -> Made:
        """Return how to make the field of a type without Annotated and None. Raises HintError."""
        origin = get_origin(hint)
        plain = hint if origin is None else origin
        if isinstance(plain, collections.abc.Hashable) and plain in _SIMPLE and origin is None:
            cls, values = _SIMPLE[plain]
            is_file = issubclass(cls, FileField)
            return Made(cls, values, metadata=dict(_FILE) if is_file else {})
        if hint is Any or hint is object:
            return Made(fields.Raw, Values("any value", sized=True, ordered=True), nullable=True)
        if origin is Literal:
            return self._literal(list(get_args(hint)))
        if isinstance(hint, type) and origin is None and issubclass(hint, enum.Enum):
            return _enumeration(hint)
        if origin in (Union, types.UnionType):
            if set(get_args(hint)) == {int, float}:
                return self._made(float)
            raise HintError(
                f"has several types, {shown(hint)}", "write one of them, or None besides"
            )
        collection = self._collection(plain, get_args(hint))
        if collection is not None:
            return collection
        if _is_array(plain):
            from deepaas.model.v2.hint_arrays import array_of

            return array_of(hint)
        if isinstance(hint, type) and (members := members_of(hint)) is not None:
            return self._object(hint, members)
        raise HintError(
            f"has the type {shown(hint)}, which no value of a request can have",
            "write another type, such as str",
        )

    # --- choices

    def _literal(self, choices: list[Any]) -> Made:
        kinds = {type(choice) for choice in choices}
        if len(kinds) > 1:
            raise HintError("lists choices of different types", "write choices of one type")
        made = self._made(kinds.pop())
        made.validators = [validate.OneOf(choices)]
        made.choices = choices
        return made

    # --- collections

    def _collection(self, plain: Any, args: tuple[Any, ...]) -> Made | None:
        if plain is tuple and args and Ellipsis not in args:
            inner = [self._item(one) for one in args]
            return Made(fields.Tuple, Values("a tuple", (tuple,), sized=True), (inner,))
        if plain is tuple or plain in _LISTS:
            cls = TupleOf if plain is tuple else _LISTS[plain]
            item = self.field_of(args[0] if args else Any, is_inner=True)
            metadata: dict[str, Any] = {}
            if isinstance(item, FileField):
                if cls is not fields.List and cls is not TupleOf:
                    raise HintError("has a set of files", "write list[UploadedFile]")
                metadata = dict(_FILE)
            elif item.metadata.get("type") == "file":
                raise HintError("has files in a list in a list", "write list[UploadedFile]")
            name = "a list" if cls is fields.List else f"a {plain.__name__.lower()}"
            return Made(cls, Values(name, sized=True), (item,), metadata=metadata)
        if plain in _DICTS:
            values = Values("a dict", (dict,), sized=True)
            if not args:
                return Made(fields.Dict, values)
            keys, items = map(self._item, args)
            return Made(fields.Dict, values, kwargs={"keys": keys, "values": items})
        return None

    def _item(self, hint: Any) -> fields.Field:
        """Return the field of a part of a value, which cannot be a file."""
        item = self.field_of(hint, is_inner=True)
        _refuse_file(item)
        return item

    # --- objects

    def _object(self, cls: type, members: Any) -> Made:
        values = Values(f"a {cls.__name__}", (cls,))
        make, kwargs = nested_class_of(cls)
        if cls in self._nested:  # it may still be in the making: the class contains itself
            return Made(make, values, (lambda: self._nested[cls],), kwargs)
        self._nested[cls] = None
        try:
            made: dict[str, fields.Field] = {}
            for member in members():
                made[member.name] = self._member(cls, member)
            self._nested[cls] = schema_of(cls, made)
        except BaseException:
            del self._nested[cls]
            raise
        return Made(make, values, (self._nested[cls],), kwargs)

    def _member(self, cls: type, member: Any) -> fields.Field:
        try:
            one = self.field_of(
                member.hint,
                member.default,
                member.description,
                may_be_absent=member.may_be_absent,
            )
            _refuse_file(one)
        except HintError as error:
            if not member.is_only_described:
                what = f"has {member.name!r} in {cls.__name__}, whose type hint {error.what}"
                raise HintError(what, error.remedy) from None
            one = fields.Raw(allow_none=True, required=member.default is EMPTY)
        if member.key:
            one.data_key = member.key
        return one


def _refuse_file(one: fields.Field) -> None:
    if isinstance(one, FileField) or one.metadata.get("type") == "file":
        raise HintError(
            "has a file inside of another value", "write an argument for the file of its own"
        )


def _union(kinds: list[Any]) -> Any:
    return kinds[0] if len(kinds) == 1 else Union[tuple(kinds)]  # noqa: UP007


def _enumeration(cls: type[enum.Enum]) -> Made:
    if issubclass(cls, enum.Flag) or not list(cls):
        raise HintError(
            f"has the type {cls.__name__}, from which a request cannot choose", "write an Enum"
        )
    by_value = {str: fields.String, int: fields.Integer, float: fields.Float}
    kinds = {type(one.value) for one in cls}
    of_values = by_value.get(next(iter(kinds))) if len(kinds) == 1 else None
    values = Values(f"a {cls.__name__}", (cls,))
    kwargs = {"by_value": of_values} if of_values else {}
    return Made(fields.Enum, values, (cls,), kwargs, choices=list(cls))


def _is_array(plain: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and plain is getattr(numpy, "ndarray", None)


def _completed(given: fields.Field, default: Any, description: str) -> fields.Field:
    """Return the author's field, with the default of the parameter if it says nothing else."""
    new = copy.copy(given)
    if not new.required and new.load_default is missing:
        if default is EMPTY:
            new.required = True
        else:
            new.load_default = (lambda: default) if callable(default) else default
            new.allow_none = new.allow_none or default is None
    if description and "description" not in new.metadata:
        new.metadata = {**new.metadata, "description": description}
    return new


def _check_default(new: fields.Field, default: Any) -> None:
    """Raise HintError unless the field takes the default and gives it back."""
    if isinstance(default, float) and not math.isfinite(default):
        return  # a request cannot have it, but a default can
    problem = ""
    try:
        if not isinstance(new, FileField):
            loaded = new.deserialize(new._serialize(default, "", None))
            if _is_same(loaded, default):
                return
    except ValidationError as error:
        problem = f" ({' '.join(_texts(error.messages)).rstrip('.')})"
    except Exception:  # the value is of another type than the field can serialize
        problem = ""
    remedy = "write None" if isinstance(new, FileField) else "write a default that it allows"
    raise HintError(f"does not allow its own default {default!r:.100}{problem}", remedy)


def _texts(messages: Any) -> list[str]:
    if isinstance(messages, Mapping):
        return [text for one in messages.values() for text in _texts(one)]
    if isinstance(messages, list):
        return [text for one in messages for text in _texts(one)]
    return [str(messages)]


def _is_same(loaded: Any, default: Any) -> bool:
    if isinstance(default, tuple) and isinstance(loaded, list):
        default = list(default)  # a Sequence has this as its immutable default
    if hasattr(default, "__array__") or hasattr(loaded, "__array__"):
        import numpy

        return bool(numpy.array_equal(loaded, default))
    return bool(loaded == default) and isinstance(loaded, bool) == isinstance(default, bool)


def shown(hint: Any) -> str:
    """Return the hint as its author wrote it, without the names of modules."""
    if isinstance(hint, str):
        return hint
    if isinstance(hint, type) and get_origin(hint) is None:
        return hint.__qualname__
    return str(hint).replace("typing.", "")
