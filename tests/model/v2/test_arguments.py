"""How the arguments of a function are gathered from a request and validated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from marshmallow import Schema, ValidationError, missing, validates_schema
from marshmallow import fields as marshmallow_fields
from marshmallow.warnings import RemovedInMarshmallow4Warning
from webargs import fields, validate

from deepaas.model.v2.arguments import Arguments, InvalidArgumentsError
from deepaas.model.v2.exchange import Call, FilePart
from deepaas.model.v2.wrapper import UploadedFile

JSON = "application/json"
URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"
INVALID_JSON = {"json": ["Invalid JSON body."]}


def load(declared: Any, call: Call) -> dict[str, Any]:
    """The keyword arguments that the model's function would get."""
    return Arguments(declared).load(call)[0]


def refusal(declared: Any, call: Call) -> tuple[int, Any]:
    """The status and messages with which the call is refused."""
    with pytest.raises(InvalidArgumentsError) as refused:
        Arguments(declared).load(call)
    return refused.value.status, refused.value.messages


def by_query(*pairs: tuple[str, str]) -> Call:
    return Call(query=urlencode(pairs))


def by_form(*pairs: tuple[str, str]) -> Call:
    return Call(content_type=URLENCODED, body=urlencode(pairs).encode())


def by_parts(*parts: tuple[str, str | FilePart]) -> Call:
    return Call(content_type=MULTIPART, form=list(parts))


def by_json(value: Any, content_type: str = JSON) -> Call:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Call(content_type=content_type, body=body)


def file_field(**kwargs: Any) -> Any:
    return fields.Raw(metadata={"type": "file", "location": "form"}, **kwargs)


# --- where an argument is looked for ---------------------------------------------------------


def test_query_comes_before_the_form() -> None:
    call = by_form(("a", "form"))
    call.query = "a=query"
    assert load({"a": fields.Str()}, call) == {"a": "query"}


def test_query_comes_before_parts() -> None:
    call = by_parts(("a", "form"))
    call.query = "a=query"
    assert load({"a": fields.Str()}, call) == {"a": "query"}


def test_query_comes_before_json() -> None:
    call = by_json({"a": "json"})
    call.query = "a=query"
    assert load({"a": fields.Str()}, call) == {"a": "query"}


def test_each_argument_is_looked_for_on_its_own() -> None:
    call = by_json({"a": "json", "b": "json"})
    call.query = "a=query"
    assert load({"a": fields.Str(), "b": fields.Str()}, call) == {"a": "query", "b": "json"}


@pytest.mark.parametrize(
    "call",
    [
        by_query(("a", "1")),
        by_form(("a", "1")),
        by_parts(("a", "1")),
        by_json({"a": "1"}),
        by_json({"a": 1}),
    ],
)
def test_argument_is_found_wherever_it_is(call: Call) -> None:
    assert load({"a": fields.Int()}, call) == {"a": 1}


def test_empty_value_in_the_query_is_a_hit() -> None:
    call = by_json({"a": "json"})
    call.query = "a="
    assert load({"a": fields.Str()}, call) == {"a": ""}


def test_null_in_json_is_a_hit() -> None:
    assert load({"a": fields.Str(allow_none=True)}, by_json({"a": None})) == {"a": None}


def test_unknown_arguments_are_ignored() -> None:
    call = by_json({"a": 1, "b": 2})
    call.query = "c=3"
    assert load({"a": fields.Int()}, call) == {"a": 1}


def test_absent_optional_argument_is_not_passed() -> None:
    assert load({"a": fields.Int(), "b": fields.Int(load_default=None)}, Call()) == {"b": None}


def test_absent_required_argument_is_refused() -> None:
    assert refusal({"a": fields.Int(required=True)}, Call()) == (
        422,
        {"a": ["Missing data for required field."]},
    )


def test_default_may_be_made_at_each_request() -> None:
    assert load({"a": fields.List(fields.Int(), load_default=list)}, Call()) == {"a": []}


def test_body_of_another_type_is_ignored() -> None:
    assert load({"a": fields.Int()}, Call(content_type="text/plain", body=b"a=1")) == {}


def test_body_is_not_read_when_the_query_has_it_all() -> None:
    call = by_json(b"{broken")
    call.query = "a=1"
    assert load({"a": fields.Int()}, call) == {"a": 1}


# --- pinned to a location --------------------------------------------------------------------

EVERYWHERE = {
    "query": "a=query",
    "content_type": JSON,
    "headers": {"a": "headers"},
    "form": [("a", "form")],
    "body": b'{"a": "json"}',
}
LOCATIONS = [
    ("query", "query"),
    ("querystring", "query"),
    ("form", "form"),
    ("files", "form"),
    ("json", "json"),
    ("headers", "headers"),
]


@pytest.mark.parametrize(("location", "found"), LOCATIONS)
def test_location_in_the_metadata_pins(location: str, found: str) -> None:
    field = fields.Str(metadata={"location": location})
    assert load({"a": field}, Call(**EVERYWHERE)) == {"a": found}  # type: ignore[arg-type]


@pytest.mark.parametrize(("location", "found"), LOCATIONS)
def test_location_as_bare_keyword_pins(location: str, found: str) -> None:
    with pytest.warns(RemovedInMarshmallow4Warning):
        field = fields.Str(location=location)
    assert load({"a": field}, Call(**EVERYWHERE)) == {"a": found}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("location", "call"),
    [
        ("json", by_query(("a", "1"))),
        ("form", by_query(("a", "1"))),
        ("headers", by_query(("a", "1"))),
        ("query", by_json({"a": "1"})),
        ("form", by_json({"a": "1"})),
        ("query", by_form(("a", "1"))),
        ("json", by_parts(("a", "1"))),
    ],
)
def test_pinned_argument_is_looked_for_nowhere_else(location: str, call: Call) -> None:
    assert load({"a": fields.Str(metadata={"location": location})}, call) == {}


def test_unknown_location_is_no_location() -> None:
    field = fields.Str(metadata={"location": "elsewhere"})
    assert load({"a": field}, by_query(("a", "1"))) == {"a": "1"}


def test_headers_are_found_whatever_their_case() -> None:
    field = fields.Int(data_key="X-Count", metadata={"location": "headers"})
    assert load({"count": field}, Call(headers={"x-count": "3"})) == {"count": 3}


def test_headers_that_arguments_need_are_told() -> None:
    arguments = Arguments(
        {
            "count": fields.Int(data_key="X-Count", metadata={"location": "headers"}),
            "other": fields.Int(),
        }
    )
    assert arguments.headers == ["X-Count"]


def test_headers_are_no_source_unless_asked_for() -> None:
    assert load({"a": fields.Str()}, Call(headers={"a": "1"})) == {}


# --- lists -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        by_query(("a", "1"), ("a", "2")),
        by_form(("a", "1"), ("a", "2")),
        by_parts(("a", "1"), ("b", "x"), ("a", "2")),
        by_json({"a": [1, 2]}),
        by_json({"a": ["1", "2"]}),
    ],
)
def test_list_is_made_of_all_values(call: Call) -> None:
    assert load({"a": fields.List(fields.Int())}, call) == {"a": [1, 2]}


@pytest.mark.parametrize("call", [by_query(("a", "1")), by_parts(("a", "1")), by_json({"a": 1})])
def test_single_value_makes_a_list_of_one(call: Call) -> None:
    assert load({"a": fields.List(fields.Int())}, call) == {"a": [1]}


@pytest.mark.parametrize("value", ["1,2", "[1,2]"])
def test_list_in_one_value_is_refused(value: str) -> None:
    assert refusal({"a": fields.List(fields.Int())}, by_query(("a", value))) == (
        422,
        {"a": {0: ["Not a valid integer."]}},
    )


def test_delimited_list_takes_one_value() -> None:
    field = fields.DelimitedList(fields.Int())
    assert load({"a": field}, by_query(("a", "1,2"))) == {"a": [1, 2]}


def test_null_for_a_list_is_no_list_of_null() -> None:
    assert refusal({"a": fields.List(fields.Int())}, by_json({"a": None})) == (
        422,
        {"a": ["Field may not be null."]},
    )


def test_tuple_is_made_of_all_values() -> None:
    field = fields.Tuple((fields.Int(), fields.Str()))
    assert load({"a": field}, by_query(("a", "1"), ("a", "x"))) == {"a": (1, "x")}


def test_first_of_several_values_is_taken_for_a_scalar() -> None:
    assert load({"a": fields.Int()}, by_query(("a", "1"), ("a", "2"))) == {"a": 1}


def test_list_of_lists_comes_in_json() -> None:
    field = fields.List(fields.List(fields.Float()))
    assert load({"a": field}, by_json({"a": [[1], [2.5]]})) == {"a": [[1.0], [2.5]]}


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


# --- validation is the field's own -----------------------------------------------------------


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


# --- forms -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type",
    [
        URLENCODED,
        f"{URLENCODED}; charset=utf-8",
        pytest.param(
            "Application/X-WWW-Form-URLEncoded",
        ),
    ],
)
def test_types_of_urlencoded_bodies(content_type: str) -> None:
    call = Call(content_type=content_type, body=b"a=%C3%A4+b")
    assert load({"a": fields.Str()}, call) == {"a": "ä b"}


def test_urlencoded_form_in_another_charset() -> None:
    call = Call(content_type=f"{URLENCODED}; charset=latin-1", body=b"a=%E4")
    assert load({"a": fields.Str()}, call) == {"a": "ä"}


def test_urlencoded_form_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"a=1&a=2")
    call = Call(content_type=URLENCODED, body_path=str(path))
    assert load({"a": fields.List(fields.Int())}, call) == {"a": [1, 2]}


@pytest.mark.parametrize("charset", ["nope", "hex", "undefined", "", "a\0b", "x" * 500])
@pytest.mark.parametrize("content_type", [URLENCODED, JSON])
def test_unknown_charset_is_refused(content_type: str, charset: str) -> None:
    call = Call(content_type=f"{content_type}; charset={charset}", body=b"{}")
    assert refusal({"a": fields.Str()}, call) == (
        400,
        {"charset": [f"Unknown charset {charset[:40]!r}."]},
    )


@pytest.mark.parametrize("charset", ["utf-8", "ascii", "idna"])
def test_form_that_is_not_in_its_charset_is_refused(charset: str) -> None:
    call = Call(content_type=f"{URLENCODED}; charset={charset}", body=b"a=\xff")
    assert refusal({"a": fields.Str()}, call) == (400, {"form": ["Invalid form body."]})


def test_bytes_that_are_no_utf8_in_the_query_are_replaced() -> None:
    assert load({"a": fields.Str()}, Call(query="a=%FF")) == {"a": "\N{REPLACEMENT CHARACTER}"}


# --- files -----------------------------------------------------------------------------------

CAT = FilePart("/uploads/1", "image/png", "cat.png")
DOG = FilePart("/uploads/2", "image/jpeg", "dog.jpg")


def test_file_part_becomes_an_uploaded_file() -> None:
    loaded = load({"image": file_field()}, by_parts(("image", CAT)))
    assert loaded == {"image": UploadedFile("image", "/uploads/1", "image/png", "cat.png")}
    assert type(loaded["image"]) is UploadedFile


def test_file_has_the_name_on_the_wire() -> None:
    loaded = load({"image": file_field(data_key="wire-name")}, by_parts(("wire-name", CAT)))
    assert loaded["image"].name == "wire-name"


def test_first_of_several_files_is_taken() -> None:
    loaded = load({"image": file_field()}, by_parts(("image", DOG), ("image", CAT)))
    assert loaded["image"].original_filename == "dog.jpg"


def test_list_of_files_gets_them_all() -> None:
    field = fields.List(fields.Raw(), metadata={"type": "file", "location": "form"})
    loaded = load({"images": field}, by_parts(("images", CAT), ("images", DOG)))
    assert loaded == {
        "images": [
            UploadedFile("images", "/uploads/1", "image/png", "cat.png"),
            UploadedFile("images", "/uploads/2", "image/jpeg", "dog.jpg"),
        ]
    }


def test_text_in_a_file_field_is_no_uploaded_file() -> None:
    assert load({"image": file_field()}, by_parts(("image", "text"))) == {"image": "text"}


def test_file_for_a_text_is_refused() -> None:
    assert refusal({"a": fields.Str()}, by_parts(("a", CAT))) == (
        422,
        {"a": ["Not a valid string."]},
    )


def test_missing_file_is_refused() -> None:
    assert refusal({"image": file_field(required=True)}, by_parts()) == (
        422,
        {"image": ["Missing data for required field."]},
    )


@pytest.mark.parametrize(
    ("field", "is_file", "multiple"),
    [
        (fields.Raw(metadata={"type": "file"}), True, False),
        (fields.Raw(metadata={"location": "files"}), True, False),
        (fields.List(fields.Raw(metadata={"type": "file"})), True, True),
        (fields.List(fields.Raw(), metadata={"type": "file"}), True, True),
        (fields.Raw(metadata={"location": "form"}), False, False),
        (fields.Str(), False, False),
    ],
)
def test_files_are_told_from_other_arguments(field: Any, is_file: bool, multiple: bool) -> None:
    (argument,) = Arguments({"a": field}).visible
    assert (argument.is_file, argument.multiple) == (is_file, multiple)


# --- accept ----------------------------------------------------------------------------------


def accept_field(*choices: str, **kwargs: Any) -> Any:
    choices = choices or ("image/png", JSON)
    return fields.Str(validate=validate.OneOf(choices), **kwargs)


def chosen(field: Any, call: Call) -> tuple[Any, str]:
    """The module's `accept`, and the media type of the answer."""
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
