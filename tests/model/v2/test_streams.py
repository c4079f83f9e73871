"""Media types of streams, and the format of their items and errors."""

from __future__ import annotations

import datetime
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from webargs import fields

from deepaas.model.v2.results import ResultSchema, UnusableResultError, encode_item
from deepaas.streams import EVENTS, NDJSON, error_frame, frame, stream_type

JSON = "application/json"


@pytest.mark.parametrize(
    ("accept", "media_type", "expected"),
    [
        ("", JSON, NDJSON),
        ("*/*", JSON, NDJSON),
        ("application/json", JSON, NDJSON),
        ("", "text/plain", "text/plain"),
        ("text/plain", "text/plain", "text/plain"),
        ("text/event-stream", JSON, EVENTS),
        ("Text/Event-Stream", JSON, EVENTS),
        ("application/json, text/event-stream;q=0.1", JSON, EVENTS),
        ("text/event-stream", "text/plain", EVENTS),
        ("text/event", JSON, NDJSON),
    ],
)
def test_type_of_a_stream(accept: str, media_type: str, expected: str) -> None:
    assert stream_type(accept, media_type) == expected


def test_frames() -> None:
    assert frame(EVENTS, b"[1]") == b"data: [1]\n\n"
    assert frame(NDJSON, b"[1]") == b"[1]\n"


def test_frames_of_errors() -> None:
    event = error_frame(EVENTS, "code", "two\nlines")
    assert event == b'event: error\ndata: {"message":"two\\nlines","code":"code"}\n\n'
    line = error_frame(NDJSON, "code", "ä")
    assert line == '{"error":{"message":"ä","code":"code"}}\n'.encode()
    assert error_frame("text/plain", "code", "text") is None
    assert error_frame("application/octet-stream", "code", "text") is None


# --- items


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "null"),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        ("text", '"text"'),
        (b"bytes", '"bytes"'),
        (bytearray(b"array"), '"array"'),
        (memoryview(b"view"), '"view"'),
        (float("nan"), "null"),
        (datetime.date(2024, 1, 2), '"2024-01-02"'),
        (2**70, str(2**70)),
        ((1, 2), "[1,2]"),
    ],
)
def test_item_of_json_is_a_frame(value: Any, expected: str) -> None:
    assert encode_item(value, NDJSON) == f"{expected}\n".encode()
    assert encode_item(value, EVENTS) == f"data: {expected}\n\n".encode()


@pytest.mark.parametrize("value", [object(), len, b"\xff", [b"inner"], 1j])
@pytest.mark.parametrize("media_type", [NDJSON, EVENTS])
def test_item_that_json_cannot_hold(value: Any, media_type: str) -> None:
    with pytest.raises(UnusableResultError) as caught:
        encode_item(value, media_type)
    assert caught.value.code == "result_not_encodable"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"\x00\xff", b"\x00\xff"),
        ("größer", "größer".encode()),
        ("", b""),
        (None, b""),
        (bytearray(b"array"), b"array"),
        (memoryview(b"view"), b"view"),
        (io.BytesIO(b"buffer"), b"buffer"),
        (io.StringIO("text"), b"text"),
    ],
)
def test_item_of_another_media_type_is_bytes(value: Any, expected: bytes) -> None:
    assert encode_item(value, "text/plain") == expected


@pytest.mark.parametrize("value", [5, {"a": 1}, [b"a"], object()])
def test_item_that_is_no_content_of_its_media_type(value: Any) -> None:
    with pytest.raises(UnusableResultError, match="where image/png was requested"):
        encode_item(value, "image/png")


SCHEMA = ResultSchema({"n": fields.Int(required=True)})


def test_item_is_checked_by_the_schema() -> None:
    assert encode_item({"n": 1}, NDJSON, SCHEMA) == b'{"n":1}\n'
    for wrong in ({}, {"n": "many"}, {"n": 1, "m": 2}, 5):
        with pytest.raises(UnusableResultError) as caught:
            encode_item(wrong, EVENTS, SCHEMA)
        assert caught.value.code == "result_violates_schema"


def test_schema_is_that_of_json_alone() -> None:
    assert encode_item("text", "text/plain", SCHEMA) == b"text"


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(_json)
def test_item_is_one_line_whatever_is_in_it(value: Any) -> None:
    line = encode_item(value, NDJSON)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert b"\r" not in line
    event = encode_item(value, EVENTS)
    assert event == b"data: " + line + b"\n"
    if "inf" not in repr(value):
        assert json.loads(line) == value
