"""Finding the arguments of a call that the model does not have, and the names that are shown."""

from __future__ import annotations

from typing import Any

import pytest
from webargs import fields

from deepaas.model.v2.arguments import Arguments, InvalidArgumentsError
from deepaas.model.v2.exchange import Call, Unknown
from tests.model.v2.calls import JSON, URLENCODED, by_form, by_json, by_parts, by_query

ARGUMENTS = Arguments(
    {
        "text": fields.Str(),
        "count": fields.Int(),
        "renamed": fields.Str(data_key="on-the-wire"),
        "pinned": fields.Str(metadata={"location": "query"}),
    }
)


def unknown(call: Call, arguments: Arguments = ARGUMENTS) -> Unknown | None:
    arguments.load(call)
    return call.unknown


@pytest.mark.parametrize(
    "call",
    [
        Call(),
        by_query(("text", "a"), ("count", "1"), ("on-the-wire", "b"), ("pinned", "c")),
        by_query(("text", "a"), ("text", "b")),
        by_form(("text", "a"), ("count", "1")),
        by_parts(("text", "a"), ("count", "1")),
        by_json({"text": "a", "count": 1}),
        by_json({}),
        by_json(b""),
    ],
)
def test_call_with_nothing_but_arguments_has_no_unknown_ones(call: Call) -> None:
    assert unknown(call) is None


@pytest.mark.parametrize("pair", [("txt", "a"), ("renamed", "a"), ("bbox(N,W,S,E)", "a")])
@pytest.mark.parametrize("by", [by_query, by_form, by_parts, lambda pair: by_json(dict([pair]))])
def test_unknown_name_is_found_in_every_place(pair: tuple[str, str], by: Any) -> None:
    assert unknown(by(pair)) == Unknown([pair[0]])


@pytest.mark.parametrize("place", ["query", "form", "parts", "json"])
def test_name_is_found_in_a_place_where_nothing_was_looked_for(place: str) -> None:
    arguments = Arguments({"text": fields.Str()})
    call = {
        "query": Call(),
        "form": by_form(("more", "1")),
        "parts": by_parts(("more", "1")),
        "json": by_json({"more": 1}),
    }[place]
    call.query = "text=a" if place != "query" else "text=a&more=1"
    assert unknown(call, arguments) == Unknown(["more"])


def test_argument_that_is_looked_for_elsewhere_is_unknown_where_it_is() -> None:
    assert unknown(by_json({"pinned": "a"})) == Unknown(["pinned"])
    assert unknown(by_form(("pinned", "a"))) == Unknown(["pinned"])


def test_function_without_arguments_knows_none() -> None:
    arguments = Arguments({})
    assert unknown(by_json({"a": 1}), arguments) == Unknown(["a"])
    assert unknown(by_query(("a", "1")), arguments) == Unknown(["a"])


def test_refused_call_names_them_too() -> None:
    call = by_json({"count": "many", "txt": 1})
    with pytest.raises(InvalidArgumentsError):
        ARGUMENTS.load(call)
    assert call.unknown == Unknown(["txt"])


SECRET = "hunter2"
HIDDEN = {
    "a body that is no form": Call(content_type=URLENCODED, body=SECRET.encode()),
    "the same in base64": Call(content_type=URLENCODED, body=b"aHVudGVyMg=="),
    "a query without a name": Call(query=SECRET),
    "JSON as a form": Call(content_type=URLENCODED, body=b'{"password":"hunter2"}'),
    "a pair within a name": by_query(("x&password=hunter2", "1")),
    "a name with blanks": by_json({"password is hunter2": 1}),
    "a name with a quotation mark": by_json({'"': 1}),
    "a name with a line break": by_json({"a\nb": 1}),
    "an empty name": by_json({"": 1}),
    "a long name": by_json({"a" * 65: 1}),
    "a name with lone surrogates": Call(content_type=JSON, body=b'{"a\\ud800": 1}'),
    "a name that is not in UTF-8": Call(query="a%ff=1"),
}


@pytest.mark.parametrize("call", HIDDEN.values(), ids=HIDDEN)
def test_text_that_may_be_no_name_is_counted_and_not_shown(call: Call) -> None:
    found = unknown(call)
    assert found is not None
    assert (found.names, found.others) == ([], 1)


def test_json_that_is_sent_as_a_form_is_recognized() -> None:
    assert unknown(HIDDEN["JSON as a form"]) == Unknown([], 1, True)
    assert unknown(HIDDEN["a body that is no form"]) == Unknown([], 1, False)


def test_ten_names_are_shown_and_the_others_counted() -> None:
    call = by_json({f"name{number}": 1 for number in range(5000)})
    assert unknown(call) == Unknown([f"name{number}" for number in range(10)], 4990)


def test_name_in_several_places_is_shown_once() -> None:
    call = by_json({"more": 1})
    call.query = "more=1"
    assert unknown(call) == Unknown(["more"])


def test_malformed_body_that_nothing_depends_on_is_left_alone() -> None:
    arguments = Arguments({"text": fields.Str()})
    call = Call(query="text=a", content_type=JSON, body=b"{")
    assert arguments.load(call)[0] == {"text": "a"}
    assert call.unknown is None


def test_large_body_is_not_read_only_for_its_names() -> None:
    arguments = Arguments({"text": fields.Str()})
    call = by_json({"more": "x" * 70_000})
    call.query = "text=a"
    assert unknown(call, arguments) is None
