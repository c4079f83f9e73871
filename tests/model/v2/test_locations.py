"""Arguments can be in several places, and lists can have several values."""

from __future__ import annotations

import pytest
from marshmallow.warnings import RemovedInMarshmallow4Warning
from webargs import fields

from deepaas.model.v2.arguments import Arguments
from deepaas.model.v2.exchange import Call
from tests.model.v2.calls import JSON, by_form, by_json, by_parts, by_query, load, refusal

# --- places of arguments ---------------------------------------------------------------------


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
