"""JSON in which integers keep all their digits."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepaas import exact_json

_numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
_leaves = _numbers | st.none() | st.booleans() | st.text(max_size=3)
_values = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=10,
)


@given(_values)
def test_value_comes_back_as_it_was(value: Any) -> None:
    again = exact_json.loads(exact_json.dumps(value))
    assert again == value
    assert repr(again) == repr(value)  # 1 and 1.0 are equal


@given(_values)
def test_texts_of_other_programs_are_read_exactly(value: Any) -> None:
    assert repr(exact_json.loads(json.dumps(value).encode())) == repr(value)


@pytest.mark.parametrize(
    "value", [2**64, -(2**63) - 1, [1.5, 2**64], {"a": [{"b": 2**64}]}, [1e300]]
)
def test_large_numbers_are_found(value: Any) -> None:
    assert exact_json.has_large_float(orjson.loads(json.dumps(value)))


@pytest.mark.parametrize("value", [2**64 - 1, -(2**63), [1.5, -2.5], [1, "a", None], {"a": 1e18}])
def test_other_numbers_are_not_read_twice(value: Any) -> None:
    assert not exact_json.has_large_float(orjson.loads(json.dumps(value)))


def test_fragments_are_kept_beside_large_integers() -> None:
    value = {"fragment": orjson.Fragment(b'{"id":18446744073709551617}'), "size": 2**70}
    assert json.loads(exact_json.dumps(value)) == {"fragment": {"id": 2**64 + 1}, "size": 2**70}


def test_lone_surrogates_come_back() -> None:
    assert exact_json.loads(exact_json.dumps({"\ud800": ["\udcff"]})) == {"\ud800": ["\udcff"]}


def test_default_is_asked_for_other_types() -> None:
    assert exact_json.dumps([3j], repr) == b'["3j"]'
    assert exact_json.dumps([3j, 2**70], repr) == b'["3j",%d]' % (2**70)


@pytest.mark.parametrize("value", [3j, [3j, 2**70]])
def test_other_types_are_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        exact_json.dumps(value)


def test_value_that_no_reader_would_take_is_refused() -> None:
    value: Any = 2**70
    for _ in range(300):
        value = [value]
    with pytest.raises(TypeError):
        exact_json.dumps(value)


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000])
def test_text_that_is_nested_too_deeply_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        exact_json.loads(text)


@pytest.mark.parametrize("text", [b"", b"{", b"[1,]", b"'a'", b"\xff"])
def test_text_that_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises((json.JSONDecodeError, UnicodeDecodeError)):
        exact_json.loads(text)
