"""What a client knows about the functions of a model: their arguments and media types.

It is read from `/openapi.json`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

Json = dict[str, Any]

JSON = "application/json"
NDJSON = "application/x-ndjson"
EVENTS = "text/event-stream"
_PREFIX = "/v2/models/"


@dataclass(frozen=True)
class Argument:
    """An argument of a function.

    `schema` is its JSON Schema, and `parts` has the schemas to which it refers, by reference.
    `place` is "body", "query" or "header". An argument in the body can be sent as JSON (`in_json`),
    in a form (`in_form`), or both.
    """

    name: str
    schema: Json
    required: bool = False
    place: str = "body"
    in_json: bool = True
    in_form: bool = True
    description: str = ""
    parts: Mapping[str, Json] = field(default_factory=dict, repr=False, compare=False)

    @property
    def is_list(self) -> bool:
        return "array" in self.types

    @property
    def is_file(self) -> bool:
        """Whether it takes a file, or a list of files."""
        return self._is_binary(self.schema) or self._is_binary(self.item_schema)

    @property
    def types(self) -> set[str]:
        """The types of JSON that a value may have; empty if it may have any."""
        return set(self.types_of(self.schema))

    @property
    def item_schema(self) -> Json:
        """The schema of the items of a list, or {}."""
        for one in self._variants(self.schema):
            if one.get("type") == "array" or "array" in _listed(one.get("type")):
                items = one.get("items")
                return items if isinstance(items, dict) else {}
        return {}

    @property
    def choices(self) -> list[Any]:
        schema = self.item_schema if self.is_list else self.schema
        found = [value for one in self._variants(schema) for value in _listed(one.get("enum"))]
        return [value for value in found if value is not None]

    def types_of(self, schema: Json) -> list[str]:
        return [name for one in self._variants(schema) for name in _listed(one.get("type"))]

    def _is_binary(self, schema: Json) -> bool:
        return any(one.get("format") == "binary" for one in self._variants(schema))

    def _variants(self, schema: Any, depth: int = 0) -> Iterator[Json]:
        """Yield a schema, or the schema to which it refers, and each of its alternatives."""
        if not isinstance(schema, dict) or depth > 8:
            return
        reference = schema.get("$ref")
        if isinstance(reference, str):
            yield from self._variants(self.parts.get(reference), depth + 1)
        else:
            yield schema
        for key in ("anyOf", "oneOf", "allOf"):
            for one in _listed(schema.get(key)):
                yield from self._variants(one, depth + 1)


@dataclass(frozen=True)
class Function:
    """A function of a model: `predict` or `train`.

    `media_types` are those that a client may ask for, the usual one first; `streams` tells whether
    the result comes item by item.
    """

    arguments: list[Argument]
    media_types: list[str] = field(default_factory=lambda: [JSON])
    streams: bool = False


@dataclass(frozen=True)
class Interface:
    """A model with the functions that it has: `predict`, `train`, both or none."""

    name: str
    functions: Mapping[str, Function]


def path_of(model: str, *parts: str) -> str:
    """Return the path of a model, or below it, from the base of the server on."""
    return _PREFIX + "/".join(quote(part, safe="") for part in (model, *parts))


def names_in(document: Json) -> list[str]:
    """Return the names of the models that a description in OpenAPI has, sorted."""
    names = set()
    for path in _object(document.get("paths")):
        _, found, rest = path.partition(_PREFIX)
        name = rest.partition("/")[0]
        if found and name and "{" not in name:
            names.add(unquote(name))
    return sorted(names)


def interface_in(document: Json, model: str) -> Interface:
    """Return the interface of a model from a description in OpenAPI."""
    parts = {
        f"#/components/schemas/{name}": schema
        for name, schema in _object(_object(document.get("components")).get("schemas")).items()
    }
    functions = {}
    for path, operations in _object(document.get("paths")).items():
        for name in ("predict", "train"):
            operation = _object(_object(operations).get("post"))
            if operation and unquote(path).rstrip("/").endswith(f"{_PREFIX}{model}/{name}"):
                functions[name] = _function(operation, parts)
    return Interface(model, functions)


def _function(operation: Json, parts: Mapping[str, Json]) -> Function:
    arguments = [*_in_body(operation, parts), *_parameters(operation, parts)]
    responses = _object(operation.get("responses"))
    media_types = list(_object(_object(responses.get("200")).get("content"))) or [JSON]
    streams = any(one in (NDJSON, EVENTS) for one in media_types)
    return Function(arguments, media_types, streams)


def _in_body(operation: Json, parts: Mapping[str, Json]) -> Iterator[Argument]:
    content = _object(_object(operation.get("requestBody")).get("content"))
    json_body = _object(_object(content.get(JSON)).get("schema"))
    forms = [_object(one).get("schema") for key, one in content.items() if key != JSON]
    form = _object(forms[0]) if forms else {}
    in_json, in_form = _object(json_body.get("properties")), _object(form.get("properties"))
    for name in [*in_form, *(one for one in in_json if one not in in_form)]:
        schema = _object(in_json.get(name, in_form.get(name)))
        required = name in _listed((json_body if name in in_json else form).get("required"))
        yield Argument(
            name,
            schema,
            required=required or name in _listed(form.get("required")),
            in_json=name in in_json,
            in_form=name in in_form,
            description=str(schema.get("description") or ""),
            parts=parts,
        )


def _parameters(operation: Json, parts: Mapping[str, Json]) -> Iterator[Argument]:
    """Yield the arguments in the query and in headers. Those of the server are references."""
    for one in _listed(operation.get("parameters")):
        if isinstance(one, dict) and one.get("in") in ("query", "header") and "name" in one:
            yield Argument(
                str(one["name"]),
                _object(one.get("schema")),
                required=bool(one.get("required")),
                place=one["in"],
                description=str(one.get("description") or ""),
                parts=parts,
            )


def _object(value: Any) -> Json:
    """Return the value if it is an object. A server may send anything."""
    return value if isinstance(value, dict) else {}


def _listed(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    return [] if value is None else [value]
