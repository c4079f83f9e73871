"""Collecting the arguments of a function from a request, and validating them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from marshmallow import Schema, ValidationError, missing, validates_schema
from marshmallow import fields as marshmallow_fields
from webargs import fields, validate

from deepaas.model.v2.arguments import Arguments
from deepaas.model.v2.exchange import Call
from tests.model.v2.calls import JSON, by_form, by_json, by_parts, by_query, load, refusal

INVALID_JSON = {"json": ["Invalid JSON body."]}


# --- names and kinds of declarations ---------------------------------------------------------


def test_data_key_is_the_name_on_the_wire() -> None:
    assert load({"a": fields.Int(data_key="wire-name")}, by_query(("wire-name", "1"))) == {"a": 1}


def test_python_name_is_unknown_where_there_is_a_data_key() -> None:
    assert load({"a": fields.Int(data_key="wire-name")}, by_query(("a", "1"))) == {}


def test_messages_go_by_the_name_on_the_wire() -> None:
    call = by_query(("wire-name", "x"))
    assert refusal({"a": fields.Int(data_key="wire-name")}, call) == (
        422,
        {"wire-name": ["Not a valid integer."]},
    )


@pytest.mark.parametrize("name", ["demo-int", "bbox(N,W,S,E)", "ä", "a b", "class", ""])
def test_names_need_not_be_identifiers(name: str) -> None:
    assert load({name: fields.Int()}, by_query((name, "1"))) == {name: 1}


def test_dump_only_field_is_no_input() -> None:
    arguments = Arguments({"a": fields.Int(dump_only=True), "b": fields.Int()})
    assert [argument.name for argument in arguments.visible] == ["b"]
    assert arguments.load(Call())[0] == {}


def test_dump_only_field_that_is_sent_is_refused() -> None:
    assert refusal({"a": fields.Int(dump_only=True)}, by_query(("a", "1"))) == (
        422,
        {"a": ["Unknown field."]},
    )


class Form(Schema):
    number = fields.Int(load_default=3, validate=validate.Range(min=1))
    texts = fields.List(fields.Str())
    renamed = fields.Str(data_key="wire-name")
    shown = fields.Str(dump_only=True)


@pytest.mark.parametrize("declared", [Form, Form(), Form().fields])
def test_schema_is_taken_in_every_form(declared: Any) -> None:
    call = by_query(("texts", "x"), ("wire-name", "y"), ("unknown", "z"))
    assert load(declared, call) == {"number": 3, "texts": ["x"], "renamed": "y"}


@pytest.mark.parametrize("declared", [Form, Form(), Form().fields])
def test_validators_of_a_schema_are_asked(declared: Any) -> None:
    assert refusal(declared, by_query(("number", "0"))) == (
        422,
        {"number": ["Must be greater than or equal to 1."]},
    )


def test_bound_fields_can_be_used_twice() -> None:
    declared = Form().fields
    assert load(declared, Call()) == load(declared, Call()) == {"number": 3}


def test_no_arguments_is_a_declaration_too() -> None:
    assert load({}, by_query(("a", "1"))) == {}


def test_fields_of_webargs_and_marshmallow_mix() -> None:
    declared = {"a": fields.Int(), "b": marshmallow_fields.Int()}
    assert load(declared, by_query(("a", "1"), ("b", "2"))) == {"a": 1, "b": 2}


@pytest.mark.parametrize("declared", [["a"], "a", 3])
def test_what_is_no_declaration_is_a_type_error(declared: Any) -> None:
    with pytest.raises(TypeError, match=r"^expected a dictionary of fields, got (list|str|int)$"):
        Arguments(declared)


def test_what_is_no_field_is_a_type_error_with_its_names() -> None:
    with pytest.raises(TypeError) as raised:
        Arguments({"a": 1, "b": fields.Int(), "c": fields.Int})
    assert str(raised.value) == (
        "expected webargs or marshmallow fields, got something else for 'a', 'c'"
    )


# --- validation by the field itself ----------------------------------------------------------


def test_each_argument_gets_its_messages() -> None:
    declared = {
        "a": fields.Int(),
        "b": fields.Str(validate=[validate.Length(min=3), validate.OneOf(["xyz"])]),
        "c": fields.Bool(),
    }
    assert refusal(declared, by_query(("a", "x"), ("b", "y"), ("c", "true"))) == (
        422,
        {
            "a": ["Not a valid integer."],
            "b": ["Shorter than minimum length 3.", "Must be one of: xyz."],
        },
    )


def test_overridden_deserialize_is_asked_when_nothing_was_sent() -> None:
    class Always(fields.Field):
        def deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
            return "absent" if value is missing else value

    assert load({"a": Always()}, Call()) == {"a": "absent"}


def test_what_a_field_raises_comes_out() -> None:
    class Faulty(fields.Field):
        def _deserialize(self, *_: Any, **__: Any) -> Any:
            raise ZeroDivisionError("fault")

    with pytest.raises(ZeroDivisionError, match=r"^fault$"):
        load({"a": Faulty()}, by_query(("a", "1")))


def test_error_of_the_whole_goes_under_schema() -> None:
    class Pair(Schema):
        a = fields.Int()

        @validates_schema
        def check(self, data: Any, **_: Any) -> None:
            raise ValidationError("No pair.")

    assert refusal(Pair, by_query(("a", "1"))) == (422, {"_schema": ["No pair."]})


@pytest.mark.parametrize("digits", [400, 5000])
def test_number_too_large_is_refused(digits: int) -> None:
    status, messages = refusal({"a": fields.Float()}, by_json(b'{"a": 1' + b"0" * digits + b"}"))
    assert (status, messages) in [(422, {"a": ["Number too large."]}), (400, INVALID_JSON)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (fields.TimeDelta(), b"Infinity"),
        (fields.DateTime(format="timestamp"), b"1" + b"0" * 400),
        (fields.Raw(validate=validate.Range(min=1)), b'"text"'),
        (fields.Raw(validate=validate.Length(min=1)), b"1"),
        (fields.List(fields.Raw(validate=validate.Regexp("a"))), b"[1]"),
    ],
)
def test_value_that_marshmallow_cannot_handle_is_refused(field: Any, value: bytes) -> None:
    call = by_json(b'{"a": ' + value + b', "b": "x"}')
    status, messages = refusal({"a": field, "b": fields.Int()}, call)
    assert (status, messages["b"]) == (422, ["Not a valid integer."])
    # Some releases of marshmallow can handle some of these.
    assert messages["a"] in (["Not a valid value."], ["Not a valid datetime."])


def test_error_of_the_models_own_field_is_not_the_clients() -> None:
    class Own(fields.Field):
        def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
            raise OverflowError("a fault of the model")

    with pytest.raises(OverflowError, match="a fault of the model"):
        load({"a": Own()}, by_json({"a": 1}))


def test_integer_beyond_64_bits_is_exact() -> None:
    assert load({"a": fields.Int()}, by_json({"a": 2**80 + 1})) == {"a": 2**80 + 1}


# --- JSON ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        "application/geo+json",
    ],
)
def test_types_of_json_bodies(content_type: str) -> None:
    assert load({"a": fields.Str()}, by_json('{"a": "ä"}'.encode(), content_type)) == {"a": "ä"}


def test_json_in_another_charset() -> None:
    call = by_json('{"a": "ä"}'.encode("utf-16"), "application/json; charset=utf-16")
    assert load({"a": fields.Str()}, call) == {"a": "ä"}


def test_json_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(b'{"a": 1}')
    assert load({"a": fields.Int()}, Call(content_type=JSON, body_path=str(path))) == {"a": 1}


@pytest.mark.parametrize("body", [b"", b" \r\n"])
def test_empty_json_body_is_nothing(body: bytes) -> None:
    assert load({"a": fields.Int()}, by_json(body)) == {}


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"a": 1',
        b"{'a': 1}",
        b'{"a": 1} x',
        b"nonsense",
        b'{"a": "\xff"}',
        b'\xef\xbb\xbf{"a": 1}',
        b'{"a": 01}',
        b'{"a": 1' + b"0" * 5000 + b"}",
    ],
)
def test_malformed_json_is_refused(body: bytes) -> None:
    assert refusal({"a": fields.Raw()}, by_json(body)) == (400, INVALID_JSON)


@pytest.mark.parametrize("content_type", [JSON, "application/json; charset=utf-8"])
@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_json_nested_100000_deep_is_refused(body: bytes, content_type: str) -> None:
    assert refusal({"a": fields.Raw()}, by_json(body, content_type)) == (400, INVALID_JSON)


@pytest.mark.parametrize("value", [None, [], [1], "text", 1, True])
def test_json_that_is_no_object_is_refused(value: Any) -> None:
    assert refusal({"a": fields.Int()}, by_json(value)) == (
        422,
        {"json": ["The JSON body must be an object."]},
    )


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_does_not_have_are_read(literal: str) -> None:
    call = by_json(f'{{"a": {literal}}}'.encode())
    assert repr(load({"a": fields.Float(allow_nan=True)}, call)["a"]) == repr(float(literal))


def test_last_of_equal_names_in_json_counts() -> None:
    assert load({"a": fields.Int()}, by_json(b'{"a": 1, "a": 2}')) == {"a": 2}


def test_lone_surrogate_in_json_is_text() -> None:
    assert load({"a": fields.Str()}, by_json(rb'{"a": "\ud800"}')) == {"a": "\ud800"}


# --- accept ----------------------------------------------------------------------------------


def accept_field(*choices: str, **kwargs: Any) -> Any:
    choices = choices or ("image/png", JSON)
    return fields.Str(validate=validate.OneOf(choices), **kwargs)


def chosen(field: Any, call: Call) -> tuple[Any, str]:
    """Return the module's `accept`, and the media type of the response."""
    arguments, media_type = Arguments({"accept": field}).load(call)
    return arguments.get("accept"), media_type


def accepting(header: str, call: Call | None = None) -> Call:
    call = call or Call()
    call.headers = {"accept": header}
    return call


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", "image/png"),
        ("application/json", JSON),
        ("image/png;q=0.5, application/json", JSON),
        ("image/png;q=0.5, application/json;q=0.4", "image/png"),
        ("image/*, application/json;q=0.9", "image/png"),
        ("application/*", JSON),
        ("*/*", "image/png"),
        ("*/*, image/png;q=0", JSON),
        ("image/jpeg, */*;q=0.1", "image/png"),
        ("text/html", "image/png"),
        ("nonsense", "image/png"),
        ("*/*;q=0", "image/png"),
    ],
)
@pytest.mark.parametrize("pinned", [False, True])
def test_header_chooses_by_quality(header: str, expected: str, pinned: bool) -> None:
    field = accept_field(metadata={"location": "headers"} if pinned else {})
    assert chosen(field, accepting(header)) == (expected, expected)


@pytest.mark.parametrize("header", ["", "image/png", "*/*", "text/html"])
@pytest.mark.parametrize(
    "call", [by_query(("accept", JSON)), by_form(("accept", JSON)), by_parts(("accept", JSON))]
)
def test_explicit_value_comes_before_the_header(call: Call, header: str) -> None:
    assert chosen(accept_field(), accepting(header, call)) == (JSON, JSON)


def test_explicit_value_that_is_no_choice_is_refused() -> None:
    assert refusal({"accept": accept_field()}, by_query(("accept", "text/html"))) == (
        422,
        {"accept": ["Must be one of: image/png, application/json."]},
    )


def test_explicit_wildcard_leaves_it_to_the_header() -> None:
    call = accepting(JSON, by_query(("accept", "*/*")))
    assert chosen(accept_field(), call) == (JSON, JSON)


def test_first_choice_comes_before_the_default() -> None:
    assert chosen(accept_field(load_default=JSON), Call()) == ("image/png", "image/png")


def test_required_accept_is_settled_too() -> None:
    assert chosen(accept_field(required=True), Call()) == ("image/png", "image/png")


@pytest.mark.parametrize("call", [Call(), accepting("*/*"), by_query(("accept", "*/*"))])
def test_wildcard_among_the_choices_never_reaches_the_module(call: Call) -> None:
    assert chosen(accept_field("*/*", "image/png"), call) == ("image/png", "image/png")


@pytest.mark.parametrize(
    "call", [by_query(("accept", "*/*")), by_form(("accept", "*/*")), by_json({"accept": "*/*"})]
)
def test_wildcard_never_reaches_a_module_without_choices(call: Call) -> None:
    assert chosen(fields.Str(load_default=JSON), call) == (JSON, JSON)


def test_wildcard_header_never_reaches_a_module_without_choices() -> None:
    field = fields.Str(metadata={"location": "headers"})
    assert chosen(field, accepting("*/*")) == (None, JSON)


def test_accept_without_choices_is_taken_as_it_is() -> None:
    assert chosen(fields.Str(), by_query(("accept", "text/csv"))) == ("text/csv", "text/csv")


@pytest.mark.parametrize("value", ["nonsense", "", "a/b\r\nX: y", "text/ä"])
def test_accept_without_choices_must_be_a_media_type(value: str) -> None:
    assert refusal({"accept": fields.Str()}, by_query(("accept", value))) == (
        422,
        {"accept": ["Not a valid media type."]},
    )


def test_answer_is_json_without_accept() -> None:
    assert Arguments({}).load(accepting("image/png")) == ({}, JSON)


def test_choices_in_a_list_of_validators_are_the_media_types() -> None:
    field = fields.Str(validate=[validate.Length(min=1), validate.OneOf(("a/b", "*/*", "c/d"))])
    assert Arguments({"accept": field}).media_types == ["a/b", "c/d"]


def test_accept_goes_by_its_name_on_the_wire() -> None:
    arguments = Arguments({"media": accept_field(data_key="accept")})
    assert arguments.load(accepting(JSON)) == ({"media": JSON}, JSON)
