"""Parts of multipart forms: texts and others, encoded parts, preambles and epilogues."""

from __future__ import annotations

import base64
import binascii
import contextlib
import gzip
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepaas.exceptions import BadRequestError, RequestError, UnsupportedEncodingError
from deepaas.http.forms import PIECE_SIZE, Form
from tests.api.conftest import Read
from tests.api.form_bodies import CONTENT_TYPE, END, Uploads, part

ANY = "application/octet-stream"


def why_not(read: Read, *chunks: bytes, error: type[RequestError] = BadRequestError) -> str:
    with pytest.raises(error) as raised:
        read(*chunks)
    return str(raised.value)


# --- texts and files


@pytest.mark.parametrize(
    "kind", ["text/plain", "Text/PLAIN", "text/plain; charset=utf-8", "text/plain;x=y", "", "  "]
)
def test_part_without_file_name_that_is_plainly_text_is_text(read: Read, kind: str) -> None:
    assert read(part("name=a", b"x", f"Content-Type: {kind}") + END) == [("a", "x")]
    assert read(part("name=a", b"x") + END) == [("a", "x")]


@pytest.mark.parametrize(
    "kind",
    ["image/png", "application/json", "text/csv; charset=utf-8", "text", "nonsense"],
)
@pytest.mark.parametrize("content", [b"\x89PNG\xff\xfe", b"", b"x" * 100_000], ids=len)
def test_part_of_another_type_is_a_file_without_a_name(
    read: Read, kind: str, content: bytes
) -> None:
    sent = part("name=a", content, f"Content-Type: {kind}")
    assert read(sent + END) == [("a", content, kind, "")]


@pytest.mark.parametrize("kind", ["", "text/plain", ANY])
@pytest.mark.parametrize("content", [b"x", b""])
def test_part_with_an_empty_file_name_is_a_file_without_a_name(
    read: Read, kind: str, content: bytes
) -> None:
    sent = part('name=a; filename=""', content, f"Content-Type: {kind}")
    assert read(sent + END) == [("a", content, kind, "")]


def test_file_name_that_cannot_be_used_becomes_unnamed(read: Read) -> None:
    assert read(part('name=a; filename=".."', b"x") + END) == [("a", b"x", ANY, "unnamed")]


def test_type_of_a_file_is_one_line(read: Read) -> None:
    sent = part("name=a; filename=f", b"x", "Content-Type: image/png\nX: \0y")
    assert read(sent + END) == [("a", b"x", "image/png X:  y", "f")]


@pytest.mark.parametrize(
    ("name", "end"), [("cat.png", ".png"), ("v.nii.gz", ".nii.gz"), ("../x.sh;y", ""), ("", "")]
)
def test_path_keeps_the_extension(uploads: Uploads, name: str, end: str) -> None:
    uploads.read(part(f'name=a; filename="{name}"', b"x") + END)
    assert "".join(Path(str(uploads.files[0].name)).suffixes) == end


def test_files_without_a_name_are_no_texts(read: Read) -> None:
    sent = part("name=a", b"x" * 20_000, "Content-Type: image/png")
    assert read(sent + END) == [("a", b"x" * 20_000, "image/png", "")]


def test_header_with_very_many_parameters_is_refused(read: Read) -> None:
    assert why_not(read, part("name=a" + ";b=c" * 200) + END) == (
        "The content-disposition of the multipart body has too many parameters"
    )


# --- encoded parts

CONTENT = bytes(range(256)) * 20 + b"=\r\n."
BASE64 = "Content-Transfer-Encoding: base64"
QUOTED = "Content-Transfer-Encoding: Quoted-Printable"


def quoted(content: bytes) -> bytes:
    return binascii.b2a_qp(content, istext=False)


@pytest.mark.parametrize("size", [1, 5, 1000, 100_000])
def test_encoded_file_is_decoded_wherever_it_is_cut(read: Read, size: int) -> None:
    body = (
        part("name=a; filename=a", base64.b64encode(CONTENT), BASE64)
        + part("name=b; filename=b", base64.encodebytes(CONTENT), BASE64)
        + part("name=c", quoted(CONTENT), QUOTED, "Content-Type: x/y")
        + END
    )
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    assert read(*chunks) == [
        ("a", CONTENT, ANY, "a"),
        ("b", CONTENT, ANY, "b"),
        ("c", CONTENT, "x/y", ""),
    ]


def test_encoded_text_is_decoded_before_its_charset(read: Read) -> None:
    body = (
        part(
            "name=a",
            base64.b64encode("ä".encode("utf-16")),
            BASE64,
            "Content-Type: text/plain; charset=utf-16",
        )
        + part("name=b", b"h=C3=A4llo =\r\nWelt", QUOTED)
        + END
    )
    assert read(body) == [("a", "ä"), ("b", "hällo Welt")]


@pytest.mark.parametrize("encoding", ["", "7bit", "8bit", "BINARY"])
def test_other_encodings_leave_a_part_as_it_is(read: Read, encoding: str) -> None:
    sent = part("name=a; filename=f", b"YQ=\xff", f"Content-Transfer-Encoding: {encoding}")
    assert read(sent + END) == [("a", b"YQ=\xff", ANY, "f")]


@pytest.mark.parametrize("encoding", ["x-uuencode", "gzip", "base64, base64", "base 64"])
def test_unknown_transfer_encoding_is_refused(read: Read, encoding: str) -> None:
    assert why_not(read, part("name=a", b"x", f"Content-Transfer-Encoding: {encoding}") + END) == (
        f"Part 'a' of the form has the unknown Content-Transfer-Encoding {encoding!r}; "
        "use base64, quoted-printable or binary"
    )


@pytest.mark.parametrize(
    ("encoding", "content"),
    [("base64", b"!!!!"), ("base64", b"YQ"), ("quoted-printable", b"=ZZ"), ("base64", b"YQ==YQ==")],
)
@pytest.mark.parametrize("parameters", ["name=a", "name=a; filename=f"])
def test_malformed_encoding_of_a_part_is_refused(
    read: Read, parameters: str, encoding: str, content: bytes
) -> None:
    sent = part(parameters, content, f"Content-Transfer-Encoding: {encoding}") + END
    expected = (
        f"Part 'a' of the form is not valid {encoding}, which its Content-Transfer-Encoding names"
    )
    assert why_not(read, sent) == expected
    assert why_not(read, *(bytes([byte]) for byte in sent)) == expected


@pytest.mark.parametrize("coding", ["gzip", "br", "Deflate"])
def test_part_that_is_compressed_by_itself_is_refused(read: Read, coding: str) -> None:
    sent = part("name=a; filename=f", gzip.compress(b"x"), f"Content-Encoding: {coding}")
    assert why_not(read, sent + END, error=UnsupportedEncodingError) == (
        "Part 'a' of the form has a Content-Encoding; compress the whole body or nothing"
    )


@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
def test_part_may_say_that_it_is_not_compressed(read: Read, coding: str) -> None:
    assert read(part("name=a", b"x", f"Content-Encoding: {coding}") + END) == [("a", "x")]


def test_text_has_its_bound_after_decoding(read: Read) -> None:
    sent = part("name=a", base64.b64encode(b"x" * 10_000), BASE64) + END
    assert read(sent, text=10_000) == [("a", "x" * 10_000)]
    with pytest.raises(RequestError, match="more than 9999 bytes"):
        read(sent, text=9999)


# --- around the parts

BODY = part("name=a", b"1") + part("name=b; filename=f", b"\r\n--\r\n-B") + END
PARTS = [("a", "1"), ("b", b"\r\n--\r\n-B", ANY, "f")]

PREAMBLES = [
    b"\r\n",
    b"\n\n",
    b"This is a multi-part message in MIME format.\r\n",
    b"--\r\n",
    b"--b\r\n--C--\r\n",
    b"-\r\n--\r\n--\n",
    b"x--B\r\n",
    b"\r\r\r\n",
    b"x" * 10_000 + b"\r\n",
]


@pytest.mark.parametrize("before", PREAMBLES, ids=lambda before: str(before)[:30])
@pytest.mark.parametrize("size", [1, 2, 3, 100_000])
def test_preamble_is_ignored(read: Read, before: bytes, size: int) -> None:
    body = before + BODY
    assert read(*(body[start : start + size] for start in range(0, len(body), size))) == PARTS


@pytest.mark.parametrize(
    "after", [b"epilogue", b"\r\nepilogue\r\n--B\r\n", BODY, b"--B\r\n bad\r\n", b"x" * 100_000]
)
@pytest.mark.parametrize("size", [1, 100_000])
def test_epilogue_is_ignored(read: Read, after: bytes, size: int) -> None:
    body = BODY + after
    assert read(*(body[start : start + size] for start in range(0, len(body), size))) == PARTS


@pytest.mark.parametrize("size", [1, 2, 100_000])
def test_boundaries_may_be_padded(read: Read, size: int) -> None:
    body = BODY.replace(b"--B\r\n", b"--B \t\r\n").replace(b"--B--\r\n", b"--B-- \r\n")
    assert read(*(body[start : start + size] for start in range(0, len(body), size))) == PARTS


def test_long_preamble_is_not_held(uploads: Uploads) -> None:
    form = Form(CONTENT_TYPE, 10, 10, uploads.new)
    for _ in range(1000):
        form.feed(b"\r\n--" * 1000)
        assert len(form._preamble) < 10


# --- cut anywhere


@settings(deadline=None)
@given(st.integers(0, 100), st.integers(0, 100), st.data())
def test_pieces_have_few_parts_and_are_the_body(
    parts: int, filler: int, data: st.DataObject
) -> None:
    position = data.draw(st.integers(0, parts))
    bodies = [part("name=a", b"x")] * parts
    bodies.insert(position, b"y" * filler)
    body = b"".join(bodies)
    pieces = list(Form(CONTENT_TYPE, 10, 10, lambda _: NotImplemented).pieces(body))
    assert b"".join(pieces) == body
    assert max((piece.count(b"\n--B") for piece in pieces), default=0) <= 12


@pytest.mark.parametrize("rest", [b"x\r\n--B--\r\n", b""], ids=["after the end", "in a file"])
def test_lines_that_begin_as_a_boundary_make_no_small_pieces(uploads: Uploads, rest: bytes) -> None:
    body = part('name=a; filename="a"', rest) + b"\r\n--Bx" * 10_000
    count = 0
    with contextlib.closing(Form(CONTENT_TYPE, 10, 10, uploads.new)) as form:
        for piece in form.pieces(body):
            form.feed(piece)
            count += 1
    assert count <= (1 if rest else len(body) // PIECE_SIZE + 1)


names = st.sampled_from(["a", "b", "ä b"])
texts = st.text("aä-B\r\n=", max_size=30).map(str.encode)
contents = st.binary(max_size=60) | st.text("-B\r\n=\0", max_size=60).map(str.encode)


@st.composite
def forms(draw: st.DrawFn) -> tuple[bytes, list[tuple[Any, ...]]]:
    """Draw a form, and the parts that it consists of."""
    body, parts = draw(st.sampled_from([b"", b"\r\n", b"before\r\n--b\r\n"])), []
    for _ in range(draw(st.integers(0, 4))):
        name = draw(names)
        kind = draw(st.sampled_from(["", "text/plain", "image/png", "application/json"]))
        filename = draw(st.sampled_from([None, None, "", "f.png"]))
        is_text = filename is None and kind in ("", "text/plain")
        content = draw(texts if is_text else contents)
        if b"\r\n--B" in content or content.startswith(b"--B"):
            content = b""
        sent, headers = draw(encoded(content))
        parameters = f'name="{name}"' + ("" if filename is None else f'; filename="{filename}"')
        body += part(parameters, sent, *headers, *([f"Content-Type: {kind}"] if kind else []))
        default = ANY if filename else ""
        parts.append(
            (name, content.decode())
            if is_text
            else (name, content, kind or default, filename or "")
        )
    return body + END + draw(st.sampled_from([b"", b"after\r\n--B\r\n"])), parts


@st.composite
def encoded(draw: st.DrawFn, content: bytes) -> tuple[bytes, list[str]]:
    match draw(st.sampled_from(["", "8bit", "base64", "quoted"])):
        case "8bit":
            return content, ["Content-Transfer-Encoding: 8bit"]
        case "base64":
            return draw(st.sampled_from([base64.b64encode, base64.encodebytes]))(content), [BASE64]
        case "quoted":
            return quoted(content), [QUOTED]
        case _:
            return content, []


@settings(deadline=None)
@given(forms(), st.lists(st.integers(1, 30), min_size=1, max_size=5))
def test_any_form_is_the_same_wherever_it_is_cut(
    form: tuple[bytes, list[tuple[Any, ...]]], sizes: Sequence[int]
) -> None:
    body, parts = form
    chunks: list[bytes] = []
    start = 0
    while start < len(body):
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(body[start : start + size])
        start += size
    with TemporaryDirectory() as directory:
        assert Uploads(Path(directory)).read(*chunks) == parts
    with TemporaryDirectory() as directory:
        assert Uploads(Path(directory)).read(body) == parts
