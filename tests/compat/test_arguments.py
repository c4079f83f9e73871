"""How the server finds the arguments of a request, and how fields convert them."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.conftest import Serve
from tests.support import Part, Server, multipart, predictions

Pairs = list[tuple[str, str]]

# The arguments that tests/zoo/rich.py receives when only "required" is sent.
DEFAULTS = {
    "number": 3,
    "real": 0.5,
    "switch": True,
    "integers": [1, 2],
    "bounded": 5,
    "choice": "a",
    "choice_enum": "x",
    "choice_both": "x",
    "nothing": None,
    "nothing_new": None,
    "called": 7,
    "required": "r",
    "loud": "quiet",
    "demo-int": 1,
}


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all(
        {
            "echo": "zoo.echo",
            "rich": "zoo.rich",
            "bound": "zoo.bound",
            "subclassed": "zoo.subclassed",
            "named": "zoo.named_arguments",
        }
    )


def by_query(server: Server, pairs: Pairs) -> httpx.Response:
    return server.predict("rich", params=[("required", "r"), *pairs])


def by_form(server: Server, pairs: Pairs) -> httpx.Response:
    body = str(httpx.QueryParams([("required", "r"), *pairs]))
    kind = "application/x-www-form-urlencoded"
    return server.predict("rich", content=body, headers={"Content-Type": kind})


def by_multipart(server: Server, pairs: Pairs) -> httpx.Response:
    parts = [Part(name, value.encode()) for name, value in [("required", "r"), *pairs]]
    return server.predict("rich", **multipart(*parts))


SENDERS = pytest.mark.parametrize("send", [by_query, by_form, by_multipart])


def by_json(server: Server, **values: Any) -> httpx.Response:
    return server.predict("rich", json={"required": "r", **values})


def refused(response: httpx.Response) -> Any:
    """Return the messages of a request that was refused as invalid."""
    assert response.status_code == 422, response.text
    assert response.headers["Content-Type"].startswith("application/json")
    return response.json()


# --- defaults and absence


def test_defaults_are_passed_and_absent_arguments_are_not(server: Server) -> None:
    assert predictions(server.predict("rich", params={"required": "r"})) == DEFAULTS


def test_missing_required_argument_is_422(server: Server) -> None:
    response = server.predict("rich")
    assert refused(response) == {"required": ["Missing data for required field."]}


def test_without_arguments_predict_is_called_with_none(server: Server) -> None:
    assert predictions(server.predict("echo")) == {}


def test_parameters_of_predict_keep_their_own_defaults(server: Server) -> None:
    assert predictions(server.predict("named", params={"text": "ab"})) == "abab"


def test_parameters_of_predict_may_have_names(server: Server) -> None:
    assert predictions(server.predict("named", params={"text": "ab", "times": "3"})) == "ababab"


# --- locations


def test_unknown_arguments_are_ignored(server: Server) -> None:
    response = server.predict("echo", params={"unknown": "q", "text": "a"}, json={"other": "j"})
    assert predictions(response) == {"text": ["str", "a"]}


def test_query_comes_before_the_form(server: Server) -> None:
    response = server.predict("echo", params={"text": "query"}, data={"text": "form"})
    assert predictions(response) == {"text": ["str", "query"]}


def test_query_comes_before_the_json_body(server: Server) -> None:
    response = server.predict("echo", params={"text": "query"}, json={"text": "json"})
    assert predictions(response) == {"text": ["str", "query"]}


def test_arguments_may_come_from_several_places(server: Server) -> None:
    response = server.predict("echo", params={"text": "query"}, json={"number": 4})
    assert predictions(response) == {"text": ["str", "query"], "number": ["int", 4]}


def test_first_hit_counts_even_if_it_is_wrong(server: Server) -> None:
    response = server.predict("echo", params={"number": "x"}, json={"number": 1})
    assert refused(response) == {"number": ["Not a valid integer."]}


@pytest.mark.parametrize("name", ["header", "HEADER"])
def test_location_headers_takes_a_header_of_any_case(server: Server, name: str) -> None:
    response = server.predict("rich", params={"required": "r"}, headers={name: "v"})
    assert predictions(response) == DEFAULTS | {"header": "v"}


def test_location_query_takes_the_query(server: Server) -> None:
    assert predictions(by_query(server, [("in_query", "v")])) == DEFAULTS | {"in_query": "v"}


@pytest.mark.parametrize("send", [by_form, by_multipart])
def test_location_form_takes_the_form(server: Server, send: Any) -> None:
    assert predictions(send(server, [("in_form", "v")])) == DEFAULTS | {"in_form": "v"}


def test_location_json_takes_the_json_body(server: Server) -> None:
    response = by_json(server, in_json={"a": 1}, in_json_too="v")
    assert predictions(response) == DEFAULTS | {"in_json": {"a": 1}, "in_json_too": "v"}


@pytest.mark.parametrize("name", ["in_form", "in_json_too", "header", "file"])
def test_argument_pinned_elsewhere_is_not_taken_from_the_query(server: Server, name: str) -> None:
    assert predictions(by_query(server, [(name, "v")])) == DEFAULTS


@pytest.mark.parametrize("send", [by_form, by_multipart])
@pytest.mark.parametrize("name", ["in_query", "in_json_too", "header"])
def test_argument_pinned_elsewhere_is_not_taken_from_a_form(
    server: Server, name: str, send: Any
) -> None:
    assert predictions(send(server, [(name, "v")])) == DEFAULTS


@pytest.mark.parametrize("name", ["in_query", "in_form", "header", "file"])
def test_argument_pinned_elsewhere_is_not_taken_from_json(server: Server, name: str) -> None:
    assert predictions(by_json(server, **{name: "v"})) == DEFAULTS


def test_headers_and_cookies_are_no_place_for_other_arguments(server: Server) -> None:
    response = server.predict("echo", headers={"text": "header", "Cookie": "text=cookie"})
    assert predictions(response) == {}


# --- scalars in query and forms


@SENDERS
@pytest.mark.parametrize(
    ("name", "sent", "got"),
    [
        ("text", "", ""),
        ("text", "é€😀 &=+%", "é€😀 &=+%"),
        ("number", "5", 5),
        ("number", " 5 ", 5),
        ("number", "-5", -5),
        ("real", "1.5", 1.5),
        ("real", "1e3", 1000.0),
        ("switch", "false", False),
        ("switch", "0", False),
        ("switch", "on", True),
        ("link", "http://example.org/a", "http://example.org/a"),
        ("day", "2024-02-29", "date 2024-02-29"),
        ("moment", "2024-02-29T12:00:00", "datetime 2024-02-29 12:00:00"),
        ("key", f"{0:031x}1", f"UUID 00000000-0000-0000-0000-{1:012x}"),
        ("exact", "1.50", "Decimal 1.50"),
        ("anything", "z", "z"),
        ("choice", "b", "b"),
        ("choice_tuple", "b", "b"),
        ("choice_enum", "not listed", "not listed"),
        ("loud", "abc", "ABC"),
        ("write", "v", "v"),
        ("nothing", "v", "v"),
        ("demo-int", "6", 6),
        ("bbox(N,W,S,E)", "1,2,3,4", "1,2,3,4"),
    ],
)
def test_scalar_is_made_by_its_field(
    server: Server, send: Any, name: str, sent: str, got: Any
) -> None:
    assert predictions(send(server, [(name, sent)])) == DEFAULTS | {name: got}


@SENDERS
@pytest.mark.parametrize(
    ("name", "sent", "messages"),
    [
        ("number", "", ["Not a valid integer."]),
        ("number", "5.5", ["Not a valid integer."]),
        ("real", "x", ["Not a valid number."]),
        ("real", "nan", ["Special numeric values (nan or infinity) are not permitted."]),
        ("real", "inf", ["Special numeric values (nan or infinity) are not permitted."]),
        ("switch", "maybe", ["Not a valid boolean."]),
        ("link", "x", ["Not a valid URL."]),
        ("day", "x", ["Not a valid date."]),
        ("bounded", "0", ["Must be greater than or equal to 1 and less than or equal to 10."]),
        ("bounded", "11", ["Must be greater than or equal to 1 and less than or equal to 10."]),
        ("bounded_list", "11", ["Must be less than or equal to 10."]),
        ("choice", "c", ["Must be one of: a, b."]),
        ("choice_tuple", "c", ["Must be one of: a, b."]),
        ("mapping", '{"a": 1}', ["Not a valid mapping type."]),
        ("nested", '{"city": "x"}', {"_schema": ["Invalid input type."]}),
        ("secret", "v", ["Unknown field."]),
    ],
)
def test_scalar_that_its_field_refuses_is_422(
    server: Server, send: Any, name: str, sent: str, messages: Any
) -> None:
    assert refused(send(server, [(name, sent)])) == {name: messages}


@SENDERS
def test_first_of_repeated_scalars_counts(server: Server, send: Any) -> None:
    assert predictions(send(server, [("number", "5"), ("number", "6")])) == DEFAULTS | {"number": 5}


@SENDERS
def test_data_key_is_the_name_on_the_wire(server: Server, send: Any) -> None:
    assert predictions(send(server, [("on-the-wire", "v")])) == DEFAULTS | {"wire": "v"}


@SENDERS
def test_python_name_of_a_data_key_is_unknown(server: Server, send: Any) -> None:
    assert predictions(send(server, [("wire", "v")])) == DEFAULTS


def test_every_invalid_argument_is_named(server: Server) -> None:
    response = server.predict("rich", params={"number": "x", "bounded": "0", "choice": "z"})
    assert refused(response) == {
        "number": ["Not a valid integer."],
        "bounded": ["Must be greater than or equal to 1 and less than or equal to 10."],
        "choice": ["Must be one of: a, b."],
        "required": ["Missing data for required field."],
    }


def test_plus_is_a_space_in_a_form(server: Server) -> None:
    kind = "application/x-www-form-urlencoded"
    response = server.predict("echo", content=b"text=a+b%20c", headers={"Content-Type": kind})
    assert predictions(response) == {"text": ["str", "a b c"]}


# --- lists in query and forms


@SENDERS
@pytest.mark.parametrize(
    ("name", "sent", "got"),
    [
        ("strings", ["a", "b"], ["a", "b"]),
        ("strings", ["a"], ["a"]),
        ("strings", [""], [""]),
        ("strings", ["1,2"], ["1,2"]),
        ("reals", ["1", "2.5"], [1.0, 2.5]),
        ("integers", ["4"], [4]),
        ("pair", ["1", "2"], [1.0, 2.0]),
        ("contains", ["p", "q"], ["p", "q"]),
        ("some", ["1", "1"], ["1", "1"]),
    ],
)
def test_repeated_keys_make_a_list(
    server: Server, send: Any, name: str, sent: list[str], got: Any
) -> None:
    response = send(server, [(name, value) for value in sent])
    assert predictions(response) == DEFAULTS | {name: got}


@SENDERS
@pytest.mark.parametrize(
    ("name", "sent", "messages"),
    [
        ("reals", ["1,2"], {"0": ["Not a valid number."]}),
        ("reals", ["[1,2]"], {"0": ["Not a valid number."]}),
        (
            "reals",
            ["1", "x", "2", "y"],
            {"1": ["Not a valid number."], "3": ["Not a valid number."]},
        ),
        ("pair", ["1"], ["Length must be 2."]),
        ("some", ["1", "1", "1", "1"], ["Length must be between 1 and 3."]),
        ("contains", ["p", "z"], ["One or more of the choices you made was not in: p, q."]),
    ],
)
def test_list_that_its_field_refuses_is_422(
    server: Server, send: Any, name: str, sent: list[str], messages: Any
) -> None:
    assert refused(send(server, [(name, value) for value in sent])) == {name: messages}


# --- JSON


@pytest.mark.parametrize(
    ("name", "sent", "got"),
    [
        ("text", "é€😀", "é€😀"),
        ("number", 5, 5),
        ("number", "5", 5),
        ("number", 5.7, 5),
        ("real", 1, 1.0),
        ("switch", False, False),
        ("switch", "yes", True),
        ("strings", ["a", "b"], ["a", "b"]),
        ("strings", [], []),
        ("strings", "a", ["a"]),
        ("reals", [1, "2"], [1.0, 2.0]),
        ("integers", [1.5], [1]),
        ("pair", [1, 2], [1.0, 2.0]),
        ("nested", {"city": "x"}, {"city": "x"}),
        ("nested", {"city": "x", "zip_code": "5"}, {"city": "x", "zip_code": 5}),
        ("mapping", {"a": [1]}, {"a": [1]}),
        ("anything", [1, {"a": None}], [1, {"a": None}]),
        ("nothing", None, None),
        ("nothing_new", None, None),
        ("demo-int", "9", 9),
        ("bbox(N,W,S,E)", "1,2", "1,2"),
        ("day", "2024-02-29", "date 2024-02-29"),
    ],
)
def test_json_value_is_made_by_its_field(server: Server, name: str, sent: Any, got: Any) -> None:
    assert predictions(by_json(server, **{name: sent})) == DEFAULTS | {name: got}


@pytest.mark.parametrize(
    ("name", "sent", "messages"),
    [
        ("text", 5, ["Not a valid string."]),
        ("text", None, ["Field may not be null."]),
        ("number", True, ["Not a valid integer."]),
        ("switch", 2, ["Not a valid boolean."]),
        ("real", "x", ["Not a valid number."]),
        ("strings", [1], {"0": ["Not a valid string."]}),
        ("strings", {"a": 1}, {"0": ["Not a valid string."]}),
        ("reals", "1,2", {"0": ["Not a valid number."]}),
        ("reals", ["x", 1, "y"], {"0": ["Not a valid number."], "2": ["Not a valid number."]}),
        ("integers", [True], {"0": ["Not a valid integer."]}),
        ("pair", [1, 2, 3], ["Length must be 2."]),
        ("nested", {}, {"city": ["Missing data for required field."]}),
        ("nested", {"city": "a", "zz": 1}, {"zz": ["Unknown field."]}),
        ("nested", [], {"_schema": ["Invalid input type."]}),
        ("mapping", [], ["Not a valid mapping type."]),
        ("anything", None, ["Field may not be null."]),
        ("in_json_too", 5, ["Not a valid string."]),
        ("secret", "v", ["Unknown field."]),
    ],
)
def test_json_value_that_its_field_refuses_is_422(
    server: Server, name: str, sent: Any, messages: Any
) -> None:
    assert refused(by_json(server, **{name: sent})) == {name: messages}


def test_data_key_is_the_name_in_json(server: Server) -> None:
    response = by_json(server, **{"on-the-wire": "v", "wire": "ignored"})
    assert predictions(response) == DEFAULTS | {"wire": "v"}


def test_empty_json_body_holds_no_arguments(server: Server) -> None:
    response = server.predict("echo", content=b"", headers={"Content-Type": "application/json"})
    assert predictions(response) == {}


@pytest.mark.mended("it is taken for a body without arguments")
@pytest.mark.parametrize("body", [b"[1, 2]", b'"text"', b"null", b"5"])
def test_json_body_that_is_no_object_is_refused(server: Server, body: bytes) -> None:
    response = server.predict("echo", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 422
    assert response.json() == {"json": ["The JSON body must be an object."]}


@pytest.mark.parametrize(
    "kind",
    ["application/json", "application/json; charset=utf-8", "application/vnd.example+json"],
)
def test_json_is_known_by_its_content_type(server: Server, kind: str) -> None:
    response = server.predict("echo", content=b'{"text": "a"}', headers={"Content-Type": kind})
    assert predictions(response) == {"text": ["str", "a"]}


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", "nonsense"])
def test_body_of_another_type_holds_no_arguments(server: Server, kind: str) -> None:
    response = server.predict("echo", content=b'{"text": "a"}', headers={"Content-Type": kind})
    assert predictions(response) == {}


@pytest.mark.parametrize("body", [b"{nope", b"{'text': 'a'}", b"\xff\xfe", b'{"text": "a"'])
def test_malformed_json_is_400(server: Server, body: bytes) -> None:
    response = server.predict("echo", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert response.headers["Content-Type"].startswith("application/json")
    assert response.json() == {"json": ["Invalid JSON body."]}


def test_last_of_repeated_json_keys_counts(server: Server) -> None:
    body = b'{"text": "a", "text": "b"}'
    response = server.predict("echo", content=body, headers={"Content-Type": "application/json"})
    assert predictions(response) == {"text": ["str", "b"]}


def test_chunked_json_body_is_read(server: Server) -> None:
    answer = server.raw(
        b"POST /v2/models/echo/predict/ HTTP/1.1\r\nHost: localhost\r\n"
        b"Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n"
        b'5\r\n{"tex\r\n7\r\nt":"a"}\r\n0\r\n\r\n'
    )
    assert answer.status == 200
    assert json.loads(answer.body)["predictions"] == {"text": ["str", "a"]}


@pytest.mark.mended("500")
@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=abc", "multipart/form-data"])
def test_malformed_multipart_is_400(server: Server, kind: str) -> None:
    response = server.predict("echo", content=b"garbage", headers={"Content-Type": kind})
    assert response.status_code == 400


# --- fields that the module defines


def test_bound_fields_are_used(server: Server) -> None:
    assert predictions(server.predict("bound", params={"texts": "a"})) == {
        "number": 3,
        "texts": ["a"],
    }


def test_bound_field_with_data_key_goes_by_both_names(server: Server) -> None:
    response = server.predict("bound", params={"texts": "a", "wire-name": "r"})
    assert predictions(response) == {"number": 3, "texts": ["a"], "renamed": "r"}


def test_validator_of_a_bound_field_is_used(server: Server) -> None:
    response = server.predict("bound", params={"texts": "a", "number": "0"})
    assert refused(response) == {"number": ["Must be greater than or equal to 1."]}


def test_bound_dump_only_field_is_no_input(server: Server) -> None:
    response = server.predict("bound", params={"texts": "a", "shown": "s"})
    assert refused(response) == {"shown": ["Unknown field."]}


def test_overridden_deserialize_sees_what_is_absent(server: Server) -> None:
    got = predictions(server.predict("subclassed", params={"messages": "1"}))
    assert got["arguments"] == {
        "always": "was missing",
        "noted": "nothing",
        "letter": None,
        "messages": 1,
        "constant": 5,
    }


def test_overridden_methods_make_the_values(server: Server) -> None:
    sent = {"messages": "1", "always": "v", "noted": "n", "letter": "a", "even": "2", "method": "m"}
    got = predictions(server.predict("subclassed", params=sent))
    assert got["arguments"] == {
        "always": "deserialized v",
        "noted": "n",
        "letter": 97,
        "even": 2,
        "messages": 1,
        "constant": 5,
        "method": "function m",
    }


def test_validators_and_messages_of_the_module_are_used(server: Server) -> None:
    sent = {"messages": "x", "noted": "bad", "letter": "ab", "even": "3", "truthy": "0"}
    response = server.predict("subclassed", params=sent)
    assert refused(response) == {
        "noted": ["Bad it is."],
        "letter": ["One letter, please."],
        "even": ["Must be even."],
        "truthy": ["Invalid value."],
        "messages": ["No number."],
    }


def test_message_for_a_required_argument_is_the_modules(server: Server) -> None:
    assert refused(server.predict("subclassed")) == {"messages": ["Say a number."]}


def test_constant_cannot_be_given(server: Server) -> None:
    sent = {"messages": "1", "constant": "9"}
    got = predictions(server.predict("subclassed", params=sent))
    assert got["arguments"]["constant"] == 5


def test_refused_request_leaves_the_next_unharmed(server: Server) -> None:
    assert server.predict("echo", params={"number": "x"}).status_code == 422
    assert predictions(server.predict("echo", params={"number": "1"})) == {"number": ["int", 1]}


@pytest.mark.mended("what validators note is lost")
def test_validation_runs_where_predict_runs(server: Server) -> None:
    sent = {"messages": "1", "noted": "n"}
    got = predictions(server.predict("subclassed", params=sent))
    assert got["validated"] == ["n"]
