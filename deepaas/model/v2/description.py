"""Arguments and results as plain data, for the API description."""

from __future__ import annotations

import inspect
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import fields

from deepaas.model.v2.arguments import Arguments
from deepaas.model.v2.json_encoder import to_plain
from deepaas.model.v2.results import ResultSchema
from deepaas.model.v2.validation import holds_secrets


def describe_function(arguments: Arguments, result: ResultSchema | None) -> dict[str, Any]:
    """Return the data that a client needs to call the function.

    The keys are: `arguments`, each with its name, location (query, form, json or headers), its
    Swagger 2.0 property, and whether it is required, a file, or multiple; `definitions`, the nested
    schemas that the properties refer to; `media_types`, the choices of `accept`; `headers`, the
    names of the headers that hold arguments; `secrets`, the arguments that must not be logged;
    `result`, the name of the definition of the response, or None; and `result_is_list`, whether the
    response is a list of these.
    """
    plugin = MarshmallowPlugin(schema_name_resolver=_name_of)
    spec = APISpec("model", "1", "2.0", plugins=[plugin])
    converter: Any = plugin.converter
    converter.add_attribute_function(_number_format)
    listed = []
    for argument in arguments.visible:
        prop = converter.field2property(argument.field)
        prop.pop("readOnly", None)
        if argument.name == "accept" and arguments.media_types:
            prop["default"] = arguments.media_types[0]
            prop["enum"] = [*arguments.media_types, "*/*"]
        listed.append(
            {
                "name": argument.name,
                "location": argument.locations[0] if len(argument.locations) == 1 else "query",
                "required": bool(argument.field.required),
                "file": argument.is_file,
                "multiple": argument.multiple,
                "property": _plain(prop),
            }
        )
    if result is not None:
        spec.components.schema(result.name, schema=result.schema)
    return {
        "arguments": listed,
        "definitions": _plain(spec.to_dict().get("definitions", {})),
        "media_types": arguments.media_types,
        "headers": [*arguments.headers, *(["accept"] if arguments.media_types else [])],
        "secrets": [a.name for a in arguments.visible if holds_secrets(a.field)],
        "result": result.name if result else None,
        "result_is_list": bool(result and result.schema.many),
    }


def _name_of(schema: Any) -> str:
    cls = schema if inspect.isclass(schema) else type(schema)
    name: str = cls.__name__
    return name.removesuffix("Schema") or name


def _number_format(_converter: Any, field: fields.Field, **_: Any) -> dict[str, Any]:
    """Return `int32` or `float`: existing clients are generated from these formats."""
    if isinstance(field, fields.Integer):
        return {"format": "int32"}
    if isinstance(field, fields.Float):
        return {"format": "float"}
    return {}


def _plain(value: Any) -> Any:
    """Return the value in JSON types, without `additionalProperties` that add no information.

    Values that JSON cannot represent become text.
    """
    if isinstance(value, dict):
        return {
            str(key): _plain(item)
            for key, item in value.items()
            if not (key == "additionalProperties" and item in ({}, False))
        }
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return to_plain(value)
