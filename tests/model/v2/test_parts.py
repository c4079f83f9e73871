"""Reading texts, files and other form parts as their fields require."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from marshmallow import Schema, pre_load
from webargs import fields

from deepaas.file_part import FilePart
from deepaas.model.v2.arguments import Arguments
from deepaas.model.v2.exchange import Call
from deepaas.model.v2.wrapper import UploadedFile
from tests.model.v2.calls import (
    JSON,
    URLENCODED,
    by_parts,
    file_field,
    load,
    refusal,
)

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


@pytest.mark.parametrize(
    "charset",
    ["nope", "hex", "undefined", "", "a\0b", "x" * 500, "idna", "punycode", "unicode_escape"],
)
@pytest.mark.parametrize("content_type", [URLENCODED, JSON])
def test_unknown_charset_is_refused(content_type: str, charset: str) -> None:
    call = Call(content_type=f"{content_type}; charset={charset}", body=b"{}")
    assert refusal({"a": fields.Str()}, call) == (
        400,
        {"charset": [f"Unknown charset {charset[:40]!r}."]},
    )


@pytest.mark.parametrize("charset", ["utf-8", "ascii"])
def test_form_that_is_not_in_its_charset_is_refused(charset: str) -> None:
    call = Call(content_type=f"{URLENCODED}; charset={charset}", body=b"a=\xff")
    assert refusal({"a": fields.Str()}, call) == (400, {"form": ["Invalid form body."]})


NOT_TEXT = ["Not text in the charset of the request."]


@pytest.mark.parametrize(
    "value", ["%FF", "x%ed%a0%80", "\N{LATIN SMALL LETTER A WITH DIAERESIS}%E4"]
)
@pytest.mark.parametrize("content_type", ["", URLENCODED, f"{URLENCODED}; charset=utf-8"])
def test_value_that_is_not_text_is_refused_with_the_other_messages(
    content_type: str, value: str
) -> None:
    sent = f"a={value}&b=x"
    call = Call(content_type=content_type, body=sent.encode()) if content_type else Call(sent)
    declared = {"a": fields.Str(required=True), "b": fields.Int()}
    assert refusal(declared, call) == (422, {"a": NOT_TEXT, "b": ["Not a valid integer."]})
    assert refusal({"a": fields.Str()}, call) == (422, {"a": NOT_TEXT})


def test_value_of_an_unknown_argument_may_be_anything() -> None:
    assert load({"a": fields.Str()}, Call(query="b=%FF&a=x&%FF=%FF")) == {"a": "x"}


def test_list_in_which_one_value_is_not_text_is_refused() -> None:
    assert refusal({"a": fields.List(fields.Str())}, Call(query="a=x&a=%FF")) == (
        422,
        {"a": NOT_TEXT},
    )


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


# --- parts without a file name ---------------------------------------------------------------

Nameless = Callable[..., FilePart]


@pytest.fixture
def nameless(tmp_path: Path) -> Nameless:
    """Return a function that makes a part without a file name, as the server stores it."""

    def nameless(content: bytes, content_type: str) -> FilePart:
        path = tmp_path / str(len(list(tmp_path.iterdir())))
        path.write_bytes(content)
        return FilePart(str(path), content_type, "")

    return nameless


@pytest.mark.parametrize("kind", ["image/png", JSON, "text/csv", "text/plain", "a/b+json", ""])
def test_part_without_file_name_is_a_file_for_a_file_field(nameless: Nameless, kind: str) -> None:
    part = nameless(b"\xff\xfe", kind)
    expected = UploadedFile("a", part.path, kind or "application/octet-stream", "unnamed")
    assert load({"a": file_field()}, by_parts(("a", part))) == {"a": expected}
    field = fields.List(fields.Raw(), metadata={"location": "files"})
    assert load({"a": field}, by_parts(("a", part))) == {"a": [expected]}


@pytest.mark.parametrize("kind", ["image/png", JSON, ""])
def test_empty_part_without_file_name_is_no_file(nameless: Nameless, kind: str) -> None:
    part = nameless(b"", kind)
    assert load({"a": file_field()}, by_parts(("a", part))) == {"a": ""}


def test_empty_file_with_a_name_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    part = FilePart(str(tmp_path / "f"), "", "f.txt")
    loaded = load({"a": file_field()}, by_parts(("a", part)))
    assert loaded["a"].original_filename == "f.txt"


@pytest.mark.parametrize("empty", ["", None])
def test_empty_parts_are_no_items_of_a_list_of_files(nameless: Nameless, empty: str | None) -> None:
    nothing = nameless(b"", "image/png") if empty is None else empty
    field = fields.List(file_field())
    loaded = load({"a": field}, by_parts(("a", nothing), ("a", CAT), ("a", nothing)))
    assert [file.original_filename for file in loaded["a"]] == ["cat.png"]
    assert load({"a": field}, by_parts(("a", nothing))) == {"a": []}


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", "nonsense", "text"])
@pytest.mark.parametrize("content", [b"\xff\xfe", b""])
def test_part_that_is_neither_text_nor_json_is_bytes(
    nameless: Nameless, kind: str, content: bytes
) -> None:
    assert load({"a": fields.Raw()}, by_parts(("a", nameless(content, kind)))) == {"a": content}


def test_fields_of_texts_and_numbers_read_bytes(nameless: Nameless) -> None:
    declared = {"a": fields.Str(), "b": fields.Int(), "c": fields.Bool()}
    parts = [(name, nameless(b"1", "x/y")) for name in "abc"]
    call = by_parts(*parts)
    assert refusal(declared, call) == (422, {"c": ["Not a valid boolean."]})
    del declared["c"]
    assert load(declared, call) == {"a": "1", "b": 1}
    assert refusal({"a": fields.Str()}, by_parts(("a", nameless(b"\xff", "x/y")))) == (
        422,
        {"a": ["Not a valid utf-8 string."]},
    )


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("text/csv", "ä;1".encode()),
        ("text/csv; charset=latin-1", "ä;1".encode("latin-1")),
        ("Text/Markdown; charset=UTF-16", "ä;1".encode("utf-16")),
        ("", "ä;1".encode()),
        (JSON, "ä;1".encode()),
        ("application/geo+json; charset=latin-1", "ä;1".encode("latin-1")),
    ],
)
@pytest.mark.parametrize("field", [fields.Str(), fields.Raw(), fields.DelimitedList(fields.Str())])
def test_part_of_text_is_decoded_by_its_charset(
    nameless: Nameless, kind: str, content: bytes, field: Any
) -> None:
    expected = ["ä;1"] if isinstance(field, fields.DelimitedList) else "ä;1"
    assert load({"a": field}, by_parts(("a", nameless(content, kind)))) == {"a": expected}


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("text/csv", b"\xff", "The part is not text in the charset 'utf-8'."),
        ("text/csv; charset=utf-7", b"+2AA-", "The part is not text in the charset 'utf-7'."),
        (f"{JSON}; charset=nope", b"{}", "Unknown charset 'nope'."),
        (f"{JSON}; charset=punycode", b"{}", "Unknown charset 'punycode'."),
    ],
)
def test_part_that_is_not_in_its_charset_is_refused(
    nameless: Nameless, kind: str, content: bytes, message: str
) -> None:
    call = by_parts(("a", nameless(content, kind)), ("b", "x"))
    declared = {"a": fields.Str(required=True), "b": fields.Int()}
    assert refusal(declared, call) == (422, {"a": [message], "b": ["Not a valid integer."]})


# --- JSON in parts ---------------------------------------------------------------------------


class Point(Schema):
    x = fields.Int(required=True)
    y = fields.Float()


@pytest.mark.parametrize("kind", [JSON, "Application/JSON; charset=utf-8", "application/geo+json"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        (fields.Dict(), {"a": [1, {"b": None}], "ä": "€"}),
        (fields.Nested(Point), {"x": 2**80 + 1, "y": 0.5}),
        (fields.Nested(Point, many=True), [{"x": 1}, {"x": 2}]),
        (fields.List(fields.Int()), [1, 2**80 + 1]),
        (fields.List(fields.List(fields.Float())), [[1.0], [2.5]]),
        (fields.List(fields.Nested(Point)), [{"x": 1}, {"x": 2}]),
        (fields.List(fields.Str()), ["a", "b"]),
        (fields.List(fields.Str()), []),
        (fields.Dict(), {"integer": -(2**80) - 1}),
    ],
)
def test_json_part_is_parsed_for_fields_with_a_structure(
    nameless: Nameless, field: Any, value: Any, kind: str
) -> None:
    part = nameless(json.dumps(value, ensure_ascii=False).encode(), kind)
    loaded = load({"a": field}, by_parts(("a", part)))
    assert loaded == {"a": value}
    assert json.dumps(loaded["a"], sort_keys=True) == json.dumps(value, sort_keys=True)


def test_tuple_may_come_as_json(nameless: Nameless) -> None:
    field = fields.Tuple((fields.Int(), fields.Str()))
    assert load({"a": field}, by_parts(("a", nameless(b'[1, "x"]', JSON)))) == {"a": (1, "x")}


@pytest.mark.parametrize(
    ("contents", "value"),
    [
        ([b"1", b"2"], [1, 2]),
        ([b"1"], [1]),
        ([b'"1"'], [1]),
    ],
)
def test_several_json_parts_are_the_items_of_a_list(
    nameless: Nameless, contents: list[bytes], value: Any
) -> None:
    parts = [("a", nameless(content, JSON)) for content in contents]
    assert load({"a": fields.List(fields.Int())}, by_parts(*parts)) == {"a": value}


def test_several_json_objects_are_the_items_of_a_list(nameless: Nameless) -> None:
    parts = [("a", nameless(b'{"x": %d}' % x, JSON)) for x in (1, 2)]
    field = fields.List(fields.Nested(Point))
    assert load({"a": field}, by_parts(*parts)) == {"a": [{"x": 1}, {"x": 2}]}
    assert load({"a": field}, by_parts(parts[0])) == {"a": [{"x": 1}]}


def test_null_in_a_json_part_is_null(nameless: Nameless) -> None:
    call = by_parts(("a", nameless(b"null", JSON)))
    for field in (fields.Dict(), fields.List(fields.Int())):
        assert refusal({"a": field}, call) == (422, {"a": ["Field may not be null."]})
        nullable = type(field)(*([fields.Int()] if field.__class__ is fields.List else []))
        nullable.allow_none = True
        assert load({"a": nullable}, call) == {"a": None}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "Expecting value: line 1 column 1 (char 0)"),
        (b"{'a': 1}", "Expecting property name enclosed in double quotes"),
        (b'{"a": 1} x', "Extra data: line 1 column 10 (char 9)"),
        (b'{"a": "\xff"}', "'utf-8' codec can't decode byte 0xff"),
        (b"[" * 200_000, "it is nested too deeply"),
        (b"1" * 5000, "Exceeds the limit"),
    ],
    ids=["empty", "quotes", "more", "no utf-8", "deep", "digits"],
)
def test_malformed_json_part_is_refused_with_the_other_messages(
    nameless: Nameless, content: bytes, why: str
) -> None:
    call = by_parts(("a", nameless(content, JSON)), ("b", "x"))
    declared = {"a": fields.Dict(required=True), "b": fields.Int()}
    status, messages = refusal(declared, call)
    assert status == 422
    assert messages.pop("b") == ["Not a valid integer."]
    ((message,),) = messages.values()
    assert message.startswith(f"The part is not valid JSON: {why}")


def test_malformed_json_part_is_refused_by_the_name_on_the_wire(nameless: Nameless) -> None:
    call = by_parts(("wire", nameless(b"{", JSON)))
    assert list(refusal({"a": fields.Dict(data_key="wire")}, call)[1]) == ["wire"]


@pytest.mark.parametrize(
    ("field", "value"), [(fields.Int(), 5), (fields.Str(), "5"), (fields.Raw(), "5")]
)
def test_json_part_is_text_for_other_fields(nameless: Nameless, field: Any, value: Any) -> None:
    assert load({"a": field}, by_parts(("a", nameless(b"5", JSON)))) == {"a": value}


def test_json_with_a_file_name_is_a_file_unless_an_object_is_needed(nameless: Nameless) -> None:
    part = FilePart(nameless(b"{}", JSON).path, JSON, "a.json")
    assert load({"a": fields.Dict()}, by_parts(("a", part))) == {"a": {}}
    loaded = load({"a": fields.List(fields.Dict())}, by_parts(("a", part), ("a", part)))
    assert loaded == {"a": [{}, {}]}
    assert load({"a": fields.Raw()}, by_parts(("a", part)))["a"].original_filename == "a.json"
    assert refusal({"a": fields.Int()}, by_parts(("a", part)))[0] == 422


def test_json_with_a_file_name_is_a_file_for_a_hook_that_takes_it(nameless: Nameless) -> None:
    class Named(Schema):
        name = fields.Str()

        @pre_load
        def of_file(self, data: Any, **kwargs: Any) -> Any:
            return {"name": data.original_filename}

    part = FilePart(nameless(b"{}", JSON).path, JSON, "a.json")
    assert load({"a": fields.Nested(Named)}, by_parts(("a", part))) == {"a": {"name": "a.json"}}
