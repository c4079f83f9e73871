"""Descriptions of arguments and results as plain data."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from marshmallow import Schema
from webargs import fields, validate

from deepaas.model.v2.arguments import Arguments
from deepaas.model.v2.description import describe_function
from deepaas.model.v2.results import ResultSchema


def describe(declared: Any, schema: Any = None) -> dict[str, Any]:
    result = None if schema is None else ResultSchema(schema)
    described = describe_function(Arguments(declared), result)
    assert json.loads(json.dumps(described)) == described
    return described


def argument(field: Any, name: str = "a") -> dict[str, Any]:
    (described,) = describe({name: field})["arguments"]
    assert isinstance(described, dict)
    return described


def test_function_without_arguments() -> None:
    assert describe({}) == {
        "arguments": [],
        "definitions": {},
        "media_types": [],
        "headers": [],
        "secrets": [],
        "result": None,
        "result_is_list": False,
    }


def test_argument_in_full() -> None:
    field = fields.Int(
        load_default=3,
        validate=validate.Range(min=1, max=5),
        metadata={"description": "How many", "location": "query"},
    )
    assert argument(field) == {
        "name": "a",
        "location": "query",
        "required": False,
        "file": False,
        "multiple": False,
        "property": {
            "type": "integer",
            "format": "int32",
            "default": 3,
            "minimum": 1,
            "maximum": 5,
            "description": "How many",
        },
    }


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (fields.Str(), {"type": "string"}),
        (fields.Float(), {"type": "number", "format": "float"}),
        (fields.Bool(load_default=True), {"type": "boolean", "default": True}),
        (fields.Url(), {"type": "string", "format": "url"}),
        (fields.Date(), {"type": "string", "format": "date"}),
        (fields.Dict(), {"type": "object"}),
        (fields.Str(validate=validate.OneOf(["a", "b"])), {"type": "string", "enum": ["a", "b"]}),
        (
            fields.Str(validate=validate.Length(min=1, max=3)),
            {"type": "string", "minLength": 1, "maxLength": 3},
        ),
        (
            fields.List(fields.Float(), validate=validate.Length(max=3)),
            {"type": "array", "items": {"type": "number", "format": "float"}, "maxItems": 3},
        ),
        (fields.Str(metadata={"enum": ["a"]}), {"type": "string", "enum": ["a"]}),
    ],
)
def test_property(field: Any, expected: dict[str, Any]) -> None:
    assert argument(field)["property"] == expected


def test_default_of_none_can_be_null() -> None:
    assert argument(fields.Str(load_default=None))["property"] == {
        "type": "string",
        "default": None,
        "x-nullable": True,
    }


def test_default_that_is_no_json_is_its_text() -> None:
    field = fields.Raw(load_default=3j)
    assert argument(field)["property"]["default"] == "3j"


def test_default_that_is_a_date() -> None:
    field = fields.Date(load_default=datetime.date(2024, 2, 29))
    assert argument(field)["property"]["default"] == "2024-02-29"


def test_required_argument() -> None:
    assert argument(fields.Str(required=True))["required"] is True


@pytest.mark.parametrize("location", ["query", "form", "json", "headers"])
def test_location(location: str) -> None:
    assert argument(fields.Str(metadata={"location": location}))["location"] == location


def test_argument_without_location_is_shown_in_the_query() -> None:
    assert argument(fields.Str())["location"] == "query"


def test_file() -> None:
    described = argument(fields.Raw(metadata={"type": "file", "location": "form"}))
    assert (described["file"], described["location"]) == (True, "form")


def test_list() -> None:
    assert argument(fields.List(fields.Str()))["multiple"] is True


def test_argument_has_its_name_on_the_wire() -> None:
    assert argument(fields.Str(data_key="wire-name"))["name"] == "wire-name"


def test_dump_only_argument_is_hidden() -> None:
    described = describe({"a": fields.Str(dump_only=True), "b": fields.Str()})
    assert [one["name"] for one in described["arguments"]] == ["b"]


def test_arguments_keep_their_order() -> None:
    described = describe({name: fields.Str() for name in "jihgfedcba"})
    assert "".join(one["name"] for one in described["arguments"]) == "jihgfedcba"


def test_accept_offers_its_media_types() -> None:
    field = fields.Str(validate=validate.OneOf(["image/png", "text/csv"]), load_default="text/csv")
    described = describe({"accept": field})
    assert described["media_types"] == ["image/png", "text/csv"]
    assert described["headers"] == ["accept"]
    assert described["arguments"][0]["property"] == {
        "type": "string",
        "default": "image/png",
        "enum": ["image/png", "text/csv", "*/*"],
    }


def test_headers_that_arguments_need() -> None:
    field = fields.Str(data_key="X-Name", metadata={"location": "headers"})
    assert describe({"name": field})["headers"] == ["X-Name"]


class Inner(Schema):
    number = fields.Int()


def test_nested_form_is_a_definition() -> None:
    described = describe({"a": fields.Nested(Inner)})
    assert described["arguments"][0]["property"] == {"$ref": "#/definitions/Inner"}
    assert described["definitions"] == {
        "Inner": {
            "type": "object",
            "properties": {"number": {"type": "integer", "format": "int32"}},
        }
    }


class AnswerSchema(Schema):
    label = fields.Str(required=True)


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        (AnswerSchema, "Answer"),
        (AnswerSchema(), "Answer"),
        ({"label": fields.Str(required=True)}, "ModelPredictionResponse"),
    ],
)
def test_result_is_a_definition(schema: Any, name: str) -> None:
    described = describe({}, schema)
    assert described["result"] == name
    assert described["definitions"] == {
        name: {
            "type": "object",
            "properties": {"label": {"type": "string"}},
            "required": ["label"],
        }
    }


@pytest.mark.parametrize(
    ("schema", "is_list"), [(AnswerSchema(many=True), True), (AnswerSchema(), False), (None, False)]
)
def test_result_of_a_schema_for_many_is_a_list(schema: Any, is_list: bool) -> None:
    assert describe({}, schema)["result_is_list"] is is_list
