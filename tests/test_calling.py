"""The pages docs/calling*.md are correct: the tests start their models and run all their blocks.

The blocks of Python, JavaScript or TypeScript on a page are one program, whose output is that of
the `text` blocks. Packages come from the environment of the tests and from `make test-clients`.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.browser import browsing, needs_chromium
from tests.clients.generating import ROOT, TOOLS, needs, needs_openapi_python_client
from tests.documents import blocks, blocks_of
from tests.reader import LANGUAGES, STARTS, Reader, reading

DOCS = ROOT / "docs"

needs_node = pytest.mark.skipif(
    shutil.which("node") is None, reason="needs node: apt-get install nodejs"
)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A reader who has done what docs/calling.md says."""
    java = TOOLS / "java"
    node = shutil.which("node")
    programs = [Path(sys.executable).parent, java / "bin"] + ([Path(node).parent] if node else [])
    with reading(tmp_path_factory.mktemp("calling"), programs, java) as reader:
        for example in blocks_of(DOCS / "calling.md", reader.read):
            example.evaluate()
        yield reader


def read(reader: Reader, page: str) -> None:
    """Do what a page says, beside the servers of docs/calling.md."""
    reader.program, reader.printed = {}, []
    for example in blocks_of(DOCS / page, reader.read):
        example.evaluate()
    reader.run_program()


def test_curl(reader: Reader) -> None:
    read(reader, "calling-curl.md")


def test_deepaas_call(reader: Reader) -> None:
    read(reader, "deepaas-call.md")


def test_requests(reader: Reader) -> None:
    read(reader, "calling-requests.md")


@needs_node
def test_javascript(reader: Reader) -> None:
    read(reader, "calling-javascript.md")


IN_A_BROWSER = """
(async () => {
  const files = FILES, shown = [];
  const readFile = async (path) => files[path];
  const console = { log: (...values) => shown.push(values) };
  const process = { stdout: { write() {} } };
  PROGRAM
  return shown;
})()
"""


@needs_chromium
async def test_javascript_in_a_browser(reader: Reader, tmp_path: Path) -> None:
    """The parts of the page that call one server also work on a page of this server."""
    on_page = blocks(DOCS / "calling-javascript.md")
    parts = [one.text for one in on_page if one.language == "javascript" and "8001" not in one.text]
    program = "\n".join(parts).replace('import { readFile } from "node:fs/promises";\n', "")
    files = {path.name: path.read_text() for path in reader.folder.glob("*.txt")}
    script = IN_A_BROWSER.replace("FILES", json.dumps(files)).replace("PROGRAM", program)
    async with browsing(tmp_path) as page:
        await page.open(reader.on_free_ports("http://127.0.0.1:8000/"))
        shown = await page.run(reader.on_free_ports(script))
    assert shown == [
        [{"status": "OK", "predictions": {"to": 2, "be": 2}}],
        [{"to": 1, "be": 1, "not": 1}],
        [{"to": 3, "be": 2, "or": 2, "not": 2}],
        ["to,1\nbe,1\n"],
        ["done", {"loss": 0.5}, 0.5],
        ["model.txt", "2 epochs\n"],
        [200, 404],
        ["to"],
        ["be"],
    ]


@pytest.mark.long
@needs_openapi_python_client
@needs(TOOLS / "java")
def test_python_client(reader: Reader) -> None:
    read(reader, "calling-python-client.md")


@pytest.mark.long
@needs_node
@needs(TOOLS / "node/node_modules")
def test_typescript_client(reader: Reader) -> None:
    """The packages that the page installs are those that `make test-clients` has installed."""
    (reader.folder / "node_modules").symlink_to(TOOLS / "node/node_modules")
    read(reader, "calling-typescript-client.md")


def test_pages_are_listed_and_have_only_blocks_that_are_run() -> None:
    """Each command line of a program on a page is one that the tests use."""
    pages = sorted(path.name for path in DOCS.glob("calling-*.md"))
    index = (DOCS / "calling.md").read_text()
    assert pages == sorted(re.findall(r"\]\((calling-[a-z-]+\.md)\)", index))
    for page in [*pages, "calling.md", "deepaas-call.md"]:
        found = blocks(DOCS / page)
        assert {block.language for block in found} <= {"console", "text", *LANGUAGES}
    shown = (DOCS / "calling-typescript-client.md").read_text()
    assert f"$ {STARTS['typescript'][0]}\n" in shown
