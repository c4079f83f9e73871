"""The generators leave nothing out of the description of many different models."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.clients.generating import TOOLS, generate, importable, needs, needs_openapi_python_client
from tests.clients.test_openapi_generator import JAVA, warnings_of
from tests.clients.test_openapi_typescript import NODE
from tests.conftest import Serve

MODELS = {
    name: f"zoo.{target}"
    for name, target in {
        "asynchronous": "asynchronous:Async",
        "bare_stream": "streaming:Bare",
        "batched": "batched:Batched",
        "dict": "schema_dict",
        "echo": "echo",
        "file_anywhere": "file_anywhere",
        "files": "files",
        "free": "media_free",
        "labels": "schema_class",
        "list": "schema_list",
        "many_files": "many_files",
        "mixed": "schema_media",
        "odd {name}": "media",
        "plain": "plain",
        "raises": "raises",
        "rich": "rich",
        "rich_train": "rich_train",
        "sources": "sources",
        "stream": "streaming:WithSchema",
        "trains": "trains",
        "wild": "media_wild",
    }.items()
}

pytestmark = [pytest.mark.long, needs(TOOLS)]


@pytest.fixture(scope="module")
def file(serve_all: Serve, tmp_path_factory: pytest.TempPathFactory) -> Path:
    server = serve_all(MODELS, "--admin-endpoint")
    file = tmp_path_factory.mktemp("description") / "openapi.json"
    file.write_bytes(server.get("/openapi.json").content)
    return file


@needs_openapi_python_client
def test_openapi_python_client(file: Path, tmp_path: Path) -> None:
    command = ["openapi-python-client", "generate", "--path", str(file), "--meta", "none"]
    output = generate([*command, "--output-path", "client_of_many"], tmp_path)
    assert output == "Generating client_of_many\n"
    with importable(tmp_path, "client_of_many") as load:
        for module in (tmp_path / "client_of_many/api").glob("*/[a-z]*.py"):
            load(f"api.{module.parent.name}.{module.stem}")


def test_openapi_generator(file: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from openapi_generator_cli import cli; cli()", "generate"]
    command += ["--generator-name", "python", "--input-spec", str(file), "--output", "."]
    output = generate([*command, "--package-name", "client_of_many"], tmp_path, path=str(JAVA))
    assert warnings_of(output) == []
    with importable(tmp_path, "client_of_many") as load:
        for module in (tmp_path / "client_of_many/api").glob("[a-z]*.py"):
            load(f"api.{module.stem}")


def test_openapi_typescript(file: Path, tmp_path: Path) -> None:
    output = generate(
        [NODE / ".bin/openapi-typescript", file, "--output", "description.ts"], tmp_path
    )
    assert "warn" not in output.lower()
    generate([NODE / ".bin/tsc", "--strict", "--noEmit", "description.ts"], tmp_path)
