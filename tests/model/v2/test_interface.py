"""The neutral description of a model."""

from __future__ import annotations

import json
from typing import Any

import pytest
from marshmallow import Schema
from webargs import fields, validate

from deepaas.model.v2.arguments import Arguments
from deepaas.model.v2.interface import ENVELOPE, VERSION, describe_interface
from deepaas.model.v2.results import ResultSchema

Json = dict[str, Any]

JSON_RESPONSE = {"media_type": "application/json", "schema": ENVELOPE, "envelope": True}


def describe(declared: Any, schema: Any = None, **kwargs: Any) -> Json:
    result = None if schema is None else ResultSchema(schema)
    described = describe_interface(Arguments(declared), None, result, **kwargs)
    assert json.loads(json.dumps(described)) == described
    return described


def argument(field: Any, name: str = "a") -> Json:
    (described,) = describe({name: field})["functions"]["predict"]["arguments"]
    assert isinstance(described, dict)
    return described


def responses(declared: Any, schema: Any = None, **kwargs: Any) -> list[Json]:
    found = describe(declared, schema, **kwargs)["functions"]["predict"]["responses"]
    assert isinstance(found, list)
    return found


def test_model_without_arguments() -> None:
    assert describe({}) == {
        "version": VERSION,
        "functions": {
            "predict": {
                "arguments": [],
                "responses": [
                    {"media_type": "application/json", "schema": ENVELOPE, "envelope": True}
                ],
                "any_media_type": False,
                "examples": [],
            }
        },
        "streams": False,
        "batches": False,
        "weights": None,
        "metadata": {},
        "schemas": {},
    }


def test_argument_in_full() -> None:
    field = fields.Str(
        data_key="on-the-wire",
        required=True,
        load_only=True,
        validate=validate.OneOf(["a", "b"], labels=["A", "B"]),
        metadata={
            "title": "Title",
            "description": "Text",
            "group": "Group",
            "location": "form",
            "examples": ["a"],
        },
    )
    assert argument(field) == {
        "name": "on-the-wire",
        "python_name": "a",
        "locations": ["form"],
        "kind": "string",
        "item_kind": None,
        "schema": {
            "type": "string",
            "enum": ["a", "b"],
            "title": "Title",
            "description": "Text",
            "examples": ["a"],
            "writeOnly": True,
        },
        "required": True,
        "nullable": False,
        "computed_default": False,
        "multiple": False,
        "choices": [{"value": "a", "label": "A"}, {"value": "b", "label": "B"}],
        "secret": True,
        "notes": [],
        "examples": ["a"],
        "title": "Title",
        "description": "Text",
        "group": "Group",
        "file": None,
    }


def test_attribute_is_the_name_that_the_function_gets() -> None:
    assert argument(fields.Str(attribute="other"))["python_name"] == "other"


@pytest.mark.parametrize("accept", ["image/png, .tif", ["image/png", ".tif"]])
def test_file_with_accepted_types(accept: Any) -> None:
    described = argument(fields.Raw(metadata={"type": "file", "accept": accept}))
    assert described["kind"] == "file"
    assert described["file"] == {"accept": ["image/png", ".tif"]}


def test_several_files() -> None:
    described = argument(fields.List(fields.Raw(metadata={"type": "file"})))
    assert (described["kind"], described["item_kind"]) == ("list", "file")
    assert described["file"] == {"accept": []}
    assert described["multiple"] is True


def test_computed_default_is_not_shown_as_a_value() -> None:
    described = argument(fields.Int(load_default=lambda: 7))
    assert described["computed_default"] is True
    assert "default" not in described["schema"]


def test_argument_that_only_answers_is_hidden() -> None:
    assert describe({"a": fields.Str(dump_only=True)})["functions"]["predict"]["arguments"] == []


def test_field_that_cannot_be_described_is_kept_without_constraints() -> None:
    class Odd(fields.Nested):
        @property
        def schema(self) -> Any:
            raise ValueError("no schema")

    described = argument(Odd(Schema), "accepted")
    assert described["schema"] == {}
    assert described["notes"] == ["The constraints are not known (ValueError)"]


def test_responses_are_the_choices_of_accept() -> None:
    accept = fields.Str(validate=validate.OneOf(["image/png", "application/json", "*/*"]))
    declared = {"accept": accept}
    assert responses(declared) == [
        {
            "media_type": "image/png",
            "schema": {"type": "string", "format": "binary"},
            "envelope": False,
        },
        JSON_RESPONSE,
    ]
    (described,) = describe(declared)["functions"]["predict"]["arguments"]
    assert described["schema"]["default"] == "image/png"
    assert described["schema"]["enum"] == ["image/png", "application/json", "*/*"]


def test_response_has_the_schema_of_the_model() -> None:
    described = describe({}, {"label": fields.Str(required=True)})
    (one,) = described["functions"]["predict"]["responses"]
    name = one["schema"]["$ref"].removeprefix("#/$defs/")
    assert described["schemas"][name]["required"] == ["label"]


def test_stream_has_items() -> None:
    assert responses({}, streams=True) == [
        {"media_type": "application/x-ndjson", "item_schema": {}, "envelope": False},
        {"media_type": "text/event-stream", "item_schema": {}, "envelope": False},
    ]


def test_accept_without_choices_takes_any_type() -> None:
    predict = describe({"accept": fields.Str()})["functions"]["predict"]
    assert predict["any_media_type"] is True


def test_trainings_are_described_if_there_are_any() -> None:
    described = describe_interface(Arguments({}), Arguments({"epochs": fields.Int()}), None)
    (epochs,) = described["functions"]["train"]["arguments"]
    assert (epochs["name"], epochs["kind"]) == ("epochs", "integer")
