"""Files in requests."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.conftest import Serve
from tests.support import Part, Server, multipart, predictions, wait_until


@pytest.fixture(scope="module")
def server(serve_all: Serve) -> Server:
    return serve_all(
        {
            "files": "zoo.files",
            "many": "zoo.many_files",
            "keeper": "zoo.file_keeper",
            "library": "zoo.library:model",
            "anywhere": "zoo.file_anywhere",
        }
    )


@pytest.fixture(scope="module")
def tidy(serve_all: Serve) -> Server:
    """A server for requests after which even the reference release leaves no file behind."""
    return serve_all({"keeper": "zoo.file_keeper"})


@pytest.fixture(scope="module")
def untidy(serve_all: Serve) -> Server:
    """A server for requests after which the reference release leaves a file behind."""
    return serve_all({"keeper": "zoo.file_keeper"})


def sent(server: Server, *parts: Part) -> Any:
    return predictions(server.predict("files", **multipart(*parts)))


def test_file_part_becomes_an_uploaded_file(server: Server) -> None:
    got = sent(server, Part("data", b"hello", "a.txt", "text/plain"))["data"]
    assert got["type"] == "UploadedFile"
    assert got["module"] == "deepaas.model.v2.wrapper"
    assert got["length"] == 4
    assert got["fields"] == ["name", "filename", "content_type", "original_filename"]


def test_uploaded_file_holds_name_type_and_the_clients_name(server: Server) -> None:
    got = sent(server, Part("data", b"hello", "a.txt", "text/plain"))["data"]
    assert got["name"] == "data"
    assert got["content_type"] == "text/plain"
    assert got["original_filename"] == "a.txt"


@pytest.mark.parametrize(
    "content", [b"hello", b"", b"\r\n--\r\n\x00\xff", b"x" * 3_000_000], ids=len
)
def test_content_is_in_the_temporary_file(server: Server, content: bytes) -> None:
    got = sent(server, Part("data", content, "a.txt", "text/plain"))["data"]
    assert got["content"] == content.decode("latin-1")


def test_temporary_file_lies_in_the_temporary_directory(server: Server) -> None:
    got = sent(server, Part("data", b"hello", "client's.txt", "text/plain"))["data"]
    assert os.path.isabs(got["filename"])
    assert got["filename"].startswith(str(server.home / "tmp"))
    assert "client" not in got["filename"]


def test_type_of_a_part_without_one_is_octet_stream(server: Server) -> None:
    got = sent(server, Part("data", b"hello", "a.txt"))["data"]
    assert got["content_type"] == "application/octet-stream"


def test_type_of_a_part_keeps_no_more_than_the_type(server: Server) -> None:
    got = sent(server, Part("data", b"hello", "a.png", "image/png"))["data"]
    assert got["content_type"] == "image/png"


def test_name_of_a_file_may_have_any_letters(server: Server) -> None:
    got = sent(server, Part("data", b"hello", "größe €.txt", "text/plain"))["data"]
    assert got["original_filename"] == "größe €.txt"


def test_several_file_arguments_are_kept_apart(server: Server) -> None:
    got = sent(
        server,
        Part("other", b"second", "b.bin"),
        Part("text", b"words"),
        Part("data", b"first", "a.txt"),
    )
    assert (got["data"]["content"], got["data"]["original_filename"]) == ("first", "a.txt")
    assert (got["other"]["content"], got["other"]["original_filename"]) == ("second", "b.bin")
    assert got["text"]["value"] == "'words'"


def test_first_of_several_parts_of_one_name_counts(server: Server) -> None:
    got = sent(server, Part("data", b"first", "a.txt"), Part("data", b"second", "b.txt"))["data"]
    assert (got["content"], got["original_filename"]) == ("first", "a.txt")


def test_absent_file_is_not_passed(server: Server) -> None:
    assert sent(server, Part("text", b"words")) == {
        "text": {"type": "str", "value": "'words'", "falsy": False}
    }


def test_file_needs_no_location(server: Server) -> None:
    file = Part("data", b"hello", "a.txt", "text/plain")
    response = server.predict("anywhere", params={"text": "words"}, **multipart(file))
    assert predictions(response) == ["a.txt", "hello", "words"]


def test_missing_required_file_is_422(server: Server) -> None:
    response = server.predict("keeper", **multipart(Part("do", b"read")))
    assert response.status_code == 422
    assert response.json() == {"data": ["Missing data for required field."]}


@pytest.mark.parametrize("kind", [None, "application/octet-stream"])
def test_part_of_a_form_with_no_file_chosen_is_falsy(server: Server, kind: str | None) -> None:
    got = sent(server, Part("data", b"", "", kind), Part("text", b"words"))
    assert "data" not in got or got["data"]["falsy"] is True


def test_file_for_a_text_argument_is_422(server: Server) -> None:
    response = server.predict("files", **multipart(Part("text", b"words", "a.txt", "text/plain")))
    assert response.status_code == 422
    assert response.json() == {"text": ["Not a valid string."]}


@pytest.mark.mended("the whole path is passed on")
@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("../../b.tar.gz", "b.tar.gz"),
        ("/etc/passwd", "passwd"),
        ("C:\\dir\\c.png", "c.png"),
        ("dir/d.txt", "d.txt"),
    ],
)
def test_clients_file_name_is_its_base_name(server: Server, name: str, base: str) -> None:
    got = sent(server, Part("data", b"hello", name, "text/plain"))["data"]
    assert got["original_filename"] == base


@pytest.mark.mended("500")
def test_list_of_files_gives_them_all(server: Server) -> None:
    parts = [Part("files", b"1", "a.txt"), Part("files", b"2", "b.txt")]
    response = server.predict("many", **multipart(*parts))
    assert predictions(response) == [["files", "a.txt", "1"], ["files", "b.txt", "2"]]


@pytest.mark.mended("500")
def test_list_of_files_may_hold_one(server: Server) -> None:
    response = server.predict("many", **multipart(Part("files", b"1", "a.txt")))
    assert predictions(response) == [["files", "a.txt", "1"]]


@pytest.mark.parametrize("do", ["delete", "move"])
def test_module_may_take_the_file_away(server: Server, do: str) -> None:
    parts = [Part("data", b"hello", "a.txt"), Part("do", do.encode())]
    got = predictions(server.predict("keeper", **multipart(*parts)))
    assert got["content"] == "hello"
    assert got["is file"] is False


@pytest.mark.mended("it stays for good")
@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([Part("data", b"hello", "a.txt")], 200),
        ([Part("data", b"hello", "a.txt"), Part("do", b"fail")], 500),
    ],
    ids=["predicted", "failed"],
)
def test_temporary_file_is_gone_after_the_answer(
    untidy: Server, parts: list[Part], status: int
) -> None:
    assert untidy.predict("keeper", **multipart(*parts)).status_code == status
    wait_until(lambda: not untidy.temporary_files(), within=1, what="no temporary file")


@pytest.mark.parametrize(
    "parts",
    [
        [Part("data", b"hello", "a.txt"), Part("number", b"x")],
        [Part("other", b"hello", "a.txt")],
        [Part("data", b"hello", "a.txt"), Part("do", b"delete")],
    ],
    ids=["invalid", "unknown name", "deleted by the module"],
)
def test_no_temporary_file_stays(tidy: Server, parts: list[Part]) -> None:
    tidy.predict("keeper", **multipart(*parts))
    wait_until(lambda: not tidy.temporary_files(), within=1, what="no temporary file")


def test_names_that_modules_import_are_there(server: Server) -> None:
    got = predictions(server.predict("library"))
    assert got.pop("version").count(".") == 2
    assert got == {
        "same class": True,
        "defaults": [None] * 4,
        "fields": ["name", "filename", "content_type", "original_filename"],
        "by name": "b",
        "is tuple": True,
        "unpacked": ["name", "/tmp/file", "text/plain", "client.txt"],
    }
