"""The pages about a first model and about scripts are correct: the tests follow them.

A reader of docs/first-model.md starts with the wheel, in an empty folder and a new environment. Its
packages come from the environment of the tests, as in tests/test_readme.py.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.documents import Block, blocks
from tests.reader import Reader, lend_packages, reading
from tests.test_readme import clone

ROOT = Path(__file__).resolve().parent.parent
FIRST = ROOT / "docs/first-model.md"
SCRIPTS = ROOT / "docs/serve-a-script.md"


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


def test_reader_gets_from_an_empty_folder_to_a_trained_model(tmp_path: Path) -> None:
    """Each command needs the ones before it, so this is a single test."""
    programs = tmp_path / "bin"
    programs.mkdir()
    python = programs / "python3"
    python.write_text(f'#!/bin/sh\nexec "{sys._base_executable}" "$@"\n')  # type: ignore[attr-defined]
    python.chmod(0o755)
    packages = lend_packages(tmp_path / "packages")
    # The lent packages have plug-ins of pytest.
    extra = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    with reading(tmp_path / "reader", [programs], packages, extra=extra) as reader:
        build_wheel(clone(tmp_path / "clone"), reader.folder)
        for block in blocks(FIRST):
            if block.language == "python":
                replace_function(reader.folder / "thermometer/thermometer/api.py", block.text)
            else:
                reader.read(block)
        reader.finish()


# --- docs/serve-a-script.md --------------------------------------------------------------------


def added(diff: str) -> list[str]:
    return [line for line in diff.splitlines() if re.match(r"\+(?!\+\+)", line)]


def test_scripts_are_served_with_the_lines_of_the_page(tmp_path: Path) -> None:
    programs = [Path(sys.executable).parent]
    with reading(tmp_path / "reader", programs, extra={"ORT_DISABLE_TELEMETRY": "1"}) as reader:
        shutil.copy(ROOT / "examples/digits/samples/3.png", reader.folder)
        for block in blocks(SCRIPTS):
            if block.language == "diff":
                apply(block, reader)
            else:
                reader.read(block)
        reader.finish()


def apply(block: Block, reader: Reader) -> None:
    change = reader.folder / "change.diff"
    change.write_text(block.text)
    subprocess.run(["git", "apply", change], cwd=reader.folder, check=True, timeout=60)


def test_scripts_of_the_page_are_short_and_their_changes_only_add() -> None:
    on_page = blocks(SCRIPTS)
    scripts = [block.text for block in on_page if block.language == "python"]
    diffs = [block.text for block in on_page if block.language == "diff"]
    assert len(scripts) == len(diffs) == 2
    assert all(len(script.splitlines()) <= 33 for script in scripts)
    assert all(len(added(diff)) <= 5 for diff in diffs)
    assert not any(re.search(r"^-(?!--)", diff, re.MULTILINE) for diff in diffs)
