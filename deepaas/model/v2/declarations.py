"""The declarations of a model: its arguments, the schema of its response, its metadata.

A mistake with which the model cannot be served raises ModelMistakeError. Its text is for the log:
the file and line, what is wrong, and what to write instead.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from marshmallow import Schema, fields

from deepaas.exceptions import ModelMistakeError
from deepaas.model.v2.places import (
    code_of,
    place_of_attribute,
    place_of_entry,
    place_of_function,
)
from deepaas.model.v2.wrapper import ModelWrapper, NoDictionaryError

FIELDS: dict[object, str] = {
    str: "fields.Str()",
    int: "fields.Int()",
    float: "fields.Float()",
    bool: "fields.Bool()",
    dict: "fields.Dict()",
    list: "fields.List(fields.Str())",
}
"""The source text of the field for values of each type."""


def declared_fields(model: ModelWrapper, function: str, notes: list[str] | None = None) -> Any:
    """Return the declared arguments of `function` (predict, train): a dictionary of fields, or a
    Schema. Without a declaration, these are the fields that the type hints of the function give.

    An empty value that is not a dictionary, such as None, means no arguments; a line about it is
    added to `notes`. Raises ModelMistakeError for any other value, and every exception that the
    model's code raises.
    """
    name = f"get_{function}_args"
    get = model.function(name)
    if get is None:
        from deepaas.model.v2.hints import derived_fields

        return derived_fields(model, function, notes)
    if inspect.iscoroutinefunction(get):
        text = f'{name} is "async def", but it is not awaited; write def {name}'
        raise ModelMistakeError((place_of_function(get), text))
    _check_parameters(get, name)
    declared = model.fields(function)
    if _is_schema(declared):
        return declared
    if not isinstance(declared, Mapping):
        text = f"{name} returns {a(declared)}, and not a dictionary; write return "
        error = ModelMistakeError((place_of_function(get), text + '{"name": fields.Str()}'))
        if declared:
            raise error
        if notes is not None:
            notes += error.lines
        return {}
    _check_entries(
        declared, "the argument", lambda key: place_of_entry(get, key), has_defaults=True
    )
    return declared


def declared_schema(model: ModelWrapper, notes: list[str] | None = None) -> Any:
    """Return the declared schema of the response: a dictionary of fields, a Schema, or None.

    Raises ModelMistakeError for any other value. If only some entries of a dictionary are not
    fields, marshmallow ignores these entries, and a line about each is added to `notes`.
    """
    schema = model.schema
    if schema is None or _is_schema(schema):
        return schema
    if not isinstance(schema, Mapping):
        text = (
            f"schema is {a(schema)}, and neither a dictionary of fields nor a marshmallow Schema; "
            'write schema = {"name": fields.Str()}'
        )
        raise ModelMistakeError((place_of_attribute(model.model, "schema"), text))

    def where(key: str) -> str:
        return place_of_attribute(model.model, "schema", key)

    try:
        _check_entries(schema, "in schema, the field", where, has_defaults=False)
    except ModelMistakeError as error:
        has_fields = any(map(is_field, schema.values()))
        if not has_fields or any(map(_is_field_class, schema.values())):
            raise
        if notes is not None:
            notes += error.lines
    return schema


def check_warm(model: ModelWrapper) -> None:
    """Raise ModelMistakeError if the model's `warm` cannot be called without arguments."""
    warm = model.function("warm")
    if warm is not None:
        _check_parameters(warm, "warm")


def metadata_of(model: ModelWrapper) -> dict[str, Any]:
    """Return the metadata of the model.

    Raises ModelMistakeError if it is not a dictionary, and every exception that get_metadata
    raises.
    """
    get = model.function("get_metadata")
    if get is None:
        return model.stock_metadata()
    _check_parameters(get, "get_metadata")
    try:
        return model.metadata()
    except NoDictionaryError as error:
        text = f'{error}; write return {{"name": "my model"}}'
        raise ModelMistakeError((place_of_function(get), text)) from None


def _check_parameters(function: Callable[..., Any], name: str) -> None:
    """Raise ModelMistakeError if the function cannot be called without arguments."""
    if lacks_self(function):
        text = f"{name} lacks the parameter self; write def {name}(self)"
        raise ModelMistakeError((place_of_function(function), text))
    needed = [p.name for p in parameters_of(function) or () if is_needed(p)]
    if needed:
        remedy = "remove it" if len(needed) == 1 else "remove them"
        text = f"{name} is called without arguments, but needs {listed(needed)}; {remedy}"
        raise ModelMistakeError((place_of_function(function), text))


def _check_entries(
    declared: Mapping[Any, Any], what: str, where: Callable[[str], str], *, has_defaults: bool
) -> None:
    """Raise ModelMistakeError unless every value of the dictionary is a field."""
    wrong = {str(key): value for key, value in declared.items() if not is_field(value)}
    mistakes = [
        (where(key), f"{what} {key!r} {_not_a_field(value, has_defaults)}")
        for key, value in wrong.items()
    ]
    if mistakes:
        raise ModelMistakeError(*mistakes)


def _not_a_field(value: Any, has_defaults: bool) -> str:
    """Return the text that says what is wrong with the entry, and what to write."""
    if _is_field_class(value):
        name = value.__name__
        name = f"fields.{name}" if getattr(fields, name, None) is value else name
        return f"is the class {name}; write {name}()"
    if isinstance(value, type):
        remedy = FIELDS.get(value, "a field, such as fields.Str()")
        return f"is the type {value.__name__}, and not a field; write {remedy}"
    remedy = FIELDS.get(type(value), "")
    if isinstance(value, str | int | float):
        if has_defaults:
            remedy = remedy.replace("()", f"(load_default={value!r})")
        return f"is {value!r}, and not a field; write {remedy}"
    return f"is {a(value)}, and not a field; write {remedy or 'a field, such as fields.Str()'}"


def is_field(value: Any) -> bool:
    return isinstance(value, fields.Field)


def _is_field_class(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, fields.Field)


def _is_schema(value: Any) -> bool:
    return isinstance(value, Schema) or (isinstance(value, type) and issubclass(value, Schema))


# --- parameters, and texts for messages


def parameters_of(function: Callable[..., Any] | None) -> list[inspect.Parameter] | None:
    """Return the parameters of the callable, which may be a decorator's wrapper; None if
    unknown."""
    try:
        signature = inspect.signature(function, follow_wrapped=False)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return list(signature.parameters.values())


def has_return_hint(function: Callable[..., Any] | None) -> bool:
    """Return whether the function has a return annotation that says something."""
    try:
        found = inspect.signature(function).return_annotation  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    says_nothing = found is inspect.Signature.empty or found is Any
    return not says_nothing and not (isinstance(found, str) and found == "Any")


def is_needed(parameter: inspect.Parameter) -> bool:
    variable = (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    return parameter.default is parameter.empty and parameter.kind not in variable


def lacks_self(function: Any) -> bool:
    """Return whether a method was defined without any parameter."""
    if not inspect.ismethod(function):
        return False
    code = code_of(function)
    takes_any = inspect.CO_VARARGS & getattr(code, "co_flags", inspect.CO_VARARGS)
    return not takes_any and code.co_argcount == 0


def listed(names: Iterable[str], quote: str = "'") -> str:
    quoted = [f"{quote}{name}{quote}" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def a(value: Any) -> str:
    """Return a short description of the value for a message, such as "a list" or "None"."""
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeio' else 'a'} {name}"
