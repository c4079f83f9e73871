"""JSON Schema (2020-12) for the values that clients send for marshmallow fields.

What JSON Schema cannot express is kept as a text for people; see `notes_of`.
"""

from __future__ import annotations

import datetime
import decimal
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from marshmallow import RAISE, Schema, fields, missing, validate

from deepaas.model.v2.json_encoder import to_plain

Json = dict[str, Any]
FieldLike = fields.Field

PREFIX = "#/$defs/"
"""What a reference to a nested schema begins with."""

FILE: Json = {"type": "string", "format": "binary"}
"""The schema of a file: the contents of a part of a form."""

_KINDS: list[tuple[type[FieldLike], str, Json]] = [
    # A subclass stands before its base class.
    (fields.UUID, "uuid", {"type": "string", "format": "uuid"}),
    (fields.Url, "url", {"type": "string", "format": "uri"}),
    (fields.Email, "email", {"type": "string", "format": "email"}),
    (fields.IPv4Interface, "ip_interface", {"type": "string"}),
    (fields.IPv6Interface, "ip_interface", {"type": "string"}),
    (fields.IPInterface, "ip_interface", {"type": "string"}),
    (fields.IPv4, "ip", {"type": "string", "format": "ipv4"}),
    (fields.IPv6, "ip", {"type": "string", "format": "ipv6"}),
    (fields.IP, "ip", {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}),
    (fields.String, "string", {"type": "string"}),
    (fields.Integer, "integer", {"type": "integer"}),
    (fields.Float, "number", {"type": "number"}),
    (fields.Decimal, "decimal", {"type": "number"}),
    (fields.Number, "number", {"type": "number"}),
    (fields.Boolean, "boolean", {"type": "boolean"}),
    (fields.Date, "date", {"type": "string", "format": "date"}),
    # The formats with "local" are those of times without an offset.
    (fields.Time, "time", {"type": "string", "format": "time-local"}),
    (fields.NaiveDateTime, "datetime", {"type": "string", "format": "date-time-local"}),
    (fields.DateTime, "datetime", {"type": "string", "format": "date-time"}),
    (fields.TimeDelta, "duration", {"type": "integer"}),
    (fields.Enum, "enum", {}),
    (fields.Constant, "constant", {}),  # the field ignores the value that the client sends
    (fields.Nested, "nested", {}),
    (fields.List, "list", {"type": "array"}),
    (fields.Tuple, "tuple", {"type": "array"}),
    (fields.Mapping, "mapping", {"type": "object", "additionalProperties": True}),
]

_JSON_TYPES = {"string", "integer", "number", "boolean", "array", "object", "null"}
_WITHOUT_NULL = {"type", "enum", "const", "$ref"}
"""The keywords of which each excludes null."""

_ANNOTATIONS = ("title", "description", "format", "deprecated")
"""The keywords that an author may give in the metadata of a field."""

_CONSTRAINTS = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "pattern"),
    *("minLength", "maxLength", "minItems", "maxItems", "uniqueItems"),
)
"""Keywords in the metadata of a field that the field does not check: they are texts for people."""


def kind_of(field: FieldLike) -> str:
    """Return the kind of the field in one word, such as "integer"; "any" if it is not known."""
    if is_file(field) and not hasattr(field, "inner"):
        return "file"
    if hasattr(field, "delimiter"):
        return "delimited"
    return next((kind for cls, kind, _ in _KINDS if isinstance(field, cls)), "any")


def is_file(field: FieldLike) -> bool:
    """Return whether the field is declared as a file, or as a list of files."""
    return field.metadata.get("type") == "file" or field.metadata.get("location") == "files"


class Schemas:
    """Makes the schemas of fields, and collects the nested schemas that these refer to."""

    def __init__(self) -> None:
        self.nested: Json = {}
        """The nested schemas by name, for `$defs`."""
        self._names: dict[object, str] = {}

    def of_field(self, field: FieldLike) -> Json:
        """Return the schema of the values that clients may send for this field."""
        made = self._typed(field)
        for validator in field.validators:
            _Constraint(field, made).add(validator)
        self._add_metadata(field, made)
        _add_default(field, made)
        if not field.allow_none and not made.keys() & _WITHOUT_NULL:
            _put(made, "not", {"type": "null"})
        if field.load_only or field.metadata.get("format") == "password":
            made["writeOnly"] = True
        return _or_null(made) if field.allow_none else made

    def of_schema(self, schema: Schema) -> Json:
        """Return the schema of the values that `schema` loads."""
        reference: Json = {"$ref": PREFIX + self._name_of(schema)}
        return {"type": "array", "items": reference} if schema.many else reference

    def _name_of(self, schema: Schema) -> str:
        only = None if schema.only is None else frozenset(schema.only)
        partial = schema.partial if isinstance(schema.partial, bool | None) else True
        key = (type(schema), only, frozenset(schema.exclude), schema.unknown, partial)
        return self.name_of(key, type(schema).__name__, lambda: self._object(schema))

    def name_of(self, key: object, cls: str, make: Callable[[], Json]) -> str:
        """Return the name of the nested schema with this key; make it if there is none.

        `cls` is the name of its class.
        """
        if key in self._names:
            return self._names[key]
        base = re.sub(r"[^\w.-]", "_", cls.removesuffix("Schema") or cls, flags=re.ASCII)
        name, number = base, 1
        while name in self.nested:
            number += 1
            name = f"{base}{number}"
        self._names[key] = name
        self.nested[name] = {}  # a schema may refer to itself
        self.nested[name] = make()
        return name

    def _object(self, schema: Schema) -> Json:
        loaded = {
            name if field.data_key is None else field.data_key: field
            for name, field in schema.load_fields.items()
        }
        made: Json = {
            "type": "object",
            "properties": {name: self.of_field(field) for name, field in loaded.items()},
        }
        required = [name for name, field in loaded.items() if field.required]
        if required and not schema.partial:
            made["required"] = required
        if schema.unknown == RAISE:
            made["additionalProperties"] = False
        return made

    def _typed(self, field: FieldLike) -> Json:
        """Return the part of the schema that the class of the field gives."""
        kind = kind_of(field)
        if kind == "file":
            return dict(FILE)
        if kind == "delimited":
            return {"type": "string"}
        made = next((dict(one) for cls, _, one in _KINDS if isinstance(field, cls)), {})
        if isinstance(field, fields.Nested):
            return self._nested(field)
        if isinstance(field, fields.List):
            made["items"] = dict(FILE) if is_file(field) else self.of_field(field.inner)
        elif isinstance(field, fields.Tuple):
            made["prefixItems"] = [self.of_field(one) for one in field.tuple_fields]
            made["minItems"] = made["maxItems"] = len(field.tuple_fields)
        elif isinstance(field, fields.Mapping):
            if field.value_field is not None:
                made["additionalProperties"] = self.of_field(field.value_field)
            if field.key_field is not None:
                made["propertyNames"] = self.of_field(field.key_field)
        elif isinstance(field, fields.Enum):
            made["enum"] = enum_values(field)
            if field.by_value:  # the field of the values converts texts, unless it takes anything
                made |= {k: v for k, v in self._typed(field.field).items() if k == "type"}
        elif isinstance(field, fields.TimeDelta):
            _set_period(field, made)
        elif isinstance(field, fields.DateTime):
            _set_date_format(field, made)
        elif _has_own_type(field):
            made["type"] = field.metadata["type"]
        return made

    def _nested(self, field: fields.Nested) -> Json:
        if isinstance(field, fields.Pluck):
            made = self.of_field(field.schema.load_fields[field.field_name])
        else:
            made = {"$ref": PREFIX + self._name_of(field.schema)}
        return {"type": "array", "items": made} if field.many else made

    def _add_metadata(self, field: FieldLike, made: Json) -> None:
        metadata = field.metadata
        made |= {key: to_plain(metadata[key]) for key in _ANNOTATIONS if key in metadata}
        examples = examples_of(field) or _suggested(field)
        if examples:
            made["examples"] = examples


def _has_own_type(field: FieldLike) -> bool:
    """Return whether the metadata of a field of the author's class names its type.

    A plain Field or Raw takes any value, whatever the metadata says.
    """
    is_plain = type(field) in (fields.Field, fields.Raw)
    return not is_plain and kind_of(field) == "any" and field.metadata.get("type") in _JSON_TYPES


def examples_of(field: FieldLike) -> list[Any]:
    """Return the examples that the author gives in the metadata of the field."""
    if isinstance(field.metadata.get("examples"), list | tuple):
        return [to_plain(one) for one in field.metadata["examples"]]
    return [to_plain(field.metadata["example"])] if "example" in field.metadata else []


def _suggested(field: FieldLike) -> list[Any]:
    """Return the values in the metadata `enum` of a field, which takes others as well."""
    listed = field.metadata.get("enum")
    return [to_plain(one) for one in listed] if isinstance(listed, list | tuple) else []


def enum_values(field: fields.Enum) -> list[Any]:
    """Return the values that clients may send for a field of an enumeration."""
    if not field.by_value:
        return [one.name for one in field.enum]
    return [to_plain(field.field._serialize(one.value, "", None)) for one in field.enum]


def choices_of(field: FieldLike) -> list[Json]:
    """Return the choices of a field, or of the items of a list: each has `value` and `label`.

    The label is the author's, or else the text of the value.
    """
    of_validators = [
        _labelled(_on_the_wire(_item_of(field), list(one.choices)), list(one.labels))
        for one in _flat(field.validators)
        if isinstance(one, validate.OneOf | validate.ContainsOnly)
    ]
    if of_validators:
        allowed = [choice["value"] for choice in of_validators[0]]
        for others in of_validators[1:]:
            allowed = _in_both(allowed, [choice["value"] for choice in others])
        return [choice for choice in of_validators[0] if _in_both([choice["value"]], allowed)]
    if isinstance(field, fields.Enum):
        return _labelled(enum_values(field), [one.name for one in field.enum])
    if suggested := _suggested(field):
        return _labelled(suggested, field.metadata.get("labels", ()))
    inner = getattr(field, "inner", None)
    return choices_of(inner) if inner is not None else []


def _labelled(values: Sequence[Any], labels: Sequence[Any]) -> list[Json]:
    texts = [str(label) for label in labels]
    texts += [str(value) for value in values[len(texts) :]]
    pairs = zip(values, texts, strict=False)
    return [{"value": value, "label": label} for value, label in pairs]


def notes_of(field: FieldLike) -> list[str]:
    """Return the constraints that the schema of the field does not express, as texts."""
    notes = []
    for one in _flat(field.validators):
        scratch: Json = {"type": Schemas()._typed(field).get("type")}
        if not _Constraint(field, scratch).add_one(one):
            notes.append(_text_of(one))
    if hasattr(field, "delimiter"):
        notes.append(f"Several values in one text, separated by {field.delimiter!r}")
    if isinstance(field, fields.DateTime) and field.format not in (None, "iso", "iso8601"):
        notes.append(f"The format is {field.format}")
    if isinstance(field, fields.Constant):
        notes.append(f"Always {field.constant!r}, whatever is sent")
    if isinstance(field, fields.TimeDelta):
        notes.append(f"A number of {field.precision}")
    metadata = field.metadata
    notes += [f"Not checked: {key} {metadata[key]}" for key in _CONSTRAINTS if key in metadata]
    if _suggested(field):
        notes.append("Other values are possible")
    inner = getattr(field, "inner", None)
    return [*notes, *(f"Each item: {note}" for note in (notes_of(inner) if inner else []))]


def _text_of(validator: Callable[..., Any]) -> str:
    """Return a text about a validator: its error message, its docstring, or its representation."""
    error = getattr(validator, "error", None)
    if isinstance(error, str):
        return error
    if isinstance(validator, validate.Validator):
        return repr(validator)
    documented = inspect.getdoc(validator) if inspect.isroutine(validator) else ""
    name = getattr(validator, "__name__", type(validator).__name__)
    return documented or f"The value is checked by {name}"


def _flat(validators: Iterable[Any]) -> list[Any]:
    """Return the validators, with those in an `And` in its place."""
    flat: list[Any] = []
    for one in validators:
        flat += _flat(one.validators) if isinstance(one, validate.And) else [one]
    return flat


class _Constraint:
    """Adds the constraints of validators to the schema of a field."""

    def __init__(self, field: FieldLike, made: Json) -> None:
        self._field = field
        self._made = made

    def add(self, validator: Any) -> None:
        for one in _flat([validator]):
            self.add_one(one)

    def add_one(self, one: Any) -> bool:
        """Add the constraint, and return whether the schema expresses it."""
        match one:
            # A subclass stands before its base class.
            case validate.URL() | validate.Email():
                _put(self._made, "format", "uri" if isinstance(one, validate.URL) else "email")
            case validate.Range():
                return self._range(one)
            case validate.Length():
                return self._length(one)
            case validate.ContainsOnly():
                item = self._made.setdefault("items", {})
                _put(item, "enum", _on_the_wire(_item_of(self._field), list(one.choices)))
            case validate.OneOf():
                _put(self._made, "enum", _on_the_wire(self._field, list(one.choices)))
            case validate.ContainsNoneOf():
                item = self._made.setdefault("items", {})
                self._forbid(item, _item_of(self._field), one.iterable)
            case validate.NoneOf():
                self._forbid(self._made, self._field, one.iterable)
            case validate.Equal():
                _put(self._made, "const", _on_the_wire(self._field, [one.comparable])[0])
            case validate.Regexp():
                return self._pattern(one)
            case _:
                return False
        return True

    def _range(self, one: validate.Range) -> bool:
        if self._made.get("type") not in ("integer", "number") or isinstance(
            self._field, fields.TimeDelta
        ):
            return False
        for limit, inclusive, name in (
            (one.min, one.min_inclusive, "Minimum"),
            (one.max, one.max_inclusive, "Maximum"),
        ):
            if limit is not None:
                keyword = name.lower() if inclusive else f"exclusive{name}"
                stricter = max if name == "Minimum" else min
                value = to_plain(limit)
                self._made[keyword] = stricter(self._made.get(keyword, value), value)
        return True

    def _length(self, one: validate.Length) -> bool:
        names = {"string": "Length", "array": "Items", "object": "Properties"}
        name = names.get(str(self._made.get("type", "array" if "items" in self._made else "")))
        if name is None or hasattr(self._field, "delimiter") or kind_of(self._field) == "file":
            return False
        low, high = (one.min, one.max) if one.equal is None else (one.equal, one.equal)
        if low is not None:
            self._made[f"min{name}"] = max(self._made.get(f"min{name}", low), low)
        if high is not None:
            self._made[f"max{name}"] = min(self._made.get(f"max{name}", high), high)
        return True

    def _pattern(self, one: validate.Regexp) -> bool:
        """Add a pattern if it has the same meaning in JSON Schema; it matches from the start."""
        pattern, flags = one.regex.pattern, one.regex.flags & ~re.UNICODE
        if flags or not isinstance(pattern, str) or _ONLY_IN_PYTHON.search(pattern):
            return False
        pattern = pattern if pattern.startswith("^") else f"^(?:{pattern})"
        _put(self._made, "pattern", pattern)
        return True

    @staticmethod
    def _forbid(made: Json, field: FieldLike, values: Iterable[Any]) -> None:
        _put(made, "not", {"enum": _on_the_wire(field, list(values))})


def _put(made: Json, keyword: str, value: Any) -> None:
    """Add a constraint, so that the values must meet those that are there already, too."""
    if keyword not in made:
        made[keyword] = value
    elif keyword == "enum":
        made["enum"] = _in_both(made["enum"], value)
    elif made[keyword] != value:  # a schema has each keyword once
        made.setdefault("allOf", []).append({keyword: value})


def _in_both(first: Iterable[Any], second: Iterable[Any]) -> list[Any]:
    """Return the values of `first` that are in `second`; in JSON, 1 is not true."""
    pairs = [(type(one) is bool, one) for one in second]
    return [one for one in first if (type(one) is bool, one) in pairs]


_ONLY_IN_PYTHON = re.compile(r"\(\?[P#aiLmsux-]|\\[AZ]|\(\?\(|\(\?>|[*+?}]\+|^\^.*\|")
"""The parts of patterns that JavaScript lacks or reads differently; also `^a|b`, whose second
branch would match anywhere."""


def _item_of(field: FieldLike) -> FieldLike:
    inner = getattr(field, "inner", None)
    return inner if isinstance(inner, fields.Field) else field


def _on_the_wire(field: FieldLike, values: list[Any]) -> list[Any]:
    """Return loaded values as clients send them."""
    if isinstance(field, fields.Decimal):
        return [float(one) if isinstance(one, decimal.Decimal) else to_plain(one) for one in values]
    kinds = fields.Enum | fields.DateTime | fields.Time | fields.UUID | fields.TimeDelta
    if isinstance(field, kinds):
        try:
            return [to_plain(field._serialize(value, "", None)) for value in values]
        except Exception:  # the value does not fit the field
            return [to_plain(value) for value in values]
    return [to_plain(value) for value in values]


_LAST_TIMESTAMP = 253_402_300_799
"""The end of the year 9999, which is the last that Python has."""


def _set_period(field: fields.TimeDelta, made: Json) -> None:
    """Add the limits of Python's periods of time, which are about 999999999 days."""
    unit = datetime.timedelta(**{field.precision: 1})
    made |= {
        "minimum": -(-datetime.timedelta.min // unit),
        "maximum": datetime.timedelta.max // unit,
    }


def _set_date_format(field: fields.DateTime, made: Json) -> None:
    if field.format in ("timestamp", "timestamp_ms"):
        made.clear()
        unit = 1 if field.format == "timestamp" else 1000
        made |= {"type": "number", "minimum": 0, "maximum": _LAST_TIMESTAMP * unit}
    elif field.format not in (None, "iso", "iso8601"):
        del made["format"]


def _add_default(field: FieldLike, made: Json) -> None:
    default = field.load_default
    if default is not missing and not callable(default):
        made["default"] = _on_the_wire(field, [default])[0] if default is not None else None


def _or_null(made: Json) -> Json:
    """Return the schema with null as a further value."""
    if "$ref" in made:
        return {"anyOf": [{"$ref": made.pop("$ref")}, {"type": "null"}], **made}
    if isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    if "enum" in made and None not in made["enum"]:
        made["enum"] = [*made["enum"], None]
    if "const" in made:
        made["enum"] = [made.pop("const"), None]
    return made
