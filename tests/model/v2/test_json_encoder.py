"""Encoding of the values that models return as JSON."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import json
import pathlib
import types
import uuid
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import PIL.Image
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepaas import exact_json
from deepaas.model.v2.json_encoder import NotJSONError, to_json, to_plain

HUGE = 2**70


def decoded(value: Any) -> Any:
    return json.loads(to_json(value))


def name_of(value: Any) -> str:
    """Return a name for a test case that is the same in each process."""
    text = ascii(value)
    return type(value).__name__ if isinstance(value, set) or " at 0x" in text else text[:40]


def why_not(value: Any) -> str:
    with pytest.raises(NotJSONError) as error:
        to_json(value)
    return str(error.value)


# --- JSON ------------------------------------------------------------------------------------


class Point(NamedTuple):
    x: int
    y: int


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Box:
    width: int


@dataclasses.dataclass
class Extra:
    """An instance has an attribute that is not a field, and a private field."""

    shown: int
    _private: int = 2

    def __post_init__(self) -> None:
        self.not_a_field = 3


class Person(pydantic.BaseModel):
    name: str
    born: datetime.date


class Ratio(float):
    pass


class Tensor:
    """An array of a library that numpy can read."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array([0.1, 0.2], "f4")


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
    (np.datetime64("2024-02"), "2024-02-01T00:00:00"),
    (np.datetime64("2024-02-29T12"), "2024-02-29T12:00:00"),
    (np.datetime64("2024-02-29T12:30:01.5"), "2024-02-29T12:30:01.500000"),
    (np.datetime64("2024-02-29T12:30:01.123456789"), "2024-02-29T12:30:01.123456789"),
    (np.datetime64("1970-01-01T00:00:00.5", "as"), "1970-01-01T00:00:00.500000"),
    (np.datetime64("NaT"), None),
    (np.datetime64("NaT", "ns"), None),
    (np.array(["NaT", "2024"], "M8[h]"), [None, "2024-01-01T00:00:00"]),
    (np.array([["NaT", "2024"]], "M8[Y]"), [[None, "2024-01-01T00:00:00"]]),
    (np.ma.masked, None),
    (np.ma.masked_array([[0.1, 2.0]], [[False, True]], dtype="f4"), [[0.1, None]]),
    (np.array([(1, 0.1)], dtype=[("a", int), ("b", "f4")]), [[1, 0.1]]),
    (Ratio(0.5), 0.5),
    ({Ratio(0.5): 1}, {"0.5": 1}),
    (collections.deque([1, 2]), [1, 2]),
    (range(3), [0, 1, 2]),
    ({3, 1, 2}, [1, 2, 3]),
    ({"b", "a"}, ["a", "b"]),
    ({(1, 2), (0, 3)}, [[0, 3], [1, 2]]),
    (decimal.Decimal("1.10"), "1.10"),
    (decimal.Decimal("NaN"), None),
    (pathlib.PurePosixPath("/a/b"), "/a/b"),
    (Extra(1), {"shown": 1}),
    (Person(name="Ada", born=datetime.date(1815, 12, 10)), {"name": "Ada", "born": "1815-12-10"}),
    (pd.NaT, None),
    (pd.NA, None),
    (pd.Timestamp("2024-02-29T00:00:00.123456789"), "2024-02-29T00:00:00.123456789"),
    (pd.Series([1.5, np.nan]), [1.5, None]),
    (pd.Series([2**60 + 1, None], dtype="Int64"), [2**60 + 1, None]),
    (pd.Series(["a", None], dtype="string"), ["a", None]),
    (pd.Series(pd.Categorical(["u", "v"])), ["u", "v"]),
    (pd.Series(pd.to_datetime(["2024-02-29", None])), ["2024-02-29T00:00:00", None]),
    (
        pd.Series(pd.to_datetime(["2024-02-29", None])).dt.tz_localize("UTC"),
        ["2024-02-29T00:00:00+00:00", None],
    ),
    (pd.Index(["a", "b"]), ["a", "b"]),
    (pd.array([True, None], dtype="boolean"), [True, None]),
    (
        pd.DataFrame({"x": np.array([0.1, 0.2], "f4"), "n": [1, 2]}, index=["p", "q"]),
        [{"x": 0.1, "n": 1}, {"x": 0.2, "n": 2}],
    ),
    (pd.DataFrame([[1, 2]], columns=[0, 1]), [{"0": 1, "1": 2}]),
    (pd.DataFrame({"a": []}), []),
    (Tensor(), [0.1, 0.2]),
    ({"scores": [np.float32(0.5)], "of": {np.int64(1)}}, {"scores": [0.5], "of": [1]}),
    ({np.int64(1): 2}, {"1": 2}),
    ([HUGE, np.array([1.5, np.nan])], [HUGE, [1.5, None]]),
]


@pytest.mark.parametrize(("value", "expected"), ENCODED, ids=name_of)
def test_value_as_json(value: Any, expected: Any) -> None:
    result = decoded(value)
    assert result == expected
    assert type(result) is type(expected)


def test_lists_may_be_nested_deeper_than_orjson_goes() -> None:
    value: list[Any] = []
    for _ in range(300):
        value = [value]
    assert to_json(value) == b"[" * 301 + b"]" * 301


@pytest.mark.parametrize(("value", "expected"), ENCODED, ids=name_of)
def test_huge_integer_changes_nothing_for_its_neighbours(value: Any, expected: Any) -> None:
    assert decoded([value, HUGE]) == [expected, HUGE]


@pytest.mark.parametrize(("value", "expected"), ENCODED, ids=name_of)
def test_keys_that_are_no_text_change_nothing_for_their_neighbours(
    value: Any, expected: Any
) -> None:
    assert decoded({1: value}) == {"1": expected}


@pytest.mark.parametrize(("value", "expected"), ENCODED, ids=name_of)
def test_plain_data_is_the_same(value: Any, expected: Any) -> None:
    if "\\ud" not in ascii(value):  # such text contains an escaped lone surrogate
        assert to_plain(value) == expected


def _layouts(array: Any) -> list[Any]:
    """Return the same values in other memory layouts and in other containers."""
    doubled = np.repeat(array, 2)
    return [
        doubled[::2],
        array[::-1].copy()[::-1],
        array.astype(array.dtype.newbyteorder()),
        np.asfortranarray(array),
        np.lib.stride_tricks.as_strided(array),
        list(array),
        tuple(array),
        np.array(array, dtype=object) if array.dtype.kind not in "Mf" else list(array),
        pd.Series(array) if array.dtype.kind != "f" or array.dtype.itemsize > 2 else list(array),
    ]


_UNITS = ["Y", "M", "D", "h", "s", "ms", "us", "ns"]
_arrays = st.one_of(
    st.lists(st.floats(width=16), max_size=5).map(lambda x: np.array(x, "f2")),
    st.lists(st.floats(width=32), max_size=5).map(lambda x: np.array(x, "f4")),
    st.lists(st.floats(), max_size=5).map(lambda x: np.array(x, "f8")),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5).map(lambda x: np.array(x, "i8")),
    st.lists(st.integers(0, 2**64 - 1), max_size=5).map(lambda x: np.array(x, "u8")),
    st.lists(st.booleans(), max_size=5).map(lambda x: np.array(x, "?")),
    st.builds(
        lambda dates, unit: np.array(dates, "M8[us]").astype(f"M8[{unit}]"),
        st.lists(
            st.none() | st.datetimes(pd.Timestamp.min.ceil("D"), pd.Timestamp.max.floor("D")),
            max_size=5,
        ),
        st.sampled_from(_UNITS),
    ),
)


@settings(deadline=None)
@given(_arrays)
def test_equal_arrays_give_equal_json(array: Any) -> None:
    expected = decoded(array)
    for same in _layouts(array):
        assert decoded(same) == expected
        assert decoded([same, HUGE]) == [expected, HUGE]
        assert to_plain(same) == expected


@settings(deadline=None)
@given(st.datetimes())
def test_date_does_not_depend_on_its_type(date: datetime.datetime) -> None:
    assert decoded(np.datetime64(date)) == decoded(date) == date.isoformat()


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


BYTES = "cannot be encoded; decode it, or offer a media type for it"
SECONDS = "cannot be encoded; return its .total_seconds()"
YEARS = "is outside of the years 0000 to 9999 of ISO 8601"


@settings(deadline=None)
@given(_values)
def test_both_encoders_give_the_same(value: Any) -> None:
    assert decoded([value, HUGE]) == [decoded(value), HUGE]


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        (object(), "object cannot be encoded"),
        ({"a": [b"bytes"]}, f"bytes {BYTES}"),
        (bytearray(b"bytes"), f"bytearray {BYTES}"),
        (memoryview(b"bytes"), f"memoryview {BYTES}"),
        (np.bytes_(b"bytes"), "numpy values of type |S5 cannot be encoded"),
        (np.void(b"bytes"), "numpy values of type |V5 cannot be encoded"),
        (1j, "complex cannot be encoded; return its .real and .imag"),
        (np.complex128(1), "numpy values of type complex128 cannot be encoded"),
        (np.array([1j]), "numpy values of type complex128 cannot be encoded"),
        (iter([1]), "list_iterator cannot be encoded"),
        (len, "builtin_function_or_method cannot be encoded"),
        (int, "type cannot be encoded"),
        (Box, "type cannot be encoded"),
        (datetime.timedelta(1), f"timedelta {SECONDS}"),
        (pd.Timedelta(1), f"Timedelta {SECONDS}"),
        (np.timedelta64(1, "ns"), "numpy values of type timedelta64[ns] cannot be encoded"),
        (pd.Period("2020"), "Period cannot be encoded"),
        (np.datetime64("12020-01-01"), f"the date 12020-01-01 {YEARS}"),
        (np.datetime64("-0044-03-15"), f"the date -044-03-15 {YEARS}"),
        (np.datetime64(2**61, "Y"), f"the date 2305843009213695922 {YEARS}"),
        ({1: 2, "1": 3}, "two keys of the same object are '1' in JSON"),
        (
            pd.DataFrame([[1, 2]], columns=["a", "a"]),
            "two keys of the same object are 'a' in JSON",
        ),
        (
            PIL.Image.new("RGB", (1, 1)),
            "Image cannot be encoded; save it to a BytesIO, and offer a media type such as "
            "image/png",
        ),
    ],
    ids=name_of,
)
@pytest.mark.parametrize("neighbour", [[], [HUGE]], ids=["alone", "beside a huge integer"])
def test_value_that_json_cannot_hold_is_named(value: Any, cause: str, neighbour: Any) -> None:
    assert why_not([value, *neighbour]) == cause


def test_key_that_json_cannot_hold() -> None:
    assert why_not({(1, 2): 3}) == "a key that is a tuple cannot be encoded"


def test_value_that_holds_itself() -> None:
    value: list[Any] = []
    value.append(value)
    assert why_not(value) == "Recursion limit reached"


def test_value_nested_100000_deep() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    assert why_not(value) == "Recursion limit reached"


def test_array_that_cannot_be_made_a_list() -> None:
    class Sparse:
        def tolist(self) -> list[Any]:
            raise RuntimeError("layout sparse has no list")

    assert "layout sparse has no list" in why_not(Sparse())


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
    assert exact_json.loads(exact_json.dumps(to_plain(value))) == to_plain(value)
