"""A file field accepts only files, unless its author allows something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from marshmallow import Schema, ValidationError, pre_load
from marshmallow.warnings import RemovedInMarshmallow4Warning
from webargs import fields, validate

from deepaas.file_part import FilePart
from deepaas.model.v2 import validation
from deepaas.model.v2.arguments import Arguments, InvalidArgumentsError
from deepaas.model.v2.exchange import Call
from tests.model.v2.calls import (
    by_form,
    by_json,
    by_parts,
    by_query,
    file_field,
    load,
    refusal,
)

# marshmallow 4 will require fields.Raw; modules use both.
pytestmark = pytest.mark.filterwarnings("ignore:`Field` should not be instantiated")

CAT = FilePart("/uploads/1", "image/png", "cat.png")
NOT_A_FILE = "Not a file. Send it as a part of a multipart form, as curl does with -F image=@file"


def bare_file_field() -> Any:
    with pytest.warns(RemovedInMarshmallow4Warning):
        return fields.Field(type="file")


FIELDS: dict[str, Callable[[], Any]] = {
    "raw": lambda: fields.Raw(metadata={"type": "file"}),
    "field": lambda: fields.Field(metadata={"type": "file"}),
    "bare keyword": bare_file_field,
    "location": lambda: fields.Raw(metadata={"location": "files"}),
    "pinned": file_field,
    "required": lambda: file_field(required=True),
}
every_field = pytest.mark.parametrize("kind", FIELDS)

TEXTS = {
    "part": by_parts(("image", "cat.png")),
    "form": by_form(("image", "cat.png")),
    "query": by_query(("image", "cat.png")),
    "json": by_json({"image": "cat.png"}),
    "two parts": by_parts(("image", "cat.png"), ("image", CAT)),
}


def is_seen(kind: str, source: str) -> bool:
    """Return whether a field of this kind reads from this source."""
    return kind in ("raw", "field", "bare keyword") or source not in ("query", "json")


@every_field
@pytest.mark.parametrize("source", TEXTS)
def test_text_for_a_file_is_refused(kind: str, source: str) -> None:
    if is_seen(kind, source):
        assert refusal({"image": FIELDS[kind]()}, TEXTS[source]) == (422, {"image": [NOT_A_FILE]})


@pytest.mark.parametrize("value", ["text", " ", 1, 0, 1.5, True, False, [], ["a"], {}, {"a": 1}])
def test_json_for_a_file_is_refused(value: Any) -> None:
    assert refusal({"image": FIELDS["raw"]()}, by_json({"image": value})) == (
        422,
        {"image": [NOT_A_FILE]},
    )


def test_null_for_a_file_is_null() -> None:
    call = by_json({"image": None})
    assert refusal({"image": FIELDS["raw"]()}, call) == (422, {"image": ["Field may not be null."]})
    nullable = fields.Raw(allow_none=True, metadata={"type": "file"})
    assert load({"image": nullable}, call) == {"image": None}


@every_field
@pytest.mark.parametrize("call", [by_parts(("image", "")), by_form(("image", ""))])
def test_empty_text_for_a_file_is_no_file(kind: str, call: Call) -> None:
    assert load({"image": FIELDS[kind]()}, call) == {"image": ""}


@every_field
def test_file_is_taken(kind: str) -> None:
    loaded = load({"image": FIELDS[kind]()}, by_parts(("image", CAT)))
    assert loaded["image"].filename == "/uploads/1"


def test_absent_file_is_absent() -> None:
    assert load({"image": file_field()}, Call()) == {}
    assert load({"image": file_field(load_default=None)}, Call()) == {"image": None}
    assert refusal({"image": file_field(required=True)}, Call()) == (
        422,
        {"image": ["Missing data for required field."]},
    )


def test_message_comes_with_those_of_other_arguments() -> None:
    call = by_parts(("image", "cat.png"), ("number", "x"))
    declared = {"image": file_field(), "number": fields.Int(), "other": fields.Str(required=True)}
    assert refusal(declared, call) == (
        422,
        {
            "image": [NOT_A_FILE],
            "number": ["Not a valid integer."],
            "other": ["Missing data for required field."],
        },
    )


def test_message_has_the_name_on_the_wire_as_a_shell_takes_it() -> None:
    declared = {"image": file_field(data_key="my image")}
    assert refusal(declared, by_parts(("my image", "cat.png"))) == (
        422,
        {"my image": [NOT_A_FILE.replace("image=@file", "'my image=@file'")]},
    )


def test_no_validator_sees_the_text() -> None:
    def sees(value: Any) -> None:
        raise ValidationError(f"Seen: {value.filename}")

    declared = {"image": file_field(validate=[sees])}
    assert refusal(declared, by_parts(("image", "cat.png"))) == (422, {"image": [NOT_A_FILE]})
    assert refusal(declared, by_parts(("image", CAT))) == (422, {"image": ["Seen: /uploads/1"]})


def test_subclass_without_a_deserialize_of_its_own_refuses_too() -> None:
    class Image(fields.Raw):
        def _validate(self, value: Any) -> None:
            raise ValidationError(f"Seen: {value.filename}")

    declared = {"image": Image(metadata={"type": "file"})}
    assert refusal(declared, by_parts(("image", "cat.png"))) == (422, {"image": [NOT_A_FILE]})
    assert refusal(declared, by_parts(("image", CAT))) == (422, {"image": ["Seen: /uploads/1"]})


# --- lists

LISTS: dict[str, Callable[[], Any]] = {
    "items": lambda: fields.List(fields.Raw(metadata={"type": "file"})),
    "list": lambda: fields.List(fields.Raw(), metadata={"type": "file"}),
    "location": lambda: fields.List(fields.Field(), metadata={"location": "files"}),
    "class": lambda: fields.List(fields.Raw, metadata={"type": "file", "location": "form"}),
}
every_list = pytest.mark.parametrize("kind", LISTS)


@every_list
def test_text_in_a_list_of_files_is_refused(kind: str) -> None:
    call = by_parts(("image", CAT), ("image", "cat.png"))
    assert refusal({"image": LISTS[kind]()}, call) == (422, {"image": {1: [NOT_A_FILE]}})


@every_list
def test_list_of_files_is_taken(kind: str) -> None:
    loaded = load({"image": LISTS[kind]()}, by_parts(("image", CAT), ("image", CAT)))
    assert [file.original_filename for file in loaded["image"]] == ["cat.png", "cat.png"]


@pytest.mark.parametrize("value", ["text", 1, ["text"], [{}], {"a": 1}])
def test_json_for_a_list_of_files_is_refused(value: Any) -> None:
    assert refusal({"image": LISTS["items"]()}, by_json({"image": value})) == (
        422,
        {"image": {0: [NOT_A_FILE]}},
    )


def test_validators_of_a_list_count_only_files() -> None:
    field = fields.List(file_field(), validate=validate.Length(min=1))
    assert load({"image": field}, by_parts(("image", ""), ("image", CAT)))
    assert refusal({"image": field}, by_parts(("image", ""))) == (
        422,
        {"image": ["Shorter than minimum length 1."]},
    )


# --- fields that accept texts on purpose


def test_field_that_deserializes_by_itself_gets_the_text() -> None:
    class Lenient(fields.Raw):
        def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
            return f"loaded {value}"

    class MoreLenient(fields.Field):
        def deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
            return f"loaded {value}"

    for field in (Lenient, MoreLenient):
        declared = {"image": field(metadata={"type": "file"})}
        assert load(declared, by_parts(("image", "x"))) == {"image": "loaded x"}
        listed = {"image": fields.List(field(metadata={"type": "file"}))}
        assert load(listed, by_parts(("image", "x"))) == {"image": ["loaded x"]}


def test_list_that_deserializes_by_itself_gets_the_text() -> None:
    class Lenient(fields.List):
        def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
            return f"loaded {value}"

    declared = {"image": Lenient(file_field(), metadata={"type": "file"})}
    assert load(declared, by_parts(("image", "x"))) == {"image": "loaded ['x']"}


def test_field_of_text_gets_the_text() -> None:
    declared = {"image": fields.Str(metadata={"type": "file"})}
    assert load(declared, by_parts(("image", "x"))) == {"image": "x"}
    listed = {"image": fields.List(fields.Str(), metadata={"type": "file"})}
    assert load(listed, by_parts(("image", "x"))) == {"image": ["x"]}


@pytest.mark.parametrize(
    ("location", "call"),
    [
        ("json", by_json({"image": "x"})),
        ("query", by_query(("image", "x"))),
        ("headers", Call(headers={"image": "x"})),
    ],
)
def test_field_that_no_file_can_reach_gets_the_text(location: str, call: Call) -> None:
    field = fields.Raw(metadata={"type": "file", "location": location})
    assert load({"image": field}, call) == {"image": "x"}


def test_hook_before_the_fields_may_turn_a_text_into_something_else() -> None:
    class Form(Schema):
        image = file_field()

        @pre_load
        def fetch(self, data: Any, **_: Any) -> Any:
            return {**data, "image": data["image"].encode()}

    assert load(Form, by_parts(("image", "x"))) == {"image": b"x"}


def test_fields_that_are_bound_and_used_twice_are_left_as_they_are() -> None:
    class Form(Schema):
        image = file_field()
        images = fields.List(file_field())

    bound = Form().fields
    kinds = [type(field) for field in bound.values()]
    for _ in range(2):
        assert refusal(bound, by_parts(("image", "x"))) == (422, {"image": [NOT_A_FILE]})
    assert [type(field) for field in bound.values()] == kinds
    assert refusal(Form(), by_parts(("image", "x"))) == (422, {"image": [NOT_A_FILE]})
    assert refusal(Form, by_parts(("images", "x"))) == (
        422,
        {"images": {0: [NOT_A_FILE.replace("image", "images")]}},
    )


def test_check_of_arguments_refuses_as_well() -> None:
    arguments = Arguments({"image": file_field()})
    with pytest.raises(InvalidArgumentsError) as refused:
        validation.validate(arguments, by_parts(("image", "x")))
    assert refused.value.messages == {"image": [NOT_A_FILE]}
