"""Decoding of compressed bodies and of encoded parts, cut anywhere."""

from __future__ import annotations

import base64
import binascii
import gzip
import itertools
import random
import zlib
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepaas.exceptions import BadRequestError, UnsupportedEncodingError
from deepaas.http.encodings import (
    PIECE,
    Base64Decoder,
    Decompressor,
    PartDecoder,
    QuotedPrintableDecoder,
    content_coding,
    part_decoder,
)

DATA = random.Random(1).randbytes(300) + b"text " * 200


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


KINDS = {
    "gzip": ("gzip", gzip.compress(DATA)),
    "gzip of two members": ("gzip", gzip.compress(DATA[:400]) + gzip.compress(DATA[400:])),
    "gzip with empty members": ("gzip", gzip.compress(b"") * 3 + gzip.compress(DATA)),
    "gzip with padding": ("gzip", gzip.compress(DATA) + b"\0" * 20),
    "gzip padded within": (
        "gzip",
        gzip.compress(DATA[:400]) + b"\0" * 20 + gzip.compress(DATA[400:]),
    ),
    "zlib": ("deflate", zlib.compress(DATA)),
    "zlib at level 0": ("deflate", zlib.compress(DATA, 0)),
    "raw deflate": ("deflate", raw_deflate(DATA)),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def decompress(coding: str, *chunks: bytes) -> bytes:
    decompressor = Decompressor(coding)
    data = b"".join(piece for chunk in chunks for piece in decompressor.feed(chunk))
    decompressor.finish()
    return data


def why_not(coding: str, *chunks: bytes) -> str:
    with pytest.raises(BadRequestError) as error:
        decompress(coding, *chunks)
    return str(error.value)


# --- compressed bodies


@every_kind
def test_body_is_decompressed(kind: str) -> None:
    coding, body = KINDS[kind]
    assert decompress(coding, body) == DATA


@every_kind
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_body_is_the_same_wherever_it_is_cut(kind: str, size: int) -> None:
    coding, body = KINDS[kind]
    assert decompress(coding, *pieces(body, size)) == DATA


@pytest.mark.parametrize("kind", ["gzip", "zlib", "zlib at level 0", "raw deflate"])
def test_body_that_breaks_off_is_refused_wherever_it_does(kind: str) -> None:
    coding, body = KINDS[kind]
    for cut in range(1, len(body)):
        assert why_not(coding, body[:cut]) == (
            f"The request body ends before its {coding} data does; it was cut off"
        )


@pytest.mark.parametrize("padding", [b"", b"\0\0"])
def test_gzip_that_breaks_off_in_a_later_member_is_refused(padding: bytes) -> None:
    first, second = gzip.compress(DATA[:400]) + padding, gzip.compress(DATA[400:])
    assert decompress("gzip", first) == DATA[:400]
    for cut in range(1, len(second)):
        assert "it was cut off" in why_not("gzip", first + second[:cut])


def test_body_without_bytes_is_empty() -> None:
    assert decompress("gzip") == decompress("gzip", b"") == decompress("deflate", b"") == b""


@every_kind
@pytest.mark.parametrize("garbage", [b"x", b"\0\0x", b"garbage", b"\x1f"])
def test_garbage_after_the_end_is_refused(kind: str, garbage: bytes) -> None:
    coding, body = KINDS[kind]
    if garbage == b"\x1f" and coding == "gzip":
        assert "cut off" in why_not(coding, body + garbage)
        return
    for chunks in ([body + garbage], [body, garbage], list(pieces(body + garbage, 1))):
        assert why_not(coding, *chunks).endswith("names: other bytes follow its end")


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", b"{}"),
        ("gzip", zlib.compress(DATA)),
        ("gzip", gzip.compress(DATA)[:-8] + b"\0" * 8),
        ("gzip", b"\x1f\x8b\x07" + bytes(20)),
        ("deflate", gzip.compress(DATA)),
        ("deflate", zlib.compress(DATA)[:-4] + b"\0" * 4),
        ("deflate", b"\x78\xbb" + bytes(20)),  # needs a dictionary
    ],
)
def test_body_that_is_something_else_is_refused(coding: str, body: bytes) -> None:
    why = f"The request body is not the {coding} data that its Content-Encoding names: "
    assert why_not(coding, body).startswith(why)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_large_body_is_decompressed_in_pieces(coding: str) -> None:
    data = b"\0" * (50 * PIECE + 1)
    compressed = gzip.compress(data) if coding == "gzip" else zlib.compress(data)
    sizes = [len(piece) for piece in Decompressor(coding).feed(compressed)]
    assert max(sizes) == PIECE
    assert sum(sizes) == len(data)


@pytest.mark.parametrize("size", [PIECE - 1, PIECE, PIECE + 1, 2 * PIECE])
def test_body_that_fills_its_pieces_is_whole(size: int) -> None:
    data = b"x" * size
    assert decompress("gzip", *pieces(gzip.compress(data), 11)) == data


@settings(deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=4), st.lists(st.integers(1, 40), min_size=1))
def test_members_and_chunks_of_any_size_make_the_same_body(
    members: Sequence[bytes], sizes: Sequence[int]
) -> None:
    body = b"".join(map(gzip.compress, members))
    chunks, sized = [], itertools.cycle(sizes)
    while body:
        size = next(sized)
        chunks.append(body[:size])
        body = body[size:]
    assert decompress("gzip", *chunks) == b"".join(members)


@settings(deadline=None)
@given(st.sampled_from(["gzip", "deflate"]), st.binary(max_size=100))
def test_any_bytes_are_decompressed_or_refused(coding: str, body: bytes) -> None:
    try:
        decompress(coding, body)
    except BadRequestError:
        return


# --- names of encodings


@pytest.mark.parametrize(
    ("values", "coding"),
    [
        ([], ""),
        ([""], ""),
        (["identity"], ""),
        (["gzip"], "gzip"),
        (["x-gzip"], "gzip"),
        ([" GZip "], "gzip"),
        (["Deflate"], "deflate"),
    ],
)
def test_known_content_codings(values: Sequence[str], coding: str) -> None:
    assert content_coding(values) == coding


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        (["br"], "The server does not know the Content-Encoding 'br'"),
        (["zstd"], "The server does not know the Content-Encoding 'zstd'"),
        (["compress"], "The server does not know the Content-Encoding 'compress'"),
        (["gzip, gzip"], "The body has several Content-Encodings, 'gzip, gzip'"),
        (["gzip", "deflate"], "The body has several Content-Encodings, 'gzip, deflate'"),
        (["identity, gzip"], "The body has several Content-Encodings, 'identity, gzip'"),
    ],
)
def test_unknown_content_coding_is_refused(values: Sequence[str], wrong: str) -> None:
    with pytest.raises(UnsupportedEncodingError) as error:
        content_coding(values)
    assert str(error.value) == f"{wrong}; use one of gzip, deflate, identity"
    assert error.value.headers == {"Accept-Encoding": "gzip, deflate, identity"}


# --- encoded parts


def decode(decoder: PartDecoder, *chunks: bytes) -> bytes:
    data = b"".join(decoder.feed(memoryview(chunk)) for chunk in chunks)
    decoder.finish()
    return data


cuts = st.lists(st.integers(0, 400), max_size=8).map(sorted)


def cut_at(data: bytes, positions: Sequence[int]) -> list[bytes]:
    ends = [*positions, len(data)]
    return [data[start:end] for start, end in zip([0, *positions], ends, strict=True)]


@settings(deadline=None)
@given(st.binary(max_size=200), cuts, st.booleans())
def test_base64_is_decoded_wherever_it_is_cut(
    data: bytes, positions: Sequence[int], lines: bool
) -> None:
    encoded = base64.encodebytes(data).replace(b"\n", b"\r\n") if lines else base64.b64encode(data)
    assert decode(Base64Decoder(), *cut_at(encoded, positions)) == data


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text("a=\r\n\t .", max_size=200).map(str.encode), cuts)
def test_quoted_printable_is_decoded_wherever_it_is_cut(
    data: bytes, positions: Sequence[int]
) -> None:
    encoded = binascii.b2a_qp(data, istext=False)
    assert decode(QuotedPrintableDecoder(), *cut_at(encoded, positions)) == data


@pytest.mark.parametrize(
    ("encoded", "data"),
    [
        (b"a=3Db=c3=A4", "a=bä".encode()),
        (b"soft =\r\nbreak", b"soft break"),
        (b"soft=\nbreak", b"softbreak"),
        (b"padded= \t \r\nbreak", b"paddedbreak"),
        (b"at the end=", b"at the end"),
        (b"at the end=\r", b"at the end"),
        (b"two\r\nlines \r\n", b"two\r\nlines \r\n"),
        (b"", b""),
    ],
)
def test_quoted_printable(encoded: bytes, data: bytes) -> None:
    for size in (1, 2, 1000):
        assert decode(QuotedPrintableDecoder(), *pieces(encoded, size)) == data


@pytest.mark.parametrize(
    "encoded",
    [b"!", b"YQ", b"YQ=", b"Y", b"Y===", b"====", b"YQ==YQ==", b"YQ==x", b"Y-_=", b"YQ=\0="],
)
def test_malformed_base64_is_refused(encoded: bytes) -> None:
    for size in (1, 2, 3, 1000):
        with pytest.raises(ValueError, match="malformed base64"):
            decode(Base64Decoder(), *pieces(encoded, size))


@pytest.mark.parametrize("encoded", [b"=ZZ", b"a=b", b"==", b"=4", b"=\rx", b"= x", b"=4\r\n"])
def test_malformed_quoted_printable_is_refused(encoded: bytes) -> None:
    for size in (1, 2, 3, 1000):
        with pytest.raises(ValueError, match="malformed quoted-printable"):
            decode(QuotedPrintableDecoder(), *pieces(encoded, size))


def test_soft_line_break_without_end_is_not_held_for_ever() -> None:
    decoder = QuotedPrintableDecoder()
    decoder.feed(b"=")
    with pytest.raises(ValueError, match="malformed quoted-printable"):
        decoder.feed(b" " * 2000)


@pytest.mark.parametrize("encoding", ["", "7bit", "8BIT", " Binary "])
def test_parts_that_are_not_encoded_need_no_decoder(encoding: str) -> None:
    assert part_decoder(encoding) is None


def test_unknown_encoding_of_a_part_has_no_decoder() -> None:
    with pytest.raises(KeyError):
        part_decoder("x-uuencode")
