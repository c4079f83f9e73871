"""Parsing of multipart forms, byte by byte."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepaas.exceptions import BadRequestError, RequestError, TooLargeError
from deepaas.http.forms import Form, _write_all
from deepaas.model.v2.exchange import Call
from deepaas.protocol.messages import encode_meta
from tests.api.conftest import Read
from tests.api.form_bodies import CONTENT_TYPE, END, Uploads, part


def why_not(read: Read, *chunks: bytes, **options: Any) -> str:
    with pytest.raises(BadRequestError) as error:
        read(*chunks, **options)
    return str(error.value)


# --- parts -----------------------------------------------------------------------------------

BODY = (
    part('name="text"', "ä\r\n--A".encode())
    + part('name="empty"')
    + part('name="file"; filename="cat.png"', b"\r\n--\r\n-B\0\xff", "Content-Type: image/png")
    + part('name="empty file"; filename="empty"')
    + END
)
PARTS = [
    ("text", "ä\r\n--A"),
    ("empty", ""),
    ("file", b"\r\n--\r\n-B\0\xff", "image/png", "cat.png"),
    ("empty file", b"", "application/octet-stream", "empty"),
]


def test_parts_come_in_their_order(read: Read) -> None:
    assert read(BODY) == PARTS


@pytest.mark.parametrize("position", range(len(BODY) + 1))
def test_parts_are_the_same_wherever_the_body_is_cut(read: Read, position: int) -> None:
    assert read(BODY[:position], BODY[position:]) == PARTS


def test_parts_are_the_same_byte_by_byte(read: Read) -> None:
    assert read(*(bytes([byte]) for byte in BODY)) == PARTS


def test_form_without_parts(read: Read) -> None:
    assert read(END) == []


def test_parts_may_have_the_same_name(read: Read) -> None:
    assert read(part("name=a", b"1") + part("name=a", b"2") + END) == [("a", "1"), ("a", "2")]


def test_order_of_the_headers_does_not_matter(read: Read) -> None:
    body = b"--B\r\ncontent-type: a/b\r\nCONTENT-DISPOSITION: form-data; NAME=a; FileName=f\r\n\r\n"
    assert read(body + b"x\r\n" + END) == [("a", b"x", "a/b", "f")]


@pytest.mark.parametrize("content_type", ["multipart/mixed", "Multipart/Form-Data"])
def test_kinds_of_multipart(read: Read, content_type: str) -> None:
    assert read(BODY, content_type=f"{content_type}; boundary=B") == PARTS


# --- around the parts ------------------------------------------------------------------------


def test_last_line_may_lack_its_end(read: Read) -> None:
    assert read(BODY.removesuffix(b"\r\n")) == PARTS


@pytest.mark.parametrize("cut", range(1, len(BODY) - len("--\r\n") + 1, 7))
def test_body_that_ends_too_early(read: Read, cut: int) -> None:
    assert why_not(read, BODY[:cut]) == "The multipart body ends before its final boundary"


@pytest.mark.parametrize(
    "body",
    [b"", b"nonsense", part("name=a", b"1"), part("name=a", b"1") + b"--B", b"--C\r\n" + END[1:]],
)
def test_missing_final_boundary(read: Read, body: bytes) -> None:
    assert why_not(read, body) == "The multipart body ends before its final boundary"


@pytest.mark.parametrize(
    "body", [BODY.replace(b"\r\n", b"\n"), b"--B\r\n bad\r\n", b"--Bad\r\n" + BODY]
)
def test_malformed_body(read: Read, body: bytes) -> None:
    assert why_not(read, body).startswith("The multipart body is malformed: ")


@pytest.mark.parametrize(
    "body", [BODY.replace(b"\r\n", b"\n"), b"--B\r\n bad\r\n", b"--B\r\n" + BODY, b"--Bad\r\n"]
)
def test_fault_of_a_malformed_body_is_the_same_wherever_it_is_cut(read: Read, body: bytes) -> None:
    """The message has no position, since the parser counts from the beginning of a chunk."""
    assert why_not(read, *(bytes([byte]) for byte in body)) == why_not(read, body)


def test_malformed_body_is_told_to_the_client_alone(
    read: Read, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        why_not(read, b"--B\r\n bad\r\n")
    assert caplog.records == []


@pytest.mark.parametrize("boundary", ['"a b"', "a'b", "x" * 70, '"B"'])
def test_boundaries(read: Read, boundary: str) -> None:
    body = BODY.replace(b"--B", b"--" + boundary.strip('"').encode())
    assert read(body, content_type=f"multipart/form-data; boundary={boundary}") == PARTS


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        "multipart/form-data; boundary=" + "x" * 71,
        "multipart/form-data; boundary=" + "\N{PILE OF POO}" * 70,
    ],
)
def test_no_usable_boundary(read: Read, content_type: str) -> None:
    assert why_not(read, BODY, content_type=content_type) == (
        "The multipart body has no usable boundary"
    )


@pytest.mark.parametrize(
    "head", [b"", b"Content-Type: a/b\r\n", b"Content-Disposition: form-data; filename=x\r\n"]
)
def test_part_without_a_name(read: Read, head: bytes) -> None:
    assert why_not(read, b"--B\r\n" + head + b"\r\nx\r\n" + END) == (
        "A part of the multipart body has no name"
    )


# --- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("name=a", "a"),
        ('name="a b"', "a b"),
        ('name="a;b=c"', "a;b=c"),
        (r'name="a\"b"', 'a"b'),
        ('name=""', ""),
        ('name="ä"', "ä"),
        ('name="ä"'.encode("latin-1"), "ä"),
        ("name*=utf-8''%C3%A4", "ä"),
        ("name*=iso-8859-1'de'%E4", "ä"),
        ('name="bbox(N,W,S,E)"', "bbox(N,W,S,E)"),
    ],
)
def test_name(read: Read, given: str | bytes, name: str) -> None:
    assert read(part(given, b"x") + END) == [(name, "x")]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("filename=cat.png", "cat.png"),
        ('filename="a b.png"', "a b.png"),
        (r'filename="a\"b;c.png"', 'a"b;c.png'),
        ('filename="ä.png"', "ä.png"),
        ('filename="ä.png"'.encode("latin-1"), "ä.png"),
        ("filename*=utf-8''%E2%82%AC.png", "€.png"),
        ("filename*=UTF-8'en'a%20b.png", "a b.png"),
        ("filename*=iso-8859-1''%E4.png", "ä.png"),
        ("filename*0=one; filename*1=two", "onetwo"),
        ("filename*0*=utf-8''%C3; filename*1*=%A4.png", "ä.png"),
        ("filename*=nonsense''%41.png", "A.png"),
        ("filename*=utf-8''%FF.png", "\N{REPLACEMENT CHARACTER}.png"),
        pytest.param("filename=plain.png; filename*=utf-8''extended.png", "extended.png"),
        pytest.param("filename*=utf-8''extended.png; filename=plain.png", "extended.png"),
        (r'filename="C:\folder\cat.png"', "cat.png"),
        ('filename="/etc/passwd"', "passwd"),
        ('filename="../../cat.png"', "cat.png"),
        (r'filename="..\..\cat.png"', "cat.png"),
        (r'filename="a/b\c/cat.png"', "cat.png"),
        ("filename*=utf-8''..%2Fcat.png", "cat.png"),
        ("filename*=utf-8''a%00b.png", "ab.png"),
    ],
)
def test_file_name(read: Read, given: str | bytes, name: str) -> None:
    encoded = given.encode() if isinstance(given, str) else given
    assert read(part(b"name=a; " + encoded, b"x") + END) == [
        ("a", b"x", "application/octet-stream", name)
    ]


ODD_PARAMETERS = [
    pytest.param("name=a; filename*=x; filename*0=y"),
    pytest.param("name=a; filename*0=x; filename*=y"),
    "name=a; filename*=a%00b''x",
    "name*=a%00b''x",
    "name=a; filename*" + "1" * 4000 + "=x",
    "name=a; filename*0",
    "name*=unicode_escape''%5Cud800",
    "name=a; filename*=utf-7''+2AA-",
    "name=a; filename*=idna''%FF",
    "name=a; filename*=zlib''x",
    "name=a; ;;=; *=; *0*=; =x; filename*=''",
]


@pytest.mark.parametrize("parameters", ODD_PARAMETERS, ids=lambda text: text[:40])
def test_odd_parameters_are_read_or_refused(read: Read, parameters: str) -> None:
    try:
        parts = read(part(parameters, b"x") + END)
    except BadRequestError:
        return
    assert len(parts) == 1
    str(parts).encode()


@pytest.mark.parametrize(
    "parameters",
    [pytest.param("boundary*1=a; boundary*=b"), "boundary*=a%00b''x"],
)
def test_odd_boundary_is_refused(read: Read, parameters: str) -> None:
    assert why_not(read, content_type=f"multipart/form-data; {parameters}")


@settings(deadline=None)
@given(st.binary(max_size=60) | st.text("name*=012'\"%;file \\", max_size=40).map(str.encode))
def test_any_header_is_read_or_refused(raw: bytes) -> None:
    form = Form(CONTENT_TYPE, 10, 1000, lambda _: ("/dev/null", io.FileIO("/dev/null", "wb")))
    try:
        form.feed(part(b"name=a; " + raw, b"x") + END)
        parts = form.finish()
    except RequestError:
        return
    finally:
        form.close()
    encode_meta(Call(form=parts))


# --- texts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("charset", "body", "text"),
    [
        ("utf-8", "ä".encode(), "ä"),
        ("latin-1", b"\xe4", "ä"),
        ('"UTF-16"', "ä".encode("utf-16"), "ä"),
    ],
)
def test_text_has_a_charset(read: Read, charset: str, body: bytes, text: str) -> None:
    body = part("name=a", body, f"Content-Type: text/plain; charset={charset}")
    assert read(body + END) == [("a", text)]


@pytest.mark.parametrize(
    "charset", ["nope", "hex", "a%00b", "", "idna", "punycode", "unicode_escape", "undefined"]
)
@pytest.mark.parametrize("kind", ["text/plain", "text/csv"])
def test_unknown_charset_is_refused(read: Read, kind: str, charset: str) -> None:
    body = part("name=a", b"x", f"Content-Type: {kind}; charset={charset}")
    assert why_not(read, body + END) == f"Unknown charset {charset!r} in the form"


def test_charset_of_a_file_does_not_matter(read: Read) -> None:
    kind = "text/plain; charset=nope"
    body = part("name=a; filename=f", b"x", f"Content-Type: {kind}")
    assert read(body + END) == [("a", b"x", kind, "f")]


@pytest.mark.parametrize(
    ("charset", "body"),
    [
        ("utf-8", b"\xff"),
        ("utf-8", b"\xed\xa0\x80"),
        ("ascii", "ä".encode()),
        ("utf-16", b"abc"),
        ("utf-7", b"+2AA-"),
    ],
)
def test_text_that_is_not_in_its_charset_is_refused(read: Read, charset: str, body: bytes) -> None:
    sent = part("name=a", body, f"Content-Type: text/plain; charset={charset}")
    assert why_not(read, sent + END) == (
        f"The text in part 'a' of the form is not valid {charset}; name its charset in its "
        "Content-Type, or send it as a file"
    )


# --- limits ----------------------------------------------------------------------------------


def test_as_many_parts_as_allowed(read: Read) -> None:
    assert len(read(part("name=a") * 3 + END, parts=3)) == 3


def test_too_many_parts(read: Read) -> None:
    with pytest.raises(TooLargeError, match=r"^The form has more than 3 parts$"):
        read(part("name=a") * 4 + END, parts=3)


def test_as_much_text_as_allowed(read: Read) -> None:
    body = part("name=a", b"x" * 4) + part("name=b", b"x" * 6) + END
    assert read(body, text=10) == [("a", "x" * 4), ("b", "x" * 6)]


@pytest.mark.parametrize("size", [5, 1000])
def test_too_much_text(read: Read, size: int) -> None:
    body = part("name=a", b"x" * 4) + part("name=b", b"x" * 7) + END
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    with pytest.raises(TooLargeError, match=r"^The texts of the form have more than 10 bytes"):
        read(*chunks, text=10)


def test_files_are_no_texts(read: Read) -> None:
    body = part("name=a; filename=f", b"x" * 100) + END
    assert read(body, text=10) == [("a", b"x" * 100, "application/octet-stream", "f")]


def test_header_is_bounded(read: Read) -> None:
    assert why_not(read, part("name=" + "a" * 10**6) + END).startswith(
        "The multipart body is malformed: "
    )


def test_all_headers_of_a_part_are_bounded_together(read: Read) -> None:
    def with_headers(count: int) -> bytes:
        return part("name=a", b"x", *(f"X-{n}: {'x' * 4000}" for n in range(count))) + END

    assert read(with_headers(3)) == [("a", "x")]
    assert why_not(read, with_headers(5)) == (
        "The headers of a part of the form have more than 16384 bytes"
    )


# --- files -----------------------------------------------------------------------------------


def test_file_is_written_as_it_comes(uploads: Uploads) -> None:
    form = Form(CONTENT_TYPE, 10, 0, uploads.new)
    form.feed(part("name=a; filename=f", b"x" * 1000).removesuffix(b"\r\n"))
    assert Path(str(uploads.files[0].name)).stat().st_size >= 1000 - len("\r\n--B")
    form.close()


def test_file_is_closed_when_its_part_ends(uploads: Uploads) -> None:
    form = Form(CONTENT_TYPE, 10, 0, uploads.new)
    form.feed(part("name=a; filename=f", b"x") + b"--B\r\n")
    assert [file.closed for file in uploads.files] == [True]


def test_file_is_closed_when_the_body_breaks_off(uploads: Uploads) -> None:
    form = Form(CONTENT_TYPE, 10, 0, uploads.new)
    form.feed(part("name=a; filename=f", b"x" * 100)[:-20])
    assert [file.closed for file in uploads.files] == [False]
    form.close()
    assert [file.closed for file in uploads.files] == [True]


def test_short_writes_are_continued() -> None:
    written: list[bytes] = []

    class Slow(io.FileIO):
        def write(self, data: Any) -> int:
            written.append(bytes(data))
            return min(3, len(data))

    with Slow("/dev/null", "wb") as file:
        _write_all(file, memoryview(b"abcdefgh"))
    assert written == [b"abcdefgh", b"defgh", b"gh"]
