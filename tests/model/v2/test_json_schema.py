"""The JSON Schema of fields accepts what the fields load, and refuses what they refuse."""

from __future__ import annotations

import datetime
import enum
import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from marshmallow import EXCLUDE, Schema, ValidationError
from webargs import fields, validate

from deepaas.model.v2.json_schema import Schemas, choices_of, kind_of, notes_of

Json = dict[str, Any]


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class OwnField(fields.Field):
    """A field of an author's own class."""


class City(Schema):
    name = fields.Str(required=True)
    inhabitants = fields.Int(data_key="people", validate=validate.Range(min=0))
    shown = fields.Str(dump_only=True)


class Lenient(City):
    class Meta:
        unknown = EXCLUDE


class Tree(Schema):
    children = fields.List(fields.Nested(lambda: Tree()))


def schema_of(field: Any) -> Json:
    schemas = Schemas()
    made = schemas.of_field(field)
    whole = {**made, "$defs": schemas.nested} if schemas.nested else made
    Draft202012Validator.check_schema(whole)
    assert json.loads(json.dumps(whole)) == whole
    return whole


def loads(field: Any, value: Any) -> bool:
    try:
        Schema.from_dict({"a": field})().load({"a": value})
    except ValidationError:
        return False
    return True


IP = [{"format": "ipv4"}, {"format": "ipv6"}]

FIELDS_AND_VALUES: list[tuple[Any, str, list[Any], list[Any]]] = [
    (fields.Str(), "string", ["", "a"], [1, None]),
    (fields.Str(allow_none=True), "string", ["a", None], [1]),
    (fields.Int(validate=validate.Range(1, 5)), "integer", [1, 5], [0, 6]),
    (
        fields.Float(validate=validate.Range(0, 1, min_inclusive=False, max_inclusive=False)),
        "number",
        [0.5],
        [0, 1],
    ),
    (
        fields.Int(validate=[validate.Range(min=0), validate.Range(min=2, max=9)]),
        "integer",
        [2, 9],
        [1, 10],
    ),
    (fields.Bool(), "boolean", [True, False], ["x", []]),
    (fields.Str(validate=validate.Length(1, 3)), "string", ["a", "abc"], ["", "abcd"]),
    (fields.Str(validate=validate.Length(equal=2)), "string", ["ab"], ["a", "abc"]),
    (fields.List(fields.Int(), validate=validate.Length(max=2)), "list", [[], [1, 2]], [[1, 2, 3]]),
    (fields.Dict(validate=validate.Length(min=1)), "mapping", [{"a": 1}], [{}]),
    (fields.Str(validate=validate.OneOf(["a", "b"])), "string", ["a"], ["c"]),
    (
        fields.Str(load_default=None, validate=validate.OneOf(["a", "b"])),
        "string",
        ["a", None],
        ["c"],
    ),
    (fields.Str(validate=validate.NoneOf(["a"])), "string", ["b"], ["a"]),
    (
        fields.Str(validate=[validate.OneOf(["a", "b"]), validate.OneOf(["b", "c"])]),
        "string",
        ["b"],
        ["a", "c", "d"],
    ),
    (
        fields.Str(validate=[validate.NoneOf(["a"]), validate.NoneOf(["b"])]),
        "string",
        ["c"],
        ["a", "b"],
    ),
    (
        fields.List(
            fields.Str(validate=validate.OneOf(["a", "b"])), validate=validate.ContainsOnly(["b"])
        ),
        "list",
        [["b"]],
        [["a"]],
    ),
    (fields.Str(validate=validate.Equal("a")), "string", ["a"], ["b"]),
    (fields.Str(validate=validate.Regexp("a+$")), "string", ["aa"], ["ba", "ab"]),
    (fields.Str(validate=validate.Regexp("^a")), "string", ["ab"], ["ba"]),
    (
        fields.Str(validate=[validate.Regexp("a"), validate.Regexp(".b")]),
        "string",
        ["ab"],
        ["aa", "bb"],
    ),
    (
        fields.Str(validate=validate.And(validate.Length(max=2), validate.Regexp("a"))),
        "string",
        ["ab"],
        ["abc", "ba"],
    ),
    (
        fields.List(fields.Str(), validate=validate.ContainsOnly(["p", "q"])),
        "list",
        [[], ["p", "p"]],
        [["r"]],
    ),
    (
        fields.List(fields.Str(), validate=validate.ContainsNoneOf(["p"])),
        "list",
        [["q"]],
        [["q", "p"]],
    ),
    (fields.Tuple((fields.Int(), fields.Str())), "tuple", [[1, "a"]], [[1], [1, "a", 2]]),
    (fields.Dict(values=fields.Int()), "mapping", [{"a": 1}], [{"a": "x"}]),
    (
        fields.Dict(keys=fields.Str(validate=validate.Length(max=1)), values=fields.Raw()),
        "mapping",
        [{"a": 1}],
        [{"ab": 1}],
    ),
    (fields.Enum(Colour), "enum", ["RED"], ["GREEN", 1]),
    (fields.Enum(Colour, by_value=True), "enum", [1, 2], [3]),
    (fields.Nested(City), "nested", [{"name": "a", "people": 1}], [{}, {"name": "a", "x": 1}]),
    (fields.Nested(City), "nested", [{"name": "a"}], [{"name": "a", "people": -1}, None]),
    (fields.Nested(Lenient, allow_none=True), "nested", [{"name": "a", "x": 1}, None], [{}]),
    (fields.Nested(City, many=True), "nested", [[{"name": "a"}], []], [[{}], {}]),
    (fields.Nested(City, only=["name"]), "nested", [{"name": "a"}], [{"name": "a", "people": 1}]),
    (fields.Pluck(City, "name"), "nested", ["a"], [1]),
    (fields.Nested(Tree), "nested", [{"children": [{"children": []}]}], [{"children": [{"x": 1}]}]),
    (fields.Raw(), "any", [1, "a", [], {}], [None]),
    (fields.Raw(allow_none=True), "any", [1, None], []),
]


@pytest.mark.parametrize(("field", "kind", "good", "bad"), FIELDS_AND_VALUES)
def test_schema_and_field_agree(field: Any, kind: str, good: list[Any], bad: list[Any]) -> None:
    assert kind_of(field) == kind
    assert notes_of(field) == []
    check = Draft202012Validator(schema_of(field))
    for value in [*good, *bad]:
        assert check.is_valid(value) == loads(field, value) == (value in good), value


@pytest.mark.parametrize(
    ("field", "kind", "expected"),
    [
        (fields.Url(), "url", {"type": "string", "format": "uri"}),
        (fields.Email(), "email", {"type": "string", "format": "email"}),
        (fields.UUID(), "uuid", {"type": "string", "format": "uuid"}),
        (fields.Date(), "date", {"type": "string", "format": "date"}),
        (fields.DateTime(), "datetime", {"type": "string", "format": "date-time"}),
        (
            fields.DateTime(format="timestamp"),
            "datetime",
            {"type": "number", "minimum": 0, "maximum": 253402300799},
        ),
        (
            fields.TimeDelta(precision="weeks"),
            "duration",
            {"type": "integer", "minimum": -142857142, "maximum": 142857142},
        ),
        (fields.IP(), "ip", {"type": "string", "anyOf": IP}),  # type: ignore[no-untyped-call]
        (fields.Decimal(), "decimal", {"type": "number"}),
        (
            fields.Str(load_only=True, metadata={"title": "T", "description": "D"}),
            "string",
            {"type": "string", "title": "T", "description": "D", "writeOnly": True},
        ),
        (fields.Raw(metadata={"type": "file"}), "file", {"type": "string", "format": "binary"}),
        (
            fields.List(fields.Raw(metadata={"type": "file"})),
            "list",
            {"type": "array", "items": {"type": "string", "format": "binary"}},
        ),
        # A field checks neither the type nor the constraints that its metadata names.
        (fields.Raw(metadata={"type": "integer"}), "any", {"not": {"type": "null"}}),
        (OwnField(metadata={"type": "integer"}), "any", {"type": "integer"}),
        (
            fields.Str(metadata={"example": "x", "enum": ["x", "y"]}),
            "string",
            {"type": "string", "examples": ["x"]},
        ),
        (
            fields.Str(metadata={"enum": ["x", "y"], "maxLength": 1, "format": "colour"}),
            "string",
            {"type": "string", "format": "colour", "examples": ["x", "y"]},
        ),
        (fields.Constant(3), "constant", {"default": 3, "not": {"type": "null"}}),
        (fields.Time(), "time", {"type": "string", "format": "time-local"}),
        (fields.NaiveDateTime(), "datetime", {"type": "string", "format": "date-time-local"}),
        (
            fields.Enum(Colour, by_value=fields.Int),
            "enum",
            {"type": "integer", "enum": [1, 2]},
        ),
        (
            fields.Date(load_default=datetime.date(2024, 2, 29)),
            "date",
            {"type": "string", "format": "date", "default": "2024-02-29"},
        ),
        (fields.Int(load_default=lambda: 7), "integer", {"type": "integer"}),
    ],
)
def test_schema(field: Any, kind: str, expected: Json) -> None:
    assert kind_of(field) == kind
    assert schema_of(field) == expected


def is_even(value: int) -> None:
    """The number is even."""
    if value % 2:
        raise ValidationError("odd")


@pytest.mark.parametrize(
    ("field", "notes"),
    [
        (fields.Int(validate=is_even), ["The number is even."]),
        (fields.Int(validate=[lambda value: value > 1]), ["The value is checked by <lambda>"]),
        (
            fields.Str(validate=validate.Regexp("a", re.IGNORECASE, error="Only a")),
            ["Only a"],
        ),
        (fields.List(fields.Int(validate=is_even)), ["Each item: The number is even."]),
        (fields.DelimitedList(fields.Int()), ["Several values in one text, separated by ','"]),
        (fields.Date(format="%d.%m.%Y"), ["The format is %d.%m.%Y"]),
        (fields.TimeDelta(precision="minutes"), ["A number of minutes"]),
        (fields.Int(metadata={"minimum": 0}), ["Not checked: minimum 0"]),
        (fields.Str(metadata={"enum": ["x"]}), ["Other values are possible"]),
        (fields.Constant(3), ["Always 3, whatever is sent"]),
    ],
)
def test_what_a_schema_cannot_express_is_a_text(field: Any, notes: list[str]) -> None:
    schema_of(field)
    assert notes_of(field) == notes


def test_range_of_dates_is_a_text() -> None:
    field = fields.Date(validate=validate.Range(min=datetime.date(2024, 1, 1)))
    assert schema_of(field) == {"type": "string", "format": "date"}
    (note,) = notes_of(field)
    assert "2024" in note


def test_choices_have_the_labels_of_the_author() -> None:
    field = fields.Int(validate=validate.OneOf([1, 2, 3], labels=["one", "two"]))
    assert choices_of(field) == [
        {"value": 1, "label": "one"},
        {"value": 2, "label": "two"},
        {"value": 3, "label": "3"},
    ]


def test_choices_are_those_that_all_validators_allow() -> None:
    field = fields.Str(validate=[validate.OneOf(["a", "b"]), validate.OneOf(["b", "c"])])
    assert choices_of(field) == [{"value": "b", "label": "b"}]


def test_choices_of_a_list_are_those_of_its_items() -> None:
    of_items = fields.List(fields.Str(validate=validate.OneOf(["a"])))
    of_list = fields.List(fields.Str(), validate=validate.ContainsOnly(["a"]))
    assert choices_of(of_items) == choices_of(of_list) == [{"value": "a", "label": "a"}]


def test_parts_of_one_schema_get_distinct_names() -> None:
    schemas = Schemas()
    first = schemas.of_field(fields.Nested(City))
    second = schemas.of_field(fields.Nested(City, only=["name"]))
    assert schemas.of_field(fields.Nested(City)) == first == {"$ref": "#/$defs/City"}
    assert second == {"$ref": "#/$defs/City2"}
    assert set(schemas.nested["City2"]["properties"]) == {"name"}
