"""The neutral description of a model: plain data about its functions, for all kinds of clients.

docs/description.md explains each key. The types of values are JSON Schema (2020-12).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from deepaas.model.v2.arguments import Argument, Arguments
from deepaas.model.v2.json_encoder import to_plain
from deepaas.model.v2.json_schema import (
    Json,
    Schemas,
    choices_of,
    examples_of,
    is_file,
    kind_of,
    notes_of,
)
from deepaas.model.v2.media import ANY, JSON, MAX_CHARACTERS, PATTERN
from deepaas.model.v2.results import ResultSchema
from deepaas.model.v2.validation import holds_secrets
from deepaas.streams import EVENTS, NDJSON

VERSION = 1
"""The version of the form of this description. A new key does not change it."""

BINARY: Json = {"type": "string", "format": "binary"}
ENVELOPE: Json = {
    "type": "object",
    "properties": {"status": {"type": "string", "const": "OK"}, "predictions": {}},
    "required": ["predictions", "status"],
}
"""The schema of the JSON of a model that declares no schema; `predictions` is its result."""


def describe_interface(
    predict: Arguments,
    train: Arguments | None,
    result: ResultSchema | None,
    examples: Mapping[str, list[Json]] | None = None,
    weights: Json | None = None,
    metadata: Mapping[str, Any] | None = None,
    *,
    returned: Callable[[Schemas], Json] | None = None,
    streams: bool = False,
    batches: bool = False,
) -> Json:
    """Return the description of a model with these arguments and this schema of its result.

    `train` is None if the model has no trainings. `examples` has the examples of each function that
    are valid; `weights` are the declared weights; `metadata` are plain data about the model.
    `returned` makes the schema that the return annotation of predict gives. `streams` says whether
    predict is a generator, `batches` whether it takes several calls at once.
    """
    schemas = Schemas()
    functions = {"predict": _predict(schemas, predict, result, returned, streams)}
    if train is not None:
        functions["train"] = {"arguments": _arguments(schemas, train)}
    for name, function in functions.items():
        function["examples"] = (examples or {}).get(name, [])
    return {
        "version": VERSION,
        "functions": functions,
        "streams": streams,
        "batches": batches,
        "weights": weights,
        "metadata": {**(metadata or {})},
        "schemas": to_plain(schemas.nested),
    }


def _predict(
    schemas: Schemas,
    arguments: Arguments,
    result: ResultSchema | None,
    returned: Callable[[Schemas], Json] | None,
    streams: bool,
) -> Json:
    if result is not None:
        value = _safely(lambda: schemas.of_schema(result.schema), {})
    else:
        value = {} if returned is None else _safely(lambda: returned(schemas), {})
        value = value if streams else _enveloped(value)
    return {
        "arguments": _arguments(schemas, arguments),
        "responses": _responses(arguments, value, streams, result is None and not streams),
        "any_media_type": not arguments.media_types
        and any(argument.name == "accept" for argument in arguments.visible),
    }


def _enveloped(value: Json) -> Json:
    properties: Json = {**ENVELOPE["properties"], "predictions": value}
    return {**ENVELOPE, "properties": properties}


def _responses(arguments: Arguments, value: Json, streams: bool, has_envelope: bool) -> list[Json]:
    """Return each media type of the responses, with the schema of the body or of the items."""
    types = arguments.media_types or [JSON]
    if streams:
        types = [NDJSON if one == JSON else one for one in types]
        types = [*types, EVENTS] if EVENTS not in types else types
    return [_response_of(one, value) | {"envelope": has_envelope and one == JSON} for one in types]


def _response_of(media_type: str, value: Json) -> Json:
    if media_type in (NDJSON, EVENTS):
        return {"media_type": media_type, "item_schema": value}
    if media_type == JSON:
        return {"media_type": media_type, "schema": value}
    is_text = media_type.startswith("text/")
    return {"media_type": media_type, "schema": {"type": "string"} if is_text else BINARY}


def _arguments(schemas: Schemas, arguments: Arguments) -> list[Json]:
    names = {id(field): name for name, field in arguments.schema.fields.items()}
    return [
        _argument(schemas, one, names.get(id(one.field), one.name), arguments.media_types)
        for one in arguments.visible
    ]


def _argument(
    schemas: Schemas, argument: Argument, python_name: str, media_types: list[str]
) -> Json:
    field, metadata = argument.field, argument.field.metadata
    notes: list[str] = []
    schema = _safely(lambda: schemas.of_field(field), {}, notes)
    choices = _safely(lambda: choices_of(field), [])
    if argument.name == "accept" and media_types:
        schema |= {"enum": [*media_types, ANY], "default": media_types[0]}
        choices = [{"value": one, "label": one} for one in media_types]
    elif argument.name == "accept" and schema.get("type") == "string":
        schema |= {"pattern": rf"^(\*/\*|{PATTERN})$", "maxLength": MAX_CHARACTERS}
    inner = getattr(field, "inner", None)
    described: Json = {
        "name": argument.name,
        "python_name": field.attribute or python_name,
        "locations": [*argument.locations],
        "kind": kind_of(field),
        "item_kind": ("file" if is_file(field) else kind_of(inner)) if inner is not None else None,
        "schema": schema,
        "required": bool(field.required),
        "nullable": bool(field.allow_none),
        "computed_default": callable(field.load_default),
        "multiple": argument.multiple,
        "choices": choices,
        "secret": _safely(lambda: holds_secrets(field), True),
        "notes": [*notes, *_safely(lambda: notes_of(field), [])],
        "examples": _safely(lambda: examples_of(field), []),
        "title": _text(metadata.get("title") or metadata.get("label")),
        "description": _text(metadata.get("description")),
        "group": _text(metadata.get("group")),
        "file": {"accept": _types(metadata.get("accept"))} if argument.is_file else None,
    }
    return {key: to_plain(value) for key, value in described.items()}


def _safely(make: Callable[[], Any], otherwise: Any, notes: list[str] | None = None) -> Any:
    """Return the result, or `otherwise` if a field of the model's own class raises."""
    try:
        return make()
    except Exception as error:
        if notes is not None:
            notes.append(f"The constraints are not known ({type(error).__name__})")
        return otherwise


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _types(value: Any) -> list[str]:
    """Return the media types or extensions of files that an argument accepts."""
    if isinstance(value, str):
        value = value.split(",")
    return [str(one).strip() for one in value] if isinstance(value, Iterable) else []
