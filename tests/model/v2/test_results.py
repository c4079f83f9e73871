"""How the value that `predict` returned becomes a response."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from marshmallow import Schema
from webargs import fields, validate

from deepaas.model.v2.exchange import Reply
from deepaas.model.v2.results import (
    ResultSchema,
    UnusableResultError,
    encode,
    to_json,
)

JSON = "application/json"
PNG = "image/png"
HUGE = 2**70


def decoded(value: Any) -> Any:
    return json.loads(to_json(value))


def why_not(value: Any, media_type: str = JSON) -> str:
    with pytest.raises(UnusableResultError) as unusable:
        encode(value, media_type)
    assert unusable.value.code == "result_not_encodable"
    return str(unusable.value)


def body_of(reply: Reply) -> bytes:
    """Return the whole body, from the reply or from its file, and close the file."""
    if reply.fd < 0:
        return reply.body
    assert reply.body == b""
    with open(reply.fd, "rb") as file:
        return file.read()


def body(value: Any, media_type: str = PNG) -> bytes:
    return body_of(encode(value, media_type))


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def _no_descriptor_is_left() -> Iterator[None]:
    before = open_descriptors()
    yield
    assert open_descriptors() - before == set()


# --- the response ----------------------------------------------------------------------------


def test_json_answer_says_ok() -> None:
    assert encode({"a": 1}, JSON) == Reply(body=b'{"status":"OK","predictions":{"a":1}}')


def test_bytes_are_the_body() -> None:
    assert encode(b"\x89PNG", PNG) == Reply(body=b"\x89PNG", headers={"Content-Type": PNG})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", b""),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"abcd")[::2], b"ac"),
        ("ä", "ä".encode()),
        ("\udcff", b"\xed\xb3\xbf"),
        (None, b""),
        (io.BytesIO(b"ab"), b"ab"),
        (io.StringIO("ä"), "ä".encode()),
    ],
)
def test_body_of_another_media_type(value: Any, expected: bytes) -> None:
    assert encode(value, PNG) == Reply(body=expected, headers={"Content-Type": PNG})


def test_buffer_that_was_not_rewound_is_sent_whole() -> None:
    buffer = io.BytesIO()
    buffer.write(b"abc")
    assert body(buffer) == b"abc"


def test_text_buffer_that_was_not_rewound_is_sent_whole() -> None:
    buffer = io.StringIO()
    buffer.write("äbc")
    assert body(buffer) == "äbc".encode()


def test_buffer_is_sent_from_where_it_stands() -> None:
    buffer = io.BytesIO(b"abc")
    buffer.seek(1)
    assert body(buffer) == b"bc"


def test_name_of_a_buffer_is_the_file_name() -> None:
    buffer = io.BytesIO(b"abc")
    buffer.name = "folder/cat.png"
    assert encode(buffer, PNG) == Reply(
        body=b"abc",
        headers={
            "Content-Type": PNG,
            "Content-Disposition": 'attachment; filename="cat.png"',
        },
    )


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("a b.png", "a%20b.png"),
        ('a"b.png', "a%22b.png"),
        ("a\r\nX: y.png", "a%0D%0AX%3A%20y.png"),
        ("ä.png", "%C3%A4.png"),
        ("a;b,c=d.png", "a%3Bb,c%3Dd.png"),
    ],
)
def test_file_name_cannot_break_its_header(name: str, sent: str) -> None:
    buffer = io.BytesIO(b"")
    buffer.name = name
    headers = encode(buffer, PNG).headers
    assert headers is not None
    assert headers["Content-Disposition"] == f'attachment; filename="{sent}"'


@pytest.mark.parametrize("value", [{"a": 1}, [1], 1.5, object(), np.zeros(3)])
def test_what_has_no_bytes_is_told(value: Any) -> None:
    assert why_not(value, PNG) == (
        f"The model returned {type(value).__name__} where image/png was requested; "
        "this requires bytes, str, an open file or BytesIO"
    )


# --- files -----------------------------------------------------------------------------------


def test_open_file_is_sent_by_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(b"abc")
    with path.open("rb") as file:
        reply = encode(file, PNG)
    assert reply.fd >= 0
    assert not os.get_inheritable(reply.fd)
    assert reply.headers == {
        "Content-Type": PNG,
        "Content-Disposition": 'attachment; filename="cat.png"',
    }
    assert body_of(reply) == b"abc"


@pytest.mark.parametrize("mode", ["rb", "r", "r+b", "r+"])
def test_file_is_sent_from_its_start(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"abc")
    with path.open(mode) as file:
        file.read()
        assert body(file) == b"abc"


@pytest.mark.parametrize("mode", ["wb", "w", "ab", "w+"])
def test_file_that_was_not_flushed_is_sent_whole(tmp_path: Path, mode: str) -> None:
    with (tmp_path / "a.txt").open(mode) as file:
        file.write(b"abc" if "b" in mode else "abc")
        assert body(file) == b"abc"


def test_file_that_was_closed_is_sent(tmp_path: Path) -> None:
    with (tmp_path / "a.txt").open("w") as file:
        file.write("abc")
    assert body(file) == b"abc"


def test_file_that_is_removed_meanwhile_is_sent() -> None:
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        file.write(b"abc")
        reply = encode(file, PNG)
        name = file.name
    assert not os.path.exists(name)
    assert body_of(reply) == b"abc"


@pytest.mark.parametrize("mode", ["rb", "r+b", "ab"])
def test_open_file_whose_name_is_gone_is_sent(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"abc")
    with path.open(mode) as file:
        path.unlink()
        assert body(file) == b"abc"


def test_open_file_is_sent_though_another_file_has_its_name_now(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"own")
    with path.open("rb") as file:
        path.rename(tmp_path / "b.txt")
        path.write_bytes(b"other")
        assert body(file) == b"own"


def test_closed_file_whose_name_is_gone_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"abc")
    with path.open("rb") as file:
        path.unlink()
    assert why_not(file, PNG) == (
        "The model's result file cannot be opened: "
        f"[Errno 2] No such file or directory: {str(path)!r}"
    )


@pytest.mark.parametrize(
    ("name", "sent_as"),
    [
        ("chart.png", "image/png"),
        ("chart.JPG", "image/jpeg"),
        ("chart.pdf", "image/*"),
        ("chart", "image/*"),
        ("chart.svg.gz", "image/*"),
    ],
)
def test_name_of_a_file_tells_its_type_below_a_wildcard(name: str, sent_as: str) -> None:
    buffer = io.BytesIO(b"abc")
    buffer.name = name
    headers = encode(buffer, "image/*").headers
    assert headers is not None
    assert headers["Content-Type"] == sent_as


def test_result_without_a_name_is_of_the_wildcard_type() -> None:
    assert encode(b"abc", "image/*").headers == {"Content-Type": "image/*"}


def test_file_name_that_is_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / "\udcff.png"
    path.write_bytes(b"abc")
    with path.open("rb") as file:
        reply = encode(file, PNG)
    assert reply.headers is not None
    assert reply.headers["Content-Disposition"] == 'attachment; filename="%FF.png"'
    assert body_of(reply) == b"abc"


def test_file_without_a_name_is_sent_whole() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"abc")
        reply = encode(file, PNG)
    assert reply.headers == {"Content-Type": PNG}
    assert body_of(reply) == b"abc"


def test_spooled_file_is_sent_whole() -> None:
    with tempfile.SpooledTemporaryFile() as file:
        file.write(b"abc")
        assert body(file) == b"abc"


def test_anything_that_can_be_read_is_sent() -> None:
    class Stream:
        name = 3

        def read(self) -> bytes:
            return b"abc"

    assert encode(Stream(), PNG) == Reply(body=b"abc", headers={"Content-Type": PNG})


def test_open_file_is_no_json() -> None:
    with tempfile.NamedTemporaryFile() as file:
        assert why_not(file).startswith("The model's result is not JSON: ")


# --- schemas ---------------------------------------------------------------------------------


class AnswerSchema(Schema):
    label = fields.Str(required=True)
    score = fields.Float(validate=validate.Range(0, 1))


SHAPES: list[tuple[Any, str]] = [
    ({"label": fields.Str(required=True), "score": fields.Float()}, "ModelPredictionResponse"),
    (AnswerSchema, "Answer"),
    (AnswerSchema(), "Answer"),
    (type("Schema", (AnswerSchema,), {}), "Schema"),
]


@pytest.mark.parametrize(("declared", "name"), SHAPES)
def test_schema_has_a_name(declared: Any, name: str) -> None:
    assert ResultSchema(declared).name == name


def test_schema_instance_has_a_name_whatever_its_class() -> None:
    assert ResultSchema(type("Schema", (AnswerSchema,), {})()).name == "Schema"


@pytest.mark.parametrize(("declared", "name"), SHAPES)
def test_value_of_the_schema_is_the_answer_itself(declared: Any, name: str) -> None:
    value = {"label": "cat", "score": np.float32(0.5)}
    assert encode(value, JSON, ResultSchema(declared)) == Reply(body=b'{"label":"cat","score":0.5}')


@pytest.mark.parametrize(
    ("value", "messages"),
    [
        ({}, {"label": ["Missing data for required field."]}),
        ({"label": "cat", "score": "x"}, {"score": ["Not a valid number."]}),
        ({"label": "cat", "other": 1}, {"other": ["Unknown field."]}),
        ([1], {"_schema": ["Invalid input type."]}),
        (None, {"_schema": ["Invalid input type."]}),
    ],
)
@pytest.mark.parametrize(("declared", "name"), SHAPES)
def test_value_that_violates_the_schema(
    declared: Any, name: str, value: Any, messages: Any
) -> None:
    with pytest.raises(UnusableResultError) as unusable:
        encode(value, JSON, ResultSchema(declared))
    assert unusable.value.code == "result_violates_schema"
    assert str(unusable.value) == (f"The model's result does not match its schema: {messages}")


def test_schema_is_for_json_alone() -> None:
    assert encode(b"abc", PNG, ResultSchema(AnswerSchema)).body == b"abc"


@pytest.mark.parametrize("declared", [3, "Schema", [fields.Str()], fields.Str()])
def test_what_is_no_schema(declared: Any) -> None:
    with pytest.raises(TypeError) as raised:
        ResultSchema(declared)
    assert str(raised.value) == (
        f"schema is {type(declared).__name__}, neither fields nor a marshmallow Schema"
    )
