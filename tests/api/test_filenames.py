"""The server cleans the file names of clients, and keeps their extensions."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepaas.http.filenames import base_name, extension


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("cat.png", "cat.png"),
        ("größe €.txt", "größe €.txt"),
        (" a .txt ", " a .txt "),
        (".hidden", ".hidden"),
        ("a..b", "a..b"),
        ("/etc/passwd", "passwd"),
        ("../../cat.png", "cat.png"),
        ("C:\\docs\\cat.png", "cat.png"),
        ("a/b\\c/cat.png", "cat.png"),
        ("a\\b/c\\cat.png", "cat.png"),
        ("folder/", "folder"),
        ("folder\\\\", "folder"),
        ("a\r\nSet-Cookie: x.png", "aSet-Cookie: x.png"),
        ("a\0b\x1b\x7f\x85c.png", "abc.png"),
        ("a\N{LINE SEPARATOR}b\N{PARAGRAPH SEPARATOR}c", "abc"),
        ("a\ud800b", "ab"),
    ],
)
def test_name_is_the_base_name_in_one_line(given: str, name: str) -> None:
    assert base_name(given) == name


@pytest.mark.parametrize(
    "given", [".", "..", "...", " . ", "/", "\\", "../", "..\\..\\..", "a/..", "\r\n", ".\0.", " "]
)
def test_name_that_cannot_be_used_becomes_unnamed(given: str) -> None:
    assert base_name(given) == "unnamed"


@pytest.mark.parametrize("letter", ["x", "ä", "€", "😀"])
def test_long_name_is_cut_and_keeps_its_extension(letter: str) -> None:
    name = base_name(letter * 300 + ".tar.gz")
    assert name.endswith(letter + ".tar.gz")
    assert set(name.removesuffix(".tar.gz")) == {letter}
    assert 252 <= len(name.encode()) <= 255


def test_name_of_255_bytes_is_not_cut() -> None:
    assert base_name("x" * 255) == "x" * 255
    assert base_name("x" * 256) == "x" * 255


@settings(deadline=None)
@given(st.text(max_size=300) | st.text("./\\ \r\n\0aä😀", max_size=300))
def test_any_name_is_safe(given: str) -> None:
    name = base_name(given)
    assert name not in ("", ".", "..")
    assert not set(name) & set("/\\")
    assert not any(unicodedata.category(letter) == "Cc" for letter in name)
    assert len(name.encode()) <= 255
    assert name.splitlines() == [name]


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("cat.png", ".png"),
        ("volume.nii.gz", ".nii.gz"),
        ("a.b.tar.gz", ".tar.gz"),
        ("CAT.PNG", ".PNG"),
        ("a.x1", ".x1"),
        ("cat", ""),
        ("cat.", ""),
        (".bashrc", ""),
        ("a b.c d.png", ".png"),
        ("a.sh;x", ""),
        ("a.$(x)", ""),
        ("a.ä", ""),
        ("a.p\u0661", ""),
        ("a." + "x" * 16, "." + "x" * 16),
        ("a." + "x" * 17, ""),
        ("a." + "x" * 17 + ".gz", ".gz"),
        ("", ""),
    ],
)
def test_extension_is_kept_where_it_is_plain(name: str, end: str) -> None:
    assert extension(name) == end
