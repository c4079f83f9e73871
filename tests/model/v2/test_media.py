"""Choosing the media type that a client prefers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepaas.model.v2.media import best_match, is_media_type

PNG, JSON, TEXT = "image/png", "application/json", "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("image/png", PNG),
        ("IMAGE/PNG", PNG),
        ("application/json", JSON),
        ("text/plain", TEXT),
        ("text/*", TEXT),
        ("*/*", PNG),
        ("image/png;q=0.1, application/json;q=0.2", JSON),
        ("image/png; Q=0.1, application/json ; q=0.2", JSON),
        ("image/png;q=0.5, application/json;q=0.5", PNG),
        ("application/json, image/png", PNG),
        ("*/*;q=0.9, application/json", JSON),
        ("image/*;q=0.9, image/png;q=0.1, application/json;q=0.5", JSON),
        ("image/png;q=0, */*", JSON),
        ("image/png;level=1;q=0.2, application/json;q=0.1", PNG),
        ("image/png;q=2, application/json", PNG),
        ("image/png;q=x, application/json;q=0.1", JSON),
        (" , image/png , ", PNG),
    ],
)
def test_best_match(accept: str, expected: str) -> None:
    assert best_match(accept, [PNG, JSON, TEXT]) == expected


@pytest.mark.parametrize(
    "accept", ["", ",", "image/jpeg", "png", "*/*;q=0", "image/png;q=0", "image/png;q=-1", "*/png"]
)
def test_nothing_that_a_client_takes(accept: str) -> None:
    assert best_match(accept, [PNG]) is None


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("image/*", "image/*"),
        ("image/png", "image/*"),
        ("IMAGE/PNG", "image/*"),
        ("*/*", JSON),
        ("text/html", None),
        ("image/png;q=0", None),
        ("image/png;q=0, */*;q=0.1", JSON),
        ("image/png, application/json;q=0.5", "image/*"),
        ("image/png;q=0.2, image/gif;q=0.8, application/json;q=0.5", "image/*"),
        ("image/png, image/*;q=0.1, application/json;q=0.5", JSON),
        ("imagery/png", None),
    ],
)
def test_choice_for_all_subtypes_fits_each_of_them(accept: str, expected: str | None) -> None:
    assert best_match(accept, [JSON, "image/*"]) == expected


def test_nothing_to_choose_from() -> None:
    assert best_match("*/*", []) is None


@given(st.text(), st.lists(st.sampled_from([PNG, JSON, TEXT]), max_size=3))
def test_any_header_gives_a_choice_or_none(accept: str, choices: list[str]) -> None:
    assert best_match(accept, choices) in [*choices, None]


@pytest.mark.parametrize(
    "text",
    ["image/png", "image/*", "application/vnd.a+b-c.d", "text/plain; charset=utf-8", "a/b;c"],
)
def test_media_types(text: str) -> None:
    assert is_media_type(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "image",
        "image/",
        "/png",
        "a/b c",
        "a/b\r\nX: y",
        "a/b;\n",
        "*/*",
        "*/png",
        "image/*png",
        "a/ä",
        "a/b\n",
        "a/b\r\n;c",
        "a/b\v;c",
        "a/b; " + "c" * 1000,
    ],
)
def test_what_is_no_media_type(text: str) -> None:
    assert not is_media_type(text)
