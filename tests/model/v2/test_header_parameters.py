"""Parsing the parameters of headers, in linear time."""

from __future__ import annotations

import time

import pytest

from deepaas.header_parameters import MAX_PARAMETERS, parameters


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", {}),
        ("form-data", {}),
        ("form-data; name=a", {"name": "a"}),
        ("form-data;NAME = a ;b", {"name": "a", "b": ""}),
        ('form-data; name="a;b=c"; x=1', {"name": "a;b=c", "x": "1"}),
        (r'form-data; name="a\"b\\c"', {"name": r"a\"b\c".replace(r"\"", '"')}),
        ('form-data; name="not closed; x=1', {"name": '"not closed; x=1'}),
        ("form-data; name=a; name=b", {"name": "a"}),
        ("form-data; name=<a>", {"name": "<a>"}),
        ("form-data; f*=UTF-8''%E2%82%AC.png", {"f": "€.png"}),
        ("form-data; f=plain; f*=utf-8''extended", {"f": "extended"}),
        ("form-data; f*0=one; f*1=two", {"f": "onetwo"}),
        ("form-data; f*1=two; f*0=one", {"f": "onetwo"}),
        ("form-data; f*0*=utf-8''%C3; f*1*=%A4", {"f": "ä"}),
        ("form-data; f*=utf-8''ä", {"f": "ä"}),
        ("form-data; f*=nonsense''%41", {"f": "A"}),
        ("form-data; f*=punycode''%41", {"f": "A"}),
        ("form-data; ;;=;", {"": ""}),
    ],
)
def test_parameters(value: str, expected: dict[str, str]) -> None:
    assert parameters(value) == expected


@pytest.mark.parametrize("value", ["x; a*=1; a*0=2", "x" + ";a=b" * (MAX_PARAMETERS + 1)])
def test_contradictory_or_very_many_parameters_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"parameter"):
        parameters(value)


@pytest.mark.parametrize("start", ["x; a=", 'x; a="'])
@pytest.mark.parametrize("filler", [";", ";a=b", '\\"', '"', '";', "%", "'", "*", "=", " ", "\\"])
def test_reading_takes_linear_time(start: str, filler: str) -> None:
    """A million characters take well below a second; in quadratic time they would take an hour."""
    value = start + filler * (1_000_000 // len(filler))
    began = time.thread_time()
    try:
        parameters(value)
    except ValueError:
        pass
    assert time.thread_time() - began < 5
