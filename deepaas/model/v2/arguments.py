"""The arguments of a model's function: collect them from a request, validate and describe them.

The fields of the model are loaded by a marshmallow schema, which validates them.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import orjson
from marshmallow import EXCLUDE, Schema, ValidationError, fields, missing, validate

from deepaas.charsets import is_charset
from deepaas.exact_json import has_large_float
from deepaas.model.v2.exchange import Call
from deepaas.model.v2.fast_lists import with_fast_path
from deepaas.model.v2.headers import ImpossibleHeaderError
from deepaas.model.v2.media import ANY, JSON, best_match, is_media_type
from deepaas.model.v2.parts import (
    PartReader,
    UnusableValueError,
    takes_files,
    takes_objects,
    value_for,
    with_files_only,
)
from deepaas.model.v2.simple_fields import load_simply, simple_fields
from deepaas.model.v2.unhandled import is_of_marshmallow, messages_about
from deepaas.model.v2.unknown import Place, is_worth_reading, unknown_in

FieldLike = fields.Field
Values = Mapping[str, Any]

ANYWHERE = ("query", "form", "json")
_PINNED: dict[object, tuple[str, ...]] = {
    "query": ("query",),
    "querystring": ("query",),
    "form": ("form",),
    "files": ("form",),
    "json": ("json",),
    "headers": ("headers",),
}

LOCATIONS = tuple(str(name) for name in _PINNED)
"""The allowed values of a field's `location`."""


class InvalidArgumentsError(Exception):
    """The arguments of a request are not valid.

    `messages` maps the name of each argument to its messages. `status` is 422, or 400 if the body
    cannot be parsed.
    """

    def __init__(self, messages: Any, status: int = 422) -> None:
        super().__init__(str(messages))
        self.messages = messages
        self.status = status


@dataclass(frozen=True)
class Argument:
    """One argument: its name, its field, and the parts of a request that may hold it."""

    name: str  # in the request
    field: FieldLike
    locations: tuple[str, ...]
    multiple: bool  # all values form a list
    is_file: bool  # declared as a file
    takes_files: bool
    takes_objects: bool

    @classmethod
    def of(cls, python_name: str, field: FieldLike) -> Argument:
        pinned = field.metadata.get("location")
        inner = getattr(field, "inner", None)
        types = {field.metadata.get("type"), inner.metadata.get("type") if inner else None}
        is_file = "file" in types or pinned == "files"
        return cls(
            name=python_name if field.data_key is None else field.data_key,
            field=field,
            locations=_PINNED.get(pinned, ANYWHERE),
            multiple=isinstance(field, fields.List | fields.Tuple)
            and not hasattr(field, "delimiter"),
            is_file=is_file,
            takes_files=takes_files(field, is_file),
            takes_objects=takes_objects(field),
        )


class Arguments:
    """The arguments of one function of a model, as its `get_*_args` declares them."""

    def __init__(self, declared: Any) -> None:
        """Accept a dictionary of fields, or a Schema class or instance.

        Raises TypeError for anything else.
        """
        self._schema = _as_schema(declared)
        # Keep the declared order: marshmallow before 3.21 does not.
        names = [str(name) for name in declared] if isinstance(declared, Mapping) else []
        names = names or list(self._schema.fields)
        self._arguments = [Argument.of(name, self._schema.fields[name]) for name in names]
        self._schema.load_fields = {
            name: with_fast_path(self._schema.load_fields[name])
            for name in names
            if name in self._schema.load_fields
        }
        for name, argument in zip(names, self._arguments, strict=True):
            field = self._schema.load_fields.get(name)
            if field is not None and argument.takes_files and "form" in argument.locations:
                self._schema.load_fields[name] = with_files_only(field, argument.name)
        self._exact_numbers = [a.name for a in self._arguments if _keeps_digits(a.field)]
        self._are_anywhere = all(a.locations == ANYWHERE for a in self._arguments)
        self._are_single = not any(a.multiple for a in self._arguments)
        self._known = {p: {a.name for a in self._arguments if p in a.locations} for p in ANYWHERE}
        self._simple = simple_fields(self._schema, declared, {a.name for a in self._arguments})
        accept = next((a for a in self._arguments if a.name == "accept"), None)
        self._accept = accept
        self.media_types = _choices(accept.field) if accept else []
        self.headers = [a.name for a in self._arguments if "headers" in a.locations]

    @property
    def schema(self) -> Schema:
        """The schema that loads the arguments."""
        return self._schema

    @property
    def visible(self) -> list[Argument]:
        """The arguments that a client can send."""
        return [a for a in self._arguments if not a.field.dump_only]

    @property
    def passed(self) -> dict[str, FieldLike] | None:
        """The keyword arguments that the function may receive, with their fields.

        None if the schema has hooks, because these can change the arguments.
        """
        if any(self._schema._hooks.values()):
            return None
        return {field.attribute or name: field for name, field in self._schema.load_fields.items()}

    def load(self, call: Call) -> tuple[dict[str, Any], str]:
        """Return the keyword arguments for `call` and the media type of the response.

        Raises InvalidArgumentsError, and every other exception that the model's fields raise.
        """
        unusable: dict[str, list[str]] = {}
        gathered = self._gather(call, unusable)
        if self._accept is not None:
            self._choose_media_type(gathered, call.headers)
        try:
            loaded = None if unusable else self._load_simply(gathered)
            if loaded is None:
                loaded = self._load_by_schema(gathered, unusable)
        except (ArithmeticError, TypeError) as error:
            if not is_of_marshmallow(error):
                raise
            found = messages_about(self._schema.load_fields.values(), gathered)
            raise InvalidArgumentsError(found) from None
        return loaded, self.media_type(loaded)

    def check_values(self, values: Values) -> None:
        """Raise the exceptions of `load` unless the values, in which a file is an UploadedFile, are
        valid as those of a JSON body."""
        gathered = {a.name: _json_value(a, values) for a in self._arguments if a.name in values}
        if self._accept is not None:
            self._choose_media_type(gathered, {})
        self.media_type(self._load_by_schema(gathered, {}))

    def _gather(self, call: Call, unusable: dict[str, list[str]]) -> dict[str, Any]:
        """Return the raw value of each argument that the call contains.

        For a value that cannot be used, add the reason to `unusable`.
        """
        gathered: dict[str, Any] = {}
        if (
            self._are_anywhere
            and call.content_type == JSON
            and call.form is None
            and not call.query
        ):  # the most frequent case
            values = _read_json(call, self._exact_numbers)
            if self._are_single and values.keys() <= self._known["json"]:
                return values
            for argument in self._arguments:
                if argument.name in values:
                    gathered[argument.name] = _json_value(argument, values)
            if len(values) != len(gathered):
                call.unknown = unknown_in([Place("json", values, self._known["json"])], call)
            return gathered
        sources = _Sources(call, self._exact_numbers)
        for argument in self._arguments:
            try:
                value = sources.find(argument)
            except UnusableValueError as error:
                unusable[argument.name] = [str(error)]
                continue
            if value is not missing:
                gathered[argument.name] = value
        if places := sources.places(self._known):
            call.unknown = unknown_in(places, call)
        return gathered

    def _load_by_schema(
        self, gathered: Values, unusable: Mapping[str, list[str]]
    ) -> dict[str, Any]:
        try:
            loaded: dict[str, Any] = self._schema.load(gathered)
        except ValidationError as error:
            raise InvalidArgumentsError(_by_argument(error) | unusable) from None
        if unusable:
            raise InvalidArgumentsError(unusable)
        return loaded

    def _load_simply(self, gathered: Values) -> dict[str, Any] | None:
        """Return the same result as the schema, several times faster.

        Return None if the schema must decide: it has features beyond its fields, or a value is not
        valid.
        """
        return None if self._simple is None else load_simply(self._simple, gathered)

    def _choose_media_type(self, gathered: dict[str, Any], headers: Mapping[str, str]) -> None:
        """Set `accept`: to the given value, else by the Accept header, else to the first choice."""
        assert self._accept is not None
        if not self.media_types:
            if gathered.get("accept") == ANY:
                del gathered["accept"]
            return
        pinned_to_header = self._accept.locations == ("headers",)
        if pinned_to_header or gathered.get("accept", ANY) == ANY:
            header = headers.get("accept", "")
            gathered["accept"] = best_match(header, self.media_types) or self.media_types[0]

    def media_type(self, loaded: Mapping[str, Any]) -> str:
        """Return the media type that the loaded arguments request.

        Raises InvalidArgumentsError, or ImpossibleHeaderError if the model offers an invalid media
        type.
        """
        if self._accept is None:
            return JSON
        value = loaded.get(self._accept.field.name or "accept", JSON)
        if not isinstance(value, str) or value == ANY:
            return JSON
        if not is_media_type(value):
            if value in self.media_types:
                raise ImpossibleHeaderError(
                    f"The model's accept offers {value[:100]!a}, which is not a media type"
                )
            raise InvalidArgumentsError({self._accept.name: ["Not a valid media type."]})
        return value


def _by_argument(error: ValidationError) -> Any:
    """Return the messages by argument; messages about the whole input are under `_schema`."""
    return error.messages if isinstance(error.messages, dict) else {"_schema": error.messages}


class _Sources:
    """The parts of a request that can hold arguments. Each is parsed once, when first needed."""

    def __init__(self, call: Call, exact_numbers: Sequence[str]) -> None:
        self._call = call
        self._exact_numbers = exact_numbers
        self._read: dict[str, Values] = {}
        self._parts = PartReader()

    def find(self, argument: Argument) -> Any:
        """Return the first value found, or `missing`."""
        for location in argument.locations:
            values = self._read.get(location)
            if values is None:
                values = self._read[location] = self._values(location)
            if not values:
                continue
            if location == "json":
                if argument.name in values:
                    return _json_value(argument, values)
                continue
            found = values.get(argument.name)
            if found:
                return value_for(argument, found, self._parts)
        return missing

    def places(self, known: Mapping[str, Set[str]]) -> list[Place]:
        """Return the places that contain unknown names.

        A place that `find` did not need is skipped if it cannot be parsed.
        """
        places = []
        for location, names in known.items():
            values = self._read.get(location)
            if values is None and is_worth_reading(location, self._call):
                with contextlib.suppress(InvalidArgumentsError):
                    values = self._values(location)
            if values and not values.keys() <= names:
                places.append(Place(location, values, names))
        return places

    def _values(self, location: str) -> Values:
        if location == "json":
            return _read_json(self._call, self._exact_numbers)
        return _READERS[location](self._call)


def _json_value(argument: Argument, values: Values) -> Any:
    value = values[argument.name]
    if argument.multiple and value is not None and not isinstance(value, list):
        return [value]
    return value


def _read_query(call: Call) -> Values:
    if not call.query:
        return {}
    return _group(parse_qsl(call.query, keep_blank_values=True, errors="surrogateescape"))


def _read_headers(call: Call) -> Values:
    values = {name: [value] for name, value in call.headers.items()}
    return _CaseInsensitive(values)


def _read_form(call: Call) -> Values:
    if call.form is not None:
        return _group(call.form)
    if not call.content_type.lower().startswith("application/x-www-form-urlencoded"):
        return {}
    text = _text(call)
    try:
        return _group(
            parse_qsl(
                text,
                keep_blank_values=True,
                encoding=_charset(call),
                errors="surrogateescape",
            )
        )
    except ValueError:
        raise InvalidArgumentsError({"form": ["Invalid form body."]}, 400) from None


def _read_json(call: Call, exact_numbers: Sequence[str]) -> dict[str, Any]:
    """Return the JSON body, with exact integers in the arguments that `exact_numbers` names."""
    if call.content_type != JSON:
        media_type = call.content_type.partition(";")[0].strip().lower()
        if media_type != JSON and not media_type.endswith("+json"):
            return {}
    body = _body(call)
    if not body.strip():
        return {}
    try:
        value = orjson.loads(body) if call.content_type == JSON else _lenient_json(call, body)
    except ValueError:
        value = _lenient_json(call, body)
    if not isinstance(value, dict):
        raise InvalidArgumentsError({"json": ["The JSON body must be an object."]})
    for name in exact_numbers:
        if type(value.get(name)) in _WITH_FLOATS and has_large_float(value[name]):
            exact: dict[str, Any] = _lenient_json(call, body)
            return exact
    return value


_WITH_FLOATS = frozenset({float, list, dict})
_INVALID_JSON = {"json": ["Invalid JSON body."]}


def _lenient_json(call: Call, body: bytes) -> Any:
    """Parse JSON that the strict parser rejects but clients send: NaN, huge integers."""
    try:
        return json.loads(body.decode(_charset(call)))
    except (ValueError, RecursionError):
        raise InvalidArgumentsError(_INVALID_JSON, 400) from None


_READERS: dict[str, Callable[[Call], Values]] = {
    "query": _read_query,
    "headers": _read_headers,
    "form": _read_form,
}


class _CaseInsensitive(dict[str, Any]):
    def get(self, key: str, default: Any = None) -> Any:
        return super().get(key.lower(), default)


def _group(pairs: Iterable[tuple[str, Any]]) -> dict[str, list[Any]]:
    grouped: dict[str, list[Any]] = {}
    for name, value in pairs:
        grouped.setdefault(name, []).append(value)
    return grouped


def _charset(call: Call) -> str:
    for parameter in call.content_type.split(";")[1:]:
        key, _, value = parameter.partition("=")
        if key.strip().lower() == "charset":
            charset = value.strip().strip("\"'")
            if not is_charset(charset):
                message = f"Unknown charset {charset[:40]!r}."
                raise InvalidArgumentsError({"charset": [message]}, 400)
            return charset
    return "utf-8"


def _body(call: Call) -> bytes:
    if not call.body_path:
        return call.body
    with open(call.body_path, "rb") as file:
        return file.read()


def _text(call: Call) -> str:
    try:
        return _body(call).decode(_charset(call))
    except ValueError:
        raise InvalidArgumentsError({"form": ["Invalid form body."]}, 400) from None


def _as_schema(declared: Any) -> Schema:
    if isinstance(declared, type) and issubclass(declared, Schema):
        return declared(unknown=EXCLUDE)
    if isinstance(declared, Schema):
        return declared
    if not isinstance(declared, Mapping):
        raise TypeError(f"expected a dictionary of fields, got {type(declared).__name__}")
    wrong = [name for name, field in declared.items() if not isinstance(field, fields.Field)]
    if wrong:
        names = ", ".join(map(repr, wrong))
        raise TypeError(f"expected webargs or marshmallow fields, got something else for {names}")
    return Schema.from_dict({str(name): field for name, field in declared.items()})()


def _keeps_digits(field: FieldLike) -> bool:
    """Return whether this field may need the exact digits of an integer above 64 bits."""
    while type(field) is fields.List:
        field = field.inner
    return type(field) not in (fields.Float, fields.String)


def _choices(field: FieldLike) -> list[str]:
    """Return the media types that the `OneOf` of an `accept` field allows, without `*/*`."""
    for validator in field.validators:
        if isinstance(validator, validate.OneOf):
            choices = list(validator.choices)
            return [choice for choice in choices if isinstance(choice, str) and choice != ANY]
    return []
