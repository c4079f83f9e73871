"""Form parts without a file name, encoded parts, and text where a file is expected."""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
from typing import Any

import httpx
import pytest

from tests.conftest import Serve
from tests.support import Part, Server, multipart, predictions

IMAGE = b"\x89PNG\r\n\xff\xfe\x00"
NOT_A_FILE = "Not a file. Send it as a part of a multipart form, as curl does with -F {}=@file"


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all({"sources": "zoo.sources"})


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def sent(server: Server, *parts: Part) -> Any:
    return predictions(server.predict("sources", **multipart(*parts)))


def send_part(server: Server, head: str, content: bytes) -> httpx.Response:
    """Send a part whose header lines are sent unchanged."""
    body = f"--b\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + content
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    return server.predict("sources", content=body + b"\r\n--b--\r\n", headers=headers)


# --- file arguments


@pytest.mark.mended("a bytearray")
@pytest.mark.parametrize("name", ["file", "form_file"])
def test_part_without_file_name_but_with_a_type_is_a_file(server: Server, name: str) -> None:
    got = sent(server, Part(name, IMAGE, None, "image/png"))[name]
    assert got == ["UploadedFile", sha256(IMAGE), "image/png", "unnamed", ""]


@pytest.mark.mended("a text, or a bytearray")
@pytest.mark.parametrize(
    ("kind", "seen"), [(None, "application/octet-stream"), ("text/plain", "text/plain")]
)
def test_part_with_an_empty_file_name_and_content_is_a_file(
    server: Server, kind: str | None, seen: str
) -> None:
    got = sent(server, Part("file", IMAGE[:5], "", kind))["file"]
    assert got == ["UploadedFile", sha256(IMAGE[:5]), seen, "unnamed", ""]


@pytest.mark.mended("it is passed on")
@pytest.mark.parametrize("name", ["file", "form_file"])
@pytest.mark.parametrize("kind", [None, "text/plain"])
def test_text_for_a_file_is_422(server: Server, name: str, kind: str | None) -> None:
    response = server.predict("sources", **multipart(Part(name, b"cat.png", None, kind)))
    assert response.status_code == 422
    assert response.json() == {name: [NOT_A_FILE.format(name)]}


@pytest.mark.mended("it is passed on")
@pytest.mark.parametrize(
    "sent", [{"params": {"file": "a"}}, {"data": {"file": "a"}}, {"json": {"file": "a"}}]
)
def test_text_from_elsewhere_for_a_file_is_422(server: Server, sent: dict[str, Any]) -> None:
    response = server.predict("sources", **sent)
    assert response.status_code == 422
    assert response.json() == {"file": [NOT_A_FILE.format("file")]}


@pytest.mark.mended("it is passed on")
@pytest.mark.parametrize("value", [1, True, False, [], ["a"], {}, {"a": 1}])
def test_json_for_a_file_is_422(server: Server, value: Any) -> None:
    response = server.predict("sources", json={"file": value, "number": "x"})
    assert response.status_code == 422
    assert response.json() == {
        "file": [NOT_A_FILE.format("file")],
        "number": ["Not a valid integer."],
    }


@pytest.mark.parametrize(
    "sent", [{"params": {"file": ""}}, {"data": {"file": ""}}, {"json": {"file": ""}}]
)
def test_empty_text_for_a_file_is_no_file(server: Server, sent: dict[str, Any]) -> None:
    assert predictions(server.predict("sources", **sent)) == {"file": ["str", "''"]}


def test_null_for_a_file_is_refused_by_the_field(server: Server) -> None:
    response = server.predict("sources", json={"file": None})
    assert response.status_code == 422
    assert response.json() == {"file": ["Field may not be null."]}


# --- other arguments


@pytest.mark.parametrize("content", [IMAGE, b"text"])
def test_part_of_another_type_is_bytes(server: Server, content: bytes) -> None:
    kind, seen = sent(server, Part("anything", content, None, "image/png"))["anything"]
    assert kind in ("bytes", "bytearray")
    assert seen in (repr(content), repr(bytearray(content)))


@pytest.mark.mended("a bytearray")
def test_bytes_are_bytes(server: Server) -> None:
    got = sent(server, Part("anything", IMAGE, None, "image/png"))
    assert got == {"anything": ["bytes", repr(IMAGE)]}


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("text/csv", "ä;1".encode()),
        ("text/csv; charset=latin-1", "ä;1".encode("latin-1")),
        ("text/plain; charset=utf-16", "ä;1".encode("utf-16")),
    ],
)
@pytest.mark.parametrize("name", ["text", "anything"])
def test_part_of_text_is_decoded_by_its_charset(
    server: Server, name: str, kind: str, content: bytes
) -> None:
    assert sent(server, Part(name, content, None, kind)) == {name: ["str", repr("ä;1")]}


@pytest.mark.mended("500")
@pytest.mark.parametrize("kind", [None, "text/plain; charset=ascii", "text/csv"])
def test_text_that_is_not_in_its_charset_is_refused(server: Server, kind: str | None) -> None:
    response = server.predict("sources", **multipart(Part("text", b"\xff", None, kind)))
    assert response.status_code in (400, 422)


@pytest.mark.mended("it is replaced")
@pytest.mark.parametrize("place", ["query", "form"])
def test_value_that_is_not_text_is_422(server: Server, place: str) -> None:
    value = b"text=%FF"
    path = "/v2/models/sources/predict/"
    if place == "query":
        response = server.post(f"{path}?{value.decode()}")
    else:
        kind = "application/x-www-form-urlencoded"
        response = server.post(path, content=value, headers={"Content-Type": kind})
    assert response.status_code == 422
    assert response.json() == {"text": ["Not text in the charset of the request."]}


@pytest.mark.parametrize(
    ("name", "content", "got"),
    [("number", b"5", ["int", "5"]), ("real", b"0.5", ["float", "0.5"])],
)
def test_json_part_is_read_by_a_number(server: Server, name: str, content: bytes, got: Any) -> None:
    assert sent(server, Part(name, content, None, "application/json")) == {name: got}


@pytest.mark.mended("422")
def test_json_part_is_text_for_a_text(server: Server) -> None:
    got = sent(server, Part("text", b'{"a": 1}', None, "application/json"))
    assert got == {"text": ["str", repr('{"a": 1}')]}


@pytest.mark.mended("422")
@pytest.mark.parametrize("kind", ["application/json", "application/geo+json; charset=utf-8"])
@pytest.mark.parametrize(
    ("name", "content", "got"),
    [
        ("mapping", '{"ä": [1, null]}', ["dict", r'{"\u00e4": [1, null]}']),
        ("mapping", '{"a": 1208925819614629174706177}', ["dict", f'{{"a": {2**80 + 1}}}']),
        ("nested", '{"count": 3, "name": "x"}', ["dict", '{"count": 3, "name": "x"}']),
        ("numbers", "[1, 1208925819614629174706177]", ["list", f"[1, {2**80 + 1}]"]),
        ("texts", '["a", "b"]', ["list", "['a', 'b']"]),
    ],
)
def test_json_part_is_parsed_for_a_structure(
    server: Server, name: str, content: str, got: Any, kind: str
) -> None:
    assert sent(server, Part(name, content.encode(), None, kind)) == {name: got}


@pytest.mark.mended("422")
@pytest.mark.parametrize(
    ("name", "content"), [("mapping", '{"a": [1, null]}'), ("nested", '{"count": 3, "name": "x"}')]
)
def test_json_to_which_a_browser_gives_a_file_name_is_parsed(
    server: Server, name: str, content: str
) -> None:
    got = sent(server, Part(name, content.encode(), "blob", "application/json"))
    assert got == {name: ["dict", content]}


def test_malformed_json_part_is_422(server: Server) -> None:
    part = Part("mapping", b"{'a': 1}", None, "application/json")
    response = server.predict("sources", **multipart(part))
    assert response.status_code == 422
    assert list(response.json()) == ["mapping"]


@pytest.mark.mended("Not a valid mapping type.")
def test_answer_tells_the_fault_in_the_json(server: Server) -> None:
    part = Part("mapping", b"{'a': 1}", None, "application/json")
    ((message,),) = server.predict("sources", **multipart(part)).json().values()
    assert message.startswith("The part is not valid JSON: Expecting property name")


# --- encoded parts

BASE64 = "Content-Transfer-Encoding: base64"
QUOTED = "Content-Transfer-Encoding: quoted-printable"


@pytest.mark.parametrize(
    ("encoding", "encoded"),
    [
        (BASE64, base64.b64encode(IMAGE * 100)),
        (BASE64, base64.encodebytes(IMAGE * 100).replace(b"\n", b"\r\n")),
        (QUOTED, binascii.b2a_qp(IMAGE * 100, istext=False)),
        ("Content-Transfer-Encoding: binary", IMAGE * 100),
    ],
    ids=["base64", "base64 in lines", "quoted-printable", "binary"],
)
def test_encoded_file_is_decoded(server: Server, encoding: str, encoded: bytes) -> None:
    head = f'name="file"; filename="a"\r\nContent-Type: image/png\r\n{encoding}'
    got = predictions(send_part(server, head, encoded))["file"]
    assert got[:2] == ["UploadedFile", sha256(IMAGE * 100)]


@pytest.mark.parametrize(
    ("encoding", "encoded"),
    [(BASE64, base64.b64encode("hällo".encode())), (QUOTED, b"h=C3=A4l=\r\nlo")],
)
def test_encoded_text_is_decoded(server: Server, encoding: str, encoded: bytes) -> None:
    got = predictions(send_part(server, f"name=text\r\n{encoding}", encoded))
    assert got == {"text": ["str", "'hällo'"]}


@pytest.mark.mended("malformed parts are left out or passed on")
@pytest.mark.parametrize(
    ("encoding", "encoded"), [(BASE64, b"!!!"), (BASE64, b"YQ"), (QUOTED, b"=ZZ")]
)
def test_malformed_encoding_is_400(server: Server, encoding: str, encoded: bytes) -> None:
    response = send_part(server, f'name="file"; filename="a"\r\n{encoding}', encoded)
    assert response.status_code == 400
    assert "Part 'file' of the form is not valid" in response.json()["message"]


@pytest.mark.mended("500")
def test_unknown_transfer_encoding_is_400(server: Server) -> None:
    response = send_part(server, "name=text\r\nContent-Transfer-Encoding: zip", b"x")
    assert response.status_code == 400
    assert "Content-Transfer-Encoding 'zip'" in response.json()["message"]


@pytest.mark.mended("500")
def test_compressed_part_is_415(server: Server) -> None:
    head = 'name="file"; filename="a"\r\nContent-Encoding: gzip'
    assert send_part(server, head, gzip.compress(b"x")).status_code == 415


# --- the text around the parts


def test_preamble_and_epilogue_are_ignored(server: Server) -> None:
    form = multipart(Part("text", b"x"))
    form["content"] = b"This is a form.\r\n" + form["content"] + b"It has ended.\r\n"
    assert predictions(server.predict("sources", **form)) == {"text": ["str", "'x'"]}


def test_boundary_may_be_padded(server: Server) -> None:
    form = multipart(Part("text", b"x"), Part("number", b"5"))
    form["content"] = form["content"].replace(b"boundary\r\n", b"boundary \t\r\n")
    got = predictions(server.predict("sources", **form))
    assert got == {"text": ["str", "'x'"], "number": ["int", "5"]}


# --- names


@pytest.mark.mended("it is passed on")
@pytest.mark.parametrize("name", [".", "..", "dir/..", "../", "\\\\"])
def test_name_that_cannot_be_used_becomes_unnamed(server: Server, name: str) -> None:
    assert sent(server, Part("file", b"x", name))["file"][3] == "unnamed"


@pytest.mark.mended("it is passed on")
@pytest.mark.parametrize(
    ("name", "base"), [("a%0D%0Ab.txt", "ab.txt"), ("%00..%2Fb.txt", "b.txt"), ("a%1Bb", "ab")]
)
def test_name_has_no_control_characters(server: Server, name: str, base: str) -> None:
    got = predictions(send_part(server, f"name=file; filename*=utf-8''{name}", b"x"))["file"]
    assert got[3] == base


@pytest.mark.mended("it is passed on")
def test_name_has_no_more_than_255_bytes(server: Server) -> None:
    name = sent(server, Part("file", b"x", "€" * 200 + ".png"))["file"][3]
    assert name == "€" * 83 + ".png"


@pytest.mark.mended("it has none")
@pytest.mark.parametrize(
    ("name", "end"),
    [("cat.png", "png"), ("v.nii.gz", "nii.gz"), ("a/b.c/d.TAR.gz", "TAR.gz"), ("C:\\x.b2", "b2")],
)
def test_path_has_the_extension_of_the_name(server: Server, name: str, end: str) -> None:
    assert sent(server, Part("file", b"x", name))["file"][4] == end


@pytest.mark.parametrize("name", ["cat", ".png", "a.", "a.x y", "a." + "x" * 17, "a.ä"])
def test_path_has_no_extension_that_is_not_plain(server: Server, name: str) -> None:
    assert sent(server, Part("file", b"x", name))["file"][4] == ""
