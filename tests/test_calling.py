"""The pages docs/calling*.md are correct: the tests start their models and run all their blocks.

The blocks of Python, JavaScript or TypeScript on a page are one program, whose output is that of
the `text` blocks. Packages come from the environment of the tests and from `make test-clients`.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.api.browser import browsing, needs_chromium
from tests.clients.generating import ROOT, TOOLS, needs, needs_openapi_python_client
from tests.documents import COMMAND_SECONDS, Block, Terminal, blocks, check, pattern
from tests.support import HOST, environment, leased_port, wait_until

DOCS = ROOT / "docs"
LANGUAGES = {"python": ".py", "javascript": ".mjs", "typescript": ".mts"}
PORTS = ("8000", "8001")

needs_node = pytest.mark.skipif(
    shutil.which("node") is None, reason="needs node: apt-get install nodejs"
)


@dataclass
class Reader:
    """A reader of the pages, in the folder of the models, with free ports for theirs."""

    folder: Path
    env: dict[str, str]
    ports: dict[str, str]
    resources: contextlib.ExitStack

    def terminal(self, notes: str) -> Terminal:
        terminal = Terminal(self.folder / f"terminal of {notes}", self.folder, self.env)
        self.resources.callback(terminal.close)
        return terminal

    def on_free_ports(self, text: str) -> str:
        for port, free in self.ports.items():
            text = re.sub(rf"(127\.0\.0\.1:|--listen-port ){port}\b", rf"\g<1>{free}", text)
        return text

    def save(self, block: Block) -> None:
        name = re.match(r"# (\w+\.py)\n", block.text)
        assert name, "a block of Python begins with the name of its file"
        (self.folder / name[1]).write_text(block.text)

    def serve(self, command: str, terminal: Terminal) -> None:
        terminal.begin(command)
        (port,) = re.findall(r"--listen-port (\d+)", command)

        def is_open() -> bool:
            assert not terminal.has_ended(), f"{command}: {terminal.said()}"
            with socket.socket() as client:
                return client.connect_ex((HOST, int(port))) == 0

        wait_until(is_open, within=COMMAND_SECONDS, what=f"the port of {command}")
        self.resources.callback(terminal.interrupt)

    def run(self, block: Block, terminal: Terminal) -> None:
        for step in block.steps:
            command = self.on_free_ports(step.command)
            if step.is_server:
                self.serve(command, terminal)
            else:
                check(command, terminal.run(command), step.printed)

    def run_program(self, page: str, language: str, terminal: Terminal) -> None:
        """Run all blocks of the language as one program, and compare what it prints."""
        on_page = blocks((DOCS / page).read_text())
        program = "\n".join(one.text for one in on_page if one.language == language)
        name = f"call{LANGUAGES[language]}"
        (self.folder / name).write_text(self.on_free_ports(program))
        for step in STARTS[language]:
            finished = terminal.run(step)
            assert finished.code == 0, f"{page}: {finished.output}"
        wanted = [
            line for one in on_page if one.language == "text" for line in one.text.splitlines()
        ]
        assert pattern(wanted).fullmatch(finished.stdout), f"{page}: {finished.output}"


STARTS = {
    "python": ["python call.py"],
    "javascript": ["node call.mjs"],
    "typescript": [
        "npx tsc --strict --target es2022 --module nodenext "
        "--lib es2022,dom,dom.asynciterable call.mts",
        "TOKEN=$(cat token) node call.mjs",
    ],
}


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A reader who has done what docs/calling.md says."""
    tmp_path = tmp_path_factory.mktemp("calling")
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.curlrc").write_text("no-progress-meter\n")
    java = TOOLS / "java"
    programs = [Path(sys.executable).parent, java / "bin", Path("/usr/local/bin"), Path("/usr/bin")]
    node = shutil.which("node")
    programs += [Path(node).parent] if node else []
    extra = {
        "HOME": str(tmp_path / "home"),
        "PATH": ":".join(map(str, [*programs, "/bin"])),
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    env = environment(tmp_path / "home", java, extra=extra)
    with contextlib.ExitStack() as resources:
        ports = {port: str(resources.enter_context(leased_port())) for port in PORTS}
        reader = Reader(folder, env, ports, resources)
        for number, block in enumerate(blocks((DOCS / "calling.md").read_text())):
            if block.language == "python":
                reader.save(block)
            else:
                reader.run(block, reader.terminal(f"block {number}"))
        yield reader


def read(reader: Reader, page: str, language: str = "") -> None:
    """Run the commands of a page, and then its program."""
    terminal = reader.terminal(page)
    for block in blocks((DOCS / page).read_text()):
        if block.language == "console":
            reader.run(block, terminal)
    if language:
        reader.run_program(page, language, terminal)


def test_curl(reader: Reader) -> None:
    read(reader, "calling-curl.md")


def test_deepaas_call(reader: Reader) -> None:
    read(reader, "deepaas-call.md", "python")


def test_requests(reader: Reader) -> None:
    read(reader, "calling-requests.md", "python")


@needs_node
def test_javascript(reader: Reader) -> None:
    read(reader, "calling-javascript.md", "javascript")


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
    on_page = blocks((DOCS / "calling-javascript.md").read_text())
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
    read(reader, "calling-python-client.md", "python")


@pytest.mark.long
@needs_node
@needs(TOOLS / "node/node_modules")
def test_typescript_client(reader: Reader) -> None:
    """The packages that the page installs are those that `make test-clients` has installed."""
    (reader.folder / "node_modules").symlink_to(TOOLS / "node/node_modules")
    page = "calling-typescript-client.md"
    terminal = reader.terminal(page)
    for block in blocks((DOCS / page).read_text()):
        for step in block.steps if block.language == "console" else ():
            if step.command.startswith("npx openapi-typescript"):
                command = reader.on_free_ports(step.command)
                check(command, terminal.run(command), step.printed)
    reader.run_program(page, "typescript", terminal)


def test_pages_are_listed_and_have_only_blocks_that_are_run() -> None:
    """Each command line of a program on a page is one that the tests use."""
    pages = sorted(path.name for path in DOCS.glob("calling-*.md"))
    index = (DOCS / "calling.md").read_text()
    assert pages == sorted(re.findall(r"\]\((calling-[a-z-]+\.md)\)", index))
    for page in [*pages, "calling.md", "deepaas-call.md"]:
        text = (DOCS / page).read_text()
        found = blocks(text)
        assert {block.language for block in found} <= {"console", "text", *LANGUAGES}
        assert text.count("\n```") == 2 * len(found)
    shown = (DOCS / "calling-typescript-client.md").read_text()
    assert f"$ {STARTS['typescript'][0]}\n" in shown
