"""The import directions between the packages, the names in the code, and the page about them."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
MOST_LINES = 500

OLD_NAMES = """
Answer BURY_SECONDS CLERK Calls Clerk Company Crew CrewOptions Employer Head Journey Keeper Manager
Outlet Overtime Patience OneByOne Plan Runner Slot Workplace Worker aging answers bury calls clerk
company crew doom express journey keeper keeping linger lingering manager one_by_one outlet overtime
patience plan runner slot take_back turns workplace
"""
"""Names that classes, functions, modules and attributes of this package no longer have."""

ALLOWED = {
    "calls": "the calls of a worker, of a pool and of a traceback",
    "manager": "aiohttp's attribute of a protocol",
    "Manager": "logging.Manager",
    "runner": "aiohttp's web.ServerRunner",
    "slot": "a variable that holds a WorkerSlot",
}


def test_folders_import_each_other_in_one_direction() -> None:
    """The import contracts are in pyproject.toml."""
    program = "import sys; from importlinter.cli import lint_imports_command as run; run()"
    checked = subprocess.run(
        [sys.executable, "-c", program, "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "0 broken" in checked.stdout


def paths_on(page: Path) -> set[str]:
    """The paths of this project that a page names."""
    return set(re.findall(r"`((?:deepaas|tests|docs|examples)/[\w./]*)`", page.read_text()))


def test_paths_on_the_pages_exist() -> None:
    assert len(paths_on(PAGE)) > 40
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "benchmarks" / "README.md"]
    named = {(page.name, path) for page in pages for path in paths_on(page)}
    assert [one for one in sorted(named) if not (ROOT / one[1]).exists()] == []


def test_page_names_each_folder() -> None:
    text = PAGE.read_text()
    packages = {path.parent for path in (ROOT / "deepaas").rglob("__init__.py")}
    folders = {str(path.relative_to(ROOT)) for path in packages} - {
        "deepaas",
        "deepaas/api/v2",
        "deepaas/model/v2",
    }
    assert [folder for folder in sorted(folders) if f"`{folder}/`" not in text] == []


def names_of(tree: ast.AST) -> set[str]:
    """Return the names of all classes, functions, arguments, variables and attributes."""
    return {
        name
        for node in ast.walk(tree)
        for field in ("name", "id", "attr", "arg")
        if isinstance(name := getattr(node, field, None), str)
    }


def test_no_old_name_is_left() -> None:
    old = set(OLD_NAMES.split()) - set(ALLOWED)
    found = []
    for path in sorted((ROOT / "deepaas").rglob("*.py")):
        names = names_of(ast.parse(path.read_text())) | {path.stem}
        found += [f"{path.relative_to(ROOT)}: {name}" for name in names if name.lstrip("_") in old]
    assert found == []


def test_no_module_is_too_long() -> None:
    lengths = {
        path: len(path.read_text().splitlines()) for path in (ROOT / "deepaas").rglob("*.py")
    }
    assert {path: length for path, length in lengths.items() if length > MOST_LINES} == {}
