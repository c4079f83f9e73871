"""The parts of an operation in OpenAPI 3.1: its parameters, bodies and responses.

Those of the server's own routes are made from their form in Swagger 2.0, those of a model's
functions from the model's neutral description.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import Any

from deepaas.api.definition_names import OPENAPI, SWAGGER
from deepaas.api.operation_parts import Json
from deepaas.model.v2.media import ANY, JSON
from deepaas.streams import EVENTS, NDJSON

BINARY: Json = {"type": "string", "format": "binary"}
OCTETS = "application/octet-stream"
_TEXT: Json = {"type": "string"}
_NULL: Json = {"type": "null"}
_MULTIPART = "multipart/form-data"
_URLENCODED = "application/x-www-form-urlencoded"
_NESTED = "#/$defs/"
_OF_VALUES = ("examples", "enum")  # the keywords with lists of values, which are no schemas
_OF_A_PARAMETER = {"in", "name", "required", "description", "collectionFormat", "schema"}


# --- from Swagger 2.0


def schema_of(swagger: Any) -> Any:
    """Return a schema of Swagger 2.0, or a part of one, as JSON Schema 2020-12."""
    if isinstance(swagger, list):
        return [schema_of(one) for one in swagger]
    if not isinstance(swagger, dict):
        return swagger
    if swagger.get("type") == "file":
        return dict(BINARY)
    made = {key: schema_of(value) for key, value in swagger.items() if key != "x-nullable"}
    if isinstance(made.get("$ref"), str):
        made["$ref"] = made["$ref"].replace(SWAGGER, OPENAPI)
    if swagger.get("x-nullable") is True and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    return made


def translated(operation: Json) -> Json:
    """Return an operation of Swagger 2.0 in OpenAPI 3.1."""
    given = operation.get("parameters", [])
    made: Json = {
        key: operation[key] for key in ("tags", "summary", "description") if key in operation
    }
    parameters = [_parameter(one) for one in given if one["in"] not in ("body", "formData")]
    if parameters:
        made["parameters"] = parameters
    body = _body_of([one for one in given if one["in"] in ("body", "formData")])
    if body:
        made["requestBody"] = body
    produces = operation.get("produces", [JSON])
    made["responses"] = {
        status: _response(status, one, produces) for status, one in operation["responses"].items()
    }
    return made


def _parameter(swagger: Json) -> Json:
    made: Json = {key: swagger[key] for key in ("in", "name", "description") if key in swagger}
    made["required"] = swagger["in"] == "path" or bool(swagger.get("required"))
    made["schema"] = schema_of({k: v for k, v in swagger.items() if k not in _OF_A_PARAMETER})
    return made


def _body_of(parameters: list[Json]) -> Json:
    """Return the body that the parameters of plug-ins in a body or in a form give."""
    for one in parameters:
        if one["in"] == "body":
            content = {JSON: {"schema": schema_of(one["schema"])}}
            return {"required": bool(one.get("required")), "content": content}
    if not parameters:
        return {}
    properties = {one["name"]: _parameter(one)["schema"] for one in parameters}
    required = [one["name"] for one in parameters if one.get("required")]
    form = {"type": "object", "properties": properties, "required": required}
    return {"required": bool(required), "content": {_MULTIPART: {"schema": form}}}


def _response(status: str, swagger: Json, produces: Iterable[str]) -> Json:
    made: Json = {"description": swagger.get("description", "")}
    if "schema" not in swagger:
        return made
    schema = schema_of(swagger["schema"])
    succeeds = status.startswith("2")
    if status == "default" or (schema == {} and not succeeds):  # the body is JSON or a text
        made["content"] = {JSON: {"schema": schema}, "text/plain": {"schema": _TEXT}}
    elif not succeeds:
        made["content"] = {"text/plain" if schema == _TEXT else JSON: {"schema": schema}}
    elif status == "202":
        made["content"] = {JSON: {"schema": schema}}
    else:
        made["content"] = {one: {"schema": schema} for one in _with_name(produces)}
    return made


def _with_name(media_types: Iterable[str]) -> list[str]:
    """Return the types, with one that has a name if a file may have any type.

    Some generators leave out a response that has no type but */*.
    """
    given = list(media_types)
    return [OCTETS, *given] if given == [ANY] else given


# --- from a neutral description


def with_components(schema: Any) -> Any:
    """Return a schema whose references to nested schemas lead to the document's components.

    A default of null is left out: openapi-generator would write it as a name that Python lacks.
    """
    if isinstance(schema, list):
        return [with_components(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made: Json = {
        key: value if key in _OF_VALUES and isinstance(value, list) else with_components(value)
        for key, value in schema.items()
        if not (key == "default" and value is None)
    }
    # The mapping of a discriminator has references, too.
    mapping: Json = made["mapping"] if isinstance(made.get("mapping"), dict) else {}
    for references, key in [(made, "$ref"), *((mapping, key) for key in mapping)]:
        reference = references.get(key)
        if isinstance(reference, str) and reference.startswith(_NESTED):
            references[key] = OPENAPI + reference.removeprefix(_NESTED)
    return made


def parameters_of(arguments: Iterable[Json], examples: Sequence[Json] = ()) -> list[Json]:
    """Return the parameters for the arguments that a client sends in the query or in a header.

    `examples` are those of the function.
    """
    return [
        {
            "in": "header" if one["locations"] == ["headers"] else "query",
            "name": one["name"],
            "required": one["required"],
            **_description_of(one),
            "schema": as_text(one["schema"], required=one["required"]),
            **_examples_of_parameter(one["name"], examples),
        }
        for one in arguments
        if one["locations"] in (["query"], ["headers"]) and one["name"].lower() != "accept"
    ]


def request_body(arguments: Iterable[Json], examples: Sequence[Json] = ()) -> Json:
    """Return the request body for the arguments that a client sends in it, or {} without any.

    `examples` are those of the function; a body shows those that it can hold.

    Arguments that a client may send anywhere are shown in the body, as JSON and as a form. The
    argument `accept` of a model with several media types is not shown: a client sends the header
    Accept.
    """
    chosen = [one for one in arguments if not _is_choice_of_type(one)]
    in_json = [one for one in chosen if "json" in one["locations"] and one["file"] is None]
    in_form = [one for one in chosen if "form" in one["locations"] and _has_texts(one["schema"])]
    all_of_them = [one for one in chosen if {"json", "form"} & {*one["locations"]}]
    if not all_of_them:
        return {}
    required = {one["name"] for one in all_of_them if one["required"]}
    has_files = any(one["file"] is not None for one in in_form)
    content: Json = {}
    if required <= {one["name"] for one in in_json} and in_json:
        content[JSON] = {"schema": _object(in_json)}
    if in_form and required <= {one["name"] for one in in_form}:
        of_texts = _object(
            [one | {"schema": as_text(one["schema"], required=one["required"])} for one in in_form]
        )
        form = {_MULTIPART: {"schema": of_texts, **_encoding(in_form)}}
        # Some clients can send only the first type, and a file can be sent only in a form.
        content = form | content if has_files else content | form
        if not has_files and all(map(_is_plain, in_form)):
            content[_URLENCODED] = {"schema": of_texts}
    if not content:  # no body can hold all required arguments
        content[JSON] = {"schema": _object(in_json)}
    names = {one["name"] for one in all_of_them}
    files = {one["name"] for one in all_of_them if one["file"] is not None}
    shown = [
        {name: _with_paths(value) if name in files else value for name, value in one.items()}
        for one in examples
    ]
    for one in content.values():
        one |= _examples_of_body(one["schema"]["properties"], names, shown)
    return {"required": bool(required), "content": content}


def _examples_of_parameter(name: str, examples: Sequence[Json]) -> Json:
    return _named([one.get(name) for one in examples])


def _examples_of_body(held: Iterable[str], in_bodies: Set[str], examples: Sequence[Json]) -> Json:
    """Return the examples whose arguments in a body are all among those that this body holds."""
    held = {*held}
    shown: list[Json | None] = []
    for example in examples:
        names = in_bodies & {*example}
        values = {name: example[name] for name in example if name in names}
        shown.append(values if values and names <= held else None)
    return _named(shown)


def _with_paths(value: Any) -> Any:
    """Return the path of a file in an example, or the paths in a list."""
    if isinstance(value, list):
        return [_with_paths(one) for one in value]
    return value["file"] if isinstance(value, dict) and "file" in value else value


def _named(values: Sequence[Any]) -> Json:
    """Return the values that are not None, each once; an example has the same name everywhere."""
    named = {
        f"example_{number}": {"value": value}
        for number, value in enumerate(values, 1)
        if value is not None and value not in values[: number - 1]
    }
    return {"examples": named} if named else {}


def as_text(schema: Json, *, required: bool = False) -> Json:
    """Return the schema of a value in a form, the query or a header, where all values are texts.

    There is no null, no number for a field that does not convert texts, and no empty list: nothing
    would be sent for it, and a required argument would be missing.
    """
    made = dict(schema)
    if required and made.get("type") == "array":
        made["minItems"] = max(1, made.get("minItems", 1))
    if made.get("not") == _NULL:
        del made["not"]
    if "enum" in made and "type" not in made:
        made["enum"] = [one for one in made["enum"] if isinstance(one, str)]
    if made.get("default", ...) is None:
        del made["default"]
    if isinstance(made.get("type"), list):
        types = [one for one in made["type"] if one != "null"]
        made["type"] = types[0] if len(types) == 1 else types
    if "enum" in made:
        made["enum"] = [one for one in made["enum"] if one is not None]
    if _NULL in made.get("anyOf", ()):
        (other,) = [one for one in made.pop("anyOf") if one != _NULL]
        made |= other
    return made


def _has_texts(schema: Json) -> bool:
    """Return whether a text can be a value of the schema."""
    return "type" in schema or any(isinstance(one, str) for one in schema.get("enum", [""]))


def _is_choice_of_type(argument: Json) -> bool:
    return bool(argument["name"] == "accept" and argument["choices"])


def _is_plain(argument: Json) -> bool:
    return argument["kind"] not in ("nested", "mapping", "tuple", "any")


def _object(arguments: list[Json]) -> Json:
    made: Json = {
        "type": "object",
        "properties": {one["name"]: one["schema"] | _description_of(one) for one in arguments},
    }
    required = [one["name"] for one in arguments if one["required"]]
    return made | ({"required": required} if required else {})


def _encoding(arguments: list[Json]) -> Json:
    """Return the media types of the files, for the arguments whose authors name these."""
    types = {one["name"]: one["file"]["accept"] for one in arguments if one["file"] is not None}
    encoding = {
        name: {"contentType": ", ".join(accepted)}
        for name, accepted in types.items()
        if accepted and all("/" in one for one in accepted)
    }
    return {"encoding": encoding} if encoding else {}


def _description_of(argument: Json) -> Json:
    """Return the author's text, the constraints that the schema lacks, and the choices' labels."""
    texts = [argument["description"], *argument["notes"]]
    labels = [
        f"{one['value']}: {one['label']}"
        for one in argument["choices"]
        if str(one["value"]) != one["label"]
    ]
    text = "\n\n".join(text for text in [*texts, "; ".join(labels)] if text)
    return {"description": text} if text else {}


def content_of(function: Json, envelope: Json) -> Json:
    """Return the content of the responses of predict: a schema for each media type.

    `envelope` is the schema of the JSON of a model that says nothing about its result.
    """
    content: Json = {}
    for one in function["responses"]:
        is_known = one["envelope"] and one["schema"]["properties"]["predictions"]
        schema = envelope if one["envelope"] and not is_known else _schema_of_response(one)
        content[one["media_type"]] = {"schema": schema}
    if function["any_media_type"]:
        content[ANY] = {"schema": {}}
    return content


def _schema_of_response(one: Json) -> Json:
    if one["media_type"] not in (NDJSON, EVENTS):
        schema: Json = one["schema"]
        return schema
    what = "event" if one["media_type"] == EVENTS else "line"
    return {
        "type": "string",
        "description": f"The items; each {what} has one as JSON, with the schema x-item-schema",
        "x-item-schema": one["item_schema"],
    }
