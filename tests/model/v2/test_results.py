"""What becomes of the value that `predict` returned."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import enum
import io
import json
import os
import tempfile
import types
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import Schema
from webargs import fields, validate

from deepaas.model.v2 import results
from deepaas.model.v2.exchange import Reply
from deepaas.model.v2.results import (
    MAX_INLINE,
    ResultSchema,
    UnusableResultError,
    encode,
    to_json,
    to_plain,
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
    """The whole body, be it in the reply or in the file it goes along with, which is closed."""
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


# --- JSON ------------------------------------------------------------------------------------


class Point(NamedTuple):
    x: int
    y: int


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Box:
    width: int


SOME_UUID = uuid.UUID("12345678-1234-5678-1234-567812345678")

ENCODED: list[Any] = [
    (None, None),
    (True, True),
    (3, 3),
    (1.5, 1.5),
    ("ä\n", "ä\n"),
    ([1, "a", None], [1, "a", None]),
    ((1, (2,)), [1, [2]]),
    (Point(1, 2), [1, 2]),
    ({"a": {"b": [1]}}, {"a": {"b": [1]}}),
    ({2: "a", 2.5: "b", None: "c", True: "d"}, {"2": "a", "2.5": "b", "null": "c", "true": "d"}),
    (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    (types.MappingProxyType({"a": 1}), {"a": 1}),
    ({"only"}, ["only"]),
    (frozenset({1}), [1]),
    ({"a": 1}.keys(), ["a"]),
    (datetime.date(2024, 2, 29), "2024-02-29"),
    (datetime.datetime(2024, 2, 29, 12, 30), "2024-02-29T12:30:00"),
    (datetime.datetime(2024, 2, 29, tzinfo=datetime.timezone.utc), "2024-02-29T00:00:00+00:00"),
    (datetime.time(12, 30, 1), "12:30:01"),
    (SOME_UUID, "12345678-1234-5678-1234-567812345678"),
    ({SOME_UUID: 1}, {"12345678-1234-5678-1234-567812345678": 1}),
    (Colour.RED, "red"),
    (Box(3), {"width": 3}),
    (float("nan"), None),
    ([float("inf"), float("-inf"), 1.0], [None, None, 1.0]),
    (HUGE, HUGE),
    (-HUGE, -HUGE),
    ([HUGE, float("nan"), {"a": (1,)}], [HUGE, None, {"a": [1]}]),
    ({HUGE: 1}, {str(HUGE): 1}),
    pytest.param("\udcff", "\udcff", id="surrogate"),
    ({"\ud800": ["\udcff"]}, {"\ud800": ["\udcff"]}),
    (np.int64(3), 3),
    (np.uint8(3), 3),
    (np.float32(0.5), 0.5),
    (np.float16(0.5), 0.5),
    (np.float64("nan"), None),
    (np.bool_(True), True),
    (np.str_("a"), "a"),
    pytest.param(np.longdouble(0.5), 0.5),
    pytest.param(np.array([0.5], dtype=np.longdouble), [0.5]),
    (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    (np.array([1.5, np.nan, np.inf]), [1.5, None, None]),
    (np.arange(6).reshape(2, 3)[:, ::2], [[0, 2], [3, 5]]),
    (np.array([[1, 2], [3, 4]], order="F"), [[1, 2], [3, 4]]),
    (np.array(3), 3),
    (np.zeros((2, 0)), [[], []]),
    (np.array(["a", "b"]), ["a", "b"]),
    (np.array([1, None, "a"], dtype=object), [1, None, "a"]),
    (np.array([True]), [True]),
    (np.array([1, 2], dtype=">i4"), [1, 2]),
    (np.ma.masked_array([1, 2], [False, True]), [1, None]),
    (np.array([(1, 2.5)], dtype=[("a", int), ("b", float)]), [[1, 2.5]]),
    (np.datetime64("2024-02-29"), "2024-02-29T00:00:00"),
    ({"scores": [np.float32(0.5)], "of": {np.int64(1)}}, {"scores": [0.5], "of": [1]}),
    ({np.int64(1): 2}, {"1": 2}),
    ([HUGE, np.array([1.5, np.nan])], [HUGE, [1.5, None]]),
]


@pytest.mark.parametrize(("value", "expected"), ENCODED, ids=lambda v: ascii(v)[:40])
def test_value_as_json(value: Any, expected: Any) -> None:
    result = decoded(value)
    assert result == expected
    assert type(result) is type(expected)


def test_set_becomes_a_list_of_its_items() -> None:
    assert sorted(decoded({3, 1, 2})) == [1, 2, 3]


def test_lists_may_be_nested_deeper_than_orjson_goes() -> None:
    value: list[Any] = []
    for _ in range(300):
        value = [value]
    assert to_json(value) == b"[" * 301 + b"]" * 301


@pytest.mark.parametrize("other", [Colour.RED, Box(3)])
def test_huge_integer_changes_nothing_for_its_neighbours(other: Any) -> None:
    assert decoded([other, HUGE]) == [decoded(other), HUGE]


@pytest.mark.parametrize(
    "microsecond",
    [0, 1, 9_999, 10_000, 99_999, 100_000, 999_999],
)
def test_time_keeps_its_microseconds(microsecond: int) -> None:
    time = datetime.time(12, 30, 1, microsecond)
    assert decoded(time) == time.isoformat()


def test_time_keeps_its_zone() -> None:
    time = datetime.time(12, 30, tzinfo=datetime.timezone.utc)
    assert decoded(time) == "12:30:00+00:00"


_keys = st.one_of(st.text(max_size=3), st.integers(-5, 5), st.booleans(), st.none(), st.dates())
_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(max_size=5),
    st.dates(),
    st.datetimes(),
    st.datetimes(timezones=st.just(datetime.timezone.utc)),
    st.times().map(lambda time: time.replace(microsecond=0)),
    st.uuids(),
    st.builds(np.float64, st.floats()),
    st.builds(np.int32, st.integers(-(2**31), 2**31 - 1)),
    st.builds(np.array, st.lists(st.floats(), max_size=3)),
    st.frozensets(st.integers(), max_size=1),
)
_values = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(_keys, inner, max_size=3),
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(_values)
def test_both_encoders_give_the_same(value: Any) -> None:
    assert decoded([value, HUGE]) == [decoded(value), HUGE]


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        (object(), "object cannot be encoded"),
        ({"a": [b"bytes"]}, "bytes cannot be encoded"),
        (1j, "complex cannot be encoded"),
        (np.complex128(1), "complex cannot be encoded"),
        (iter([1]), "list_iterator cannot be encoded"),
        (range(3), "range cannot be encoded"),
        (len, "builtin_function_or_method cannot be encoded"),
        (datetime.timedelta(1), "timedelta cannot be encoded"),
    ],
)
def test_what_json_cannot_hold_is_named(value: Any, cause: str) -> None:
    assert why_not(value) == f"The model's result is no JSON: {cause}"


def test_key_that_json_cannot_hold() -> None:
    assert why_not({(1, 2): 3}).startswith("The model's result is no JSON: ")


def test_value_that_holds_itself() -> None:
    value: list[Any] = []
    value.append(value)
    assert why_not(value) == "The model's result is no JSON: Recursion limit reached"


def test_value_nested_100000_deep() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    assert why_not(value) == "The model's result is no JSON: Recursion limit reached"


def test_array_that_cannot_be_made_a_list() -> None:
    class Sparse:
        def tolist(self) -> list[Any]:
            raise RuntimeError("layout sparse has no list")

    assert "layout sparse has no list" in why_not(Sparse())


# --- the answer ------------------------------------------------------------------------------


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
        f"The model returned {type(value).__name__} where image/png was asked for; "
        "that takes bytes, str, an open file or BytesIO"
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


def test_file_that_is_gone_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"abc")
    with path.open("rb") as file:
        path.unlink()
        assert why_not(file, PNG) == (
            "The model's result file cannot be opened: "
            f"[Errno 2] No such file or directory: {str(path)!r}"
        )


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
        assert why_not(file).startswith("The model's result is no JSON: ")


# --- large bodies ----------------------------------------------------------------------------


def test_body_of_the_limit_goes_inline() -> None:
    assert encode(b"x" * MAX_INLINE, PNG) == Reply(
        body=b"x" * MAX_INLINE, headers={"Content-Type": PNG}
    )


@pytest.mark.parametrize("value", [b"x" * (MAX_INLINE + 1), "x" * (MAX_INLINE + 1)])
def test_large_body_goes_by_descriptor(value: Any) -> None:
    reply = encode(value, PNG)
    assert reply.fd >= 0
    assert reply.headers == {"Content-Type": PNG}
    assert os.fstat(reply.fd).st_size == MAX_INLINE + 1
    os.lseek(reply.fd, 0, os.SEEK_SET)
    assert body_of(reply) == b"x" * (MAX_INLINE + 1)


def test_large_json_goes_by_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "MAX_INLINE", 10)
    reply = encode([1] * 10, JSON)
    assert reply.headers is None
    os.lseek(reply.fd, 0, os.SEEK_SET)
    assert json.loads(body_of(reply)) == {"status": "OK", "predictions": [1] * 10}


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
    assert str(unusable.value) == (f"The model's result is not of the form it declares: {messages}")


def test_schema_is_for_json_alone() -> None:
    assert encode(b"abc", PNG, ResultSchema(AnswerSchema)).body == b"abc"


@pytest.mark.parametrize("declared", [3, "Schema", [fields.Str()], fields.Str()])
def test_what_is_no_schema(declared: Any) -> None:
    with pytest.raises(TypeError) as raised:
        ResultSchema(declared)
    assert str(raised.value) == (
        f"schema is {type(declared).__name__}, neither fields nor a marshmallow Schema"
    )


# --- plain data ------------------------------------------------------------------------------


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": (1, {2})}, {"a": [1, [2]]}),
        (np.array([1.5, np.nan]), [1.5, None]),
        (datetime.date(2024, 2, 29), "2024-02-29"),
        (3j, "3j"),
        ([3j, 1], ["3j", 1]),
        ({(1, 2): 3}, "{(1, 2): 3}"),
    ],
)
def test_to_plain_gives_types_of_json(value: Any, expected: Any) -> None:
    assert to_plain(value) == expected


def test_to_plain_of_what_holds_itself() -> None:
    value: list[Any] = []
    value.append(value)
    assert to_plain(value) == "[[...]]"


@pytest.mark.parametrize("value", [Unspeakable(), [Unspeakable()], {"a": Unspeakable()}])
def test_to_plain_never_raises(value: Any) -> None:
    json.dumps(to_plain(value))


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(
            "\udcff",
        ),
        ["\udcff", HUGE],
        {"\udcff": 1},
    ],
)
def test_plain_data_can_be_encoded(value: Any) -> None:
    assert orjson.loads(orjson.dumps(to_plain(value))) == to_plain(value)
