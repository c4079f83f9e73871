"""Tests of the filetype example over HTTP, with a real `deepaas-run`."""

import zipfile
from base64 import b64decode
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import httpx
import pytest

from tests.declared import send_examples
from tests.support import Server

PNG = b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
PDF = b"""%PDF-1.4
1 0 obj << /Type /Catalog /Pages 2 0 R >> endobj
2 0 obj << /Type /Pages /Kids [3 0 R] /Count 1 >> endobj
3 0 obj << /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] >> endobj
trailer << /Root 1 0 R >>
%%EOF
"""


def zipped() -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "Some text.\n" * 20)
    return file.getvalue()


def run() -> Server:
    """Start a server without PYTHONPATH, which would hide the installed package."""
    args = ["--model-name", "filetype"]
    return Server(args=args, env={"PYTHONPATH": None}, ready_seconds=60)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with run() as server:
        yield server


def predict(server: Server, content: bytes, name: str = "upload") -> httpx.Response:
    return server.predict("filetype", files={"file": (name, content)})


def test_it_accepts_its_examples(server: Server) -> None:
    (answer,) = send_examples(server, "filetype")
    assert answer.json()["label"] == "csv"


def test_metadata_is_that_of_the_package(server: Server) -> None:
    metadata = server.get("/v2/models/filetype/").json()
    assert metadata["version"] == "1.0.0"
    assert metadata["license"] == "Apache-2.0"


@pytest.mark.parametrize(
    ("content", "label", "group", "mime_type"),
    [
        pytest.param(Path(__file__).read_bytes(), "python", "code", "text/x-python", id="python"),
        pytest.param(PNG, "png", "image", "image/png", id="png"),
        pytest.param(PDF, "pdf", "document", "application/pdf", id="pdf"),
        pytest.param(zipped(), "zip", "archive", "application/zip", id="zip"),
    ],
)
def test_the_content_tells_the_kind(
    server: Server, content: bytes, label: str, group: str, mime_type: str
) -> None:
    answer = predict(server, content)
    assert answer.status_code == 200
    kind = answer.json()  # the value itself, since the model has a schema
    assert set(kind) == {"label", "score", "group", "description", "mime_type"}
    assert (kind["label"], kind["group"], kind["mime_type"]) == (label, group, mime_type)
    assert 0.5 < kind["score"] <= 1


def test_the_name_plays_no_part(server: Server) -> None:
    assert predict(server, PNG, "program.py").json()["label"] == "png"


def test_a_missing_file_is_named(server: Server) -> None:
    answer = server.predict("filetype", data={"other": "x"})
    assert answer.status_code == 422
    assert list(answer.json()) == ["file"]


def test_an_empty_file_is_called_so(server: Server) -> None:
    assert predict(server, b"").json()["label"] == "empty"


def test_text_in_place_of_the_file_is_refused(server: Server) -> None:
    answer = server.predict("filetype", data={"file": "print(1)"}, files={"other": b"x"})
    assert answer.status_code == 422
    assert "-F file=@file" in answer.json()["file"][0]


def test_the_description_shows_the_schema(server: Server) -> None:
    definition = server.get("/swagger.json").json()["definitions"]["FileType"]
    assert definition["properties"]["score"]["type"] == "number"
    assert "mime_type" in definition["required"]


def test_onnxruntime_prepares_no_report_of_its_use(server: Server) -> None:
    assert predict(server, PNG).status_code == 200
    assert list(server.home.rglob("*onnxruntime*")) == []
