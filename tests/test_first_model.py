"""The pages about a first model and about scripts are correct: the tests follow them.

A reader of docs/first-model.md starts with the wheel, in an empty folder and a new environment. Its
packages come from the environment of the tests, as in tests/test_readme.py.
"""

from __future__ import annotations

import ast
import contextlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.documents import Block, Terminal, blocks, check
from tests.support import environment, leased_port
from tests.test_calling import PORTS
from tests.test_calling import Reader as Server
from tests.test_readme import clone, lend_packages

ROOT = Path(__file__).resolve().parent.parent
NOT_YET = ("deepaas check",)
"""The commands that do not exist yet. The test leaves them out."""

FIRST = (ROOT / "docs/first-model.md").read_text()
SCRIPTS = (ROOT / "docs/serve-a-script.md").read_text()


@pytest.fixture(scope="module")
def resources() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def reader_in(folder: Path, env: dict[str, str], resources: contextlib.ExitStack) -> Server:
    ports = {port: str(resources.enter_context(leased_port())) for port in PORTS}
    return Server(folder, env, ports, resources)


# --- docs/first-model.md -----------------------------------------------------------------------


def build_wheel(checkout: Path, target: Path) -> None:
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(target)]
    command = [sys.executable, "-m", "pip", "wheel", *options, str(checkout)]
    subprocess.run(command, check=True, timeout=300, stdout=subprocess.DEVNULL)


def replace_function(file: Path, text: str) -> None:
    """Replace the function of a module that has the same name."""
    (new,) = ast.parse(text).body
    assert isinstance(new, ast.FunctionDef)
    lines = file.read_text().splitlines(keepends=True)
    (old,) = [
        node
        for node in ast.parse("".join(lines)).body
        if isinstance(node, ast.FunctionDef) and node.name == new.name
    ]
    assert old.end_lineno
    file.write_text("".join([*lines[: old.lineno - 1], text, *lines[old.end_lineno :]]))


def follow(block: Block, terminal: Terminal, reader: Server) -> None:
    for step in block.steps:
        command = reader.on_free_ports(step.command)
        if command.startswith(NOT_YET):
            continue
        if step.is_server:
            reader.serve(command, terminal)
        else:
            check(command, terminal.run(command), step.printed)


def test_reader_gets_from_an_empty_folder_to_a_trained_model(
    tmp_path: Path, resources: contextlib.ExitStack
) -> None:
    """Each command needs the ones before it, so this is a single test."""
    folder = tmp_path / "folder"
    folder.mkdir()
    build_wheel(clone(tmp_path / "clone"), folder)
    programs = tmp_path / "bin"
    programs.mkdir()
    python = programs / "python3"
    python.write_text(f'#!/bin/sh\nexec "{sys._base_executable}" "$@"\n')  # type: ignore[attr-defined]
    python.chmod(0o755)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.curlrc").write_text("no-progress-meter\n")
    env = environment(
        tmp_path / "home",
        lend_packages(tmp_path / "packages"),
        extra={
            "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin",
            "PIP_CONFIG_FILE": "/dev/null",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": "",
            "PIP_NO_BUILD_ISOLATION": "0",  # pip reads the 0 as: no isolation
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # the lent packages have plug-ins of pytest
            "DEEPAAS_TRAIN_NICE": "0",
        },
    )
    reader = reader_in(folder, env, resources)
    terminal = reader.terminal("reader")
    for block in blocks(FIRST):
        if block.language == "python":
            replace_function(folder / "thermometer/thermometer/api.py", block.text)
            continue
        if "another terminal" in block.paragraph:
            reader.folder = folder / "thermometer"
            terminal = reader.terminal("other")
        follow(block, terminal, reader)


# --- docs/serve-a-script.md --------------------------------------------------------------------


def added(diff: str) -> list[str]:
    return [line for line in diff.splitlines() if re.match(r"\+(?!\+\+)", line)]


def test_scripts_are_served_with_the_lines_of_the_page(
    tmp_path: Path, resources: contextlib.ExitStack
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(ROOT / "examples/digits/samples/3.png", folder)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.curlrc").write_text("no-progress-meter\n")
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    extra = {"PATH": path, "ORT_DISABLE_TELEMETRY": "1"}
    reader = reader_in(folder, environment(tmp_path / "home", extra=extra), resources)
    for number, block in enumerate(blocks(SCRIPTS)):
        if block.language == "python":
            reader.save(block)
        elif block.language == "diff":
            (folder / "change.diff").write_text(block.text)
            subprocess.run(["git", "apply", "change.diff"], cwd=folder, check=True, timeout=60)
        else:
            follow(block, reader.terminal(f"block {number}"), reader)


def test_scripts_of_the_page_are_short_and_their_changes_only_add() -> None:
    on_page = blocks(SCRIPTS)
    scripts = [block.text for block in on_page if block.language == "python"]
    diffs = [block.text for block in on_page if block.language == "diff"]
    assert len(scripts) == len(diffs) == 2
    assert all(len(script.splitlines()) <= 33 for script in scripts)
    assert all(len(added(diff)) <= 5 for diff in diffs)
    assert not any(re.search(r"^-(?!--)", diff, re.MULTILINE) for diff in diffs)


def test_pages_have_only_blocks_that_are_run() -> None:
    for page in (FIRST, SCRIPTS):
        found = blocks(page)
        assert {block.language for block in found} <= {"console", "python", "diff"}
        assert page.count("\n```") == 2 * len(found)
