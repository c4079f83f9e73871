"""The pages in docs/: every table row names a test that exists, and links lead to files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = {ROOT / "docs" / "what-happens-when.md": 30, ROOT / "docs" / "security.md": 25}
"""The pages whose tables name tests, and a lower limit on their number of rows."""

LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")


def rows(page: Path) -> list[list[str]]:
    """Return the cells of all table rows on a page, without the header rows."""
    found = []
    lines = page.read_text().splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        is_head = line.startswith("|") and set(following) <= set("|-: ") and following != ""
        if line.startswith("|") and not is_head and not set(cells[0]) <= set("-: "):
            found.append(cells)
    return found


@pytest.mark.parametrize(("page", "least"), PAGES.items(), ids=str)
def test_the_page_has_its_lines(page: Path, least: int) -> None:
    assert len(rows(page)) > least


@pytest.mark.parametrize(
    "cells", [cells for page in PAGES for cells in rows(page)], ids=lambda cells: cells[0][:40]
)
def test_each_line_names_tests_that_exist(cells: list[str]) -> None:
    names = re.findall(r"`([\w/]+\.py)::(\w+)`", cells[-1])
    assert names, f"no test is named for: {cells[0]}"
    for path, test in names:
        text = (ROOT / "tests" / path).read_text()
        assert re.search(rf"^(async )?def {test}\(", text, re.MULTILINE), f"{path} has no {test}"


def test_security_page_speaks_of_all_parties() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    parties = ["A caller", "Another web site", "The author of a module"]
    for party in [*parties, "Another user of the machine", "The operator of a proxy"]:
        assert f"\n## {party}\n" in text


@pytest.mark.parametrize(
    "page", sorted(ROOT.glob("docs/*.md")) + [ROOT / "README.md", ROOT / "SECURITY.md"], ids=str
)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
