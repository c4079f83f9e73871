"""Responses to the values that `predict` returns."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.conftest import Serve
from tests.support import Server, predictions


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all(
        {
            "plain": "zoo.plain",
            "returns": "zoo.returns",
            "numpy": "zoo.numpies",
            "schema_dict": "zoo.schema_dict",
            "schema_class": "zoo.schema_class",
            "schema_media": "zoo.schema_media",
        }
    )


def returned(server: Server, kind: str, accept: str = "image/png") -> httpx.Response:
    """Return the response of `returns` for a kind of value and a media type."""
    return server.predict("returns", params={"kind": kind}, headers={"Accept": accept})


# --- JSON


def test_json_answer_has_status_and_predictions_in_this_order(server: Server) -> None:
    response = server.predict("plain", params={"kind": "int"})
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    assert response.headers["Content-Length"] == str(len(response.content))
    assert list(response.json().items()) == [("status", "OK"), ("predictions", 5)]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("none", None),
        ("str", "héllo"),
        ("bool", True),
        ("int", 5),
        ("big-int", 2**70),
        ("float", 0.1),
        ("list", [1, [2]]),
        ("tuple", [1, ["a", None]]),
        ("namedtuple", [1, 2]),
        ("dict", {"a": {"b": [1.5]}, "é": "ü"}),
        ("ordered", {"z": 1, "a": 2}),
        ("huge", "x" * 3_000_000),
    ],
)
def test_value_is_real_json(server: Server, kind: str, value: Any) -> None:
    assert predictions(server.predict("plain", params={"kind": kind})) == value


def test_order_of_keys_is_kept(server: Server) -> None:
    got = predictions(server.predict("plain", params={"kind": "ordered"}))
    assert list(got) == ["z", "a"]


def test_keys_that_are_no_text_become_text(server: Server) -> None:
    got = predictions(server.predict("plain", params={"kind": "int-keys"}))
    assert got == {"2": "a", "null": "b", "true": "c", "1.5": "d"}


def test_lone_surrogate_harms_nothing(server: Server) -> None:
    assert server.predict("plain", params={"kind": "surrogate"}).status_code == 200


@pytest.mark.mended("500")
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("set", [3]),
        ("frozenset", ["a"]),
        ("date", "2024-02-29"),
        ("datetime", "2024-02-29T12:30:01"),
        ("uuid", "00000000-0000-0000-0000-000000000001"),
    ],
)
def test_value_without_a_json_form_is_encoded(server: Server, kind: str, value: Any) -> None:
    assert predictions(server.predict("plain", params={"kind": kind})) == value


@pytest.mark.mended("NaN and Infinity, which are no JSON")
def test_nan_and_infinity_become_null(server: Server) -> None:
    response = server.predict("plain", params={"kind": "nan"})
    assert response.status_code == 200

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    answer = json.loads(response.content, parse_constant=refuse)
    assert answer["predictions"] == [None, 1.0, {"x": None, "y": None}]


@pytest.mark.mended("500")
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("array", [[0, 1, 2], [3, 4, 5]]),
        ("float32", {"score": 0.5}),
        ("int8", -3),
        ("bool", True),
        ("nan", [1.0, None]),
        ("float16", [0.5, 2.0]),
        ("strings", ["a", "b"]),
        ("fortran", [[0, 1], [2, 3]]),
        ("empty", []),
    ],
)
def test_numpy_value_is_encoded(server: Server, kind: str, value: Any) -> None:
    assert predictions(server.predict("numpy", params={"kind": kind})) == value


@pytest.mark.parametrize(("kind", "value"), [("float64", [0.25]), ("str", "text")])
def test_numpy_value_that_is_a_python_value_is_encoded(
    server: Server, kind: str, value: Any
) -> None:
    assert predictions(server.predict("numpy", params={"kind": kind})) == value


@pytest.mark.parametrize("kind", ["object", "function", "bytes"])
def test_value_that_cannot_be_encoded_is_500(server: Server, kind: str) -> None:
    assert server.predict("plain", params={"kind": kind}).status_code == 500
    assert predictions(server.predict("plain", params={"kind": "int"})) == 5


@pytest.mark.mended("only that something went wrong")
@pytest.mark.parametrize(
    ("kind", "named"), [("object", "object"), ("function", "function"), ("bytes", "bytes")]
)
def test_value_that_cannot_be_encoded_is_named(server: Server, kind: str, named: str) -> None:
    response = server.predict("plain", params={"kind": kind})
    assert response.status_code == 500
    answer = response.json()
    assert named in answer["message"]
    assert answer["code"]


# --- schemas


def test_schema_answer_is_the_value_itself(server: Server) -> None:
    response = server.predict("schema_class", params={"label": "a"})
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    assert response.json() == {"label": "a"}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("good", {"labels": ["a"], "score": "0.5"}),
        ("date", {"score": 1, "day": "2024-02-29"}),
    ],
)
def test_dict_schema_checks_and_leaves_the_value_as_it_is(
    server: Server, kind: str, value: Any
) -> None:
    response = server.predict("schema_dict", params={"kind": kind})
    assert response.status_code == 200
    assert response.json() == value


@pytest.mark.parametrize("kind", ["missing", "wrong", "unknown", "none", "list", "empty"])
def test_value_that_violates_the_schema_is_500(server: Server, kind: str) -> None:
    response = server.predict("schema_dict", params={"kind": kind})
    assert response.status_code == 500
    assert server.predict("schema_dict").status_code == 200


@pytest.mark.mended("nothing that says why")
@pytest.mark.parametrize(("kind", "named"), [("missing", "score"), ("unknown", "more")])
def test_violation_of_the_schema_is_named(server: Server, kind: str, named: str) -> None:
    answer = server.predict("schema_dict", params={"kind": kind}).json()
    assert named in answer["message"]
    assert answer["code"]


def test_schema_is_for_json_only(server: Server) -> None:
    response = server.predict("schema_media", params={"accept": "image/png"})
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "image/png"
    assert response.content == b"image"


def test_schema_holds_when_json_is_asked_for(server: Server) -> None:
    response = server.predict("schema_media", params={"accept": "application/json"})
    assert response.json() == {"label": "cat"}


# --- other media types


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("none", b""),
        ("str", "héllo".encode()),
        ("empty-str", b""),
        ("bytes", b"\x00\xff bytes"),
        ("bytearray", b"array"),
        ("bytesio", b"buffer"),
        ("stringio", b"text"),
        ("file", b"file content"),
    ],
)
def test_value_is_the_body(server: Server, kind: str, body: bytes) -> None:
    response = returned(server, kind)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "image/png"
    assert response.headers["Content-Length"] == str(len(body))
    assert response.content == body


def test_content_type_is_the_one_asked_for(server: Server) -> None:
    response = returned(server, "bytes", "application/zip")
    assert response.headers["Content-Type"] == "application/zip"


def test_text_is_sent_as_utf_8(server: Server) -> None:
    response = returned(server, "str", "text/plain")
    assert response.headers["Content-Type"].split(";")[0] == "text/plain"
    assert response.content.decode() == "héllo"


@pytest.mark.parametrize("kind", ["none", "str", "bytes", "bytesio", "stringio"])
def test_value_without_a_name_is_no_attachment(server: Server, kind: str) -> None:
    assert "Content-Disposition" not in returned(server, kind).headers


@pytest.mark.parametrize(
    ("kind", "name", "body"),
    [
        ("bytesio-named", "result.png", b"buffer"),
        ("file", "result.bin", b"file content"),
        ("file-read-on", "result.bin", b"file content"),
    ],
)
def test_value_with_a_name_is_an_attachment(
    server: Server, kind: str, name: str, body: bytes
) -> None:
    response = returned(server, kind)
    assert response.status_code == 200
    assert response.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    assert response.content == body


@pytest.mark.parametrize("kind", ["bytesio-odd-name", "file-odd-name"])
def test_odd_name_of_an_attachment_cannot_break_the_header(server: Server, kind: str) -> None:
    answer = server.raw_request(
        "POST",
        f"/v2/models/returns/predict/?kind={kind}",
        headers={"Accept": "image/png"},
    )
    assert answer.status == 200
    disposition = answer.header("Content-Disposition")
    assert disposition is not None
    assert disposition.startswith('attachment; filename="')
    assert disposition.isascii()
    assert answer.header("X-Evil") is None


def test_name_that_is_no_text_is_no_name(server: Server) -> None:
    response = returned(server, "bytesio-int-name")
    assert response.content == b"buffer"
    assert "Content-Disposition" not in response.headers


@pytest.mark.mended("500")
@pytest.mark.parametrize(
    ("kind", "body"), [("file-text", b"file content"), ("file-named-temporary", b"written")]
)
def test_other_open_files_are_sent(server: Server, kind: str, body: bytes) -> None:
    response = returned(server, kind)
    assert response.status_code == 200
    assert response.content == body


@pytest.mark.mended("an empty body")
def test_buffer_that_was_written_is_sent_from_its_start(server: Server) -> None:
    assert returned(server, "bytesio-written").content == b"written"


@pytest.mark.parametrize(
    ("kind", "value"), [("dict", {"a": 1}), ("int", 5), ("none", None), ("str", "héllo")]
)
def test_choice_of_json_wraps_as_ever(server: Server, kind: str, value: Any) -> None:
    assert predictions(returned(server, kind, "application/json")) == value


@pytest.mark.parametrize("kind", ["object", "int"])
def test_value_that_is_no_body_is_500(server: Server, kind: str) -> None:
    assert returned(server, kind).status_code == 500
    assert returned(server, "bytes").status_code == 200
