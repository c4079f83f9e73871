"""The pages of docs/ say what is so: the tests they name exist, and every line names one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "what-happens-when.md"
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")


def rows() -> list[list[str]]:
    """The cells of the lines of all tables on the page, without the heads."""
    found = []
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and cells[0] != "when" and not set(cells[0]) <= set("-: "):
            found.append(cells)
    return found


def test_the_page_has_its_lines() -> None:
    assert len(rows()) > 30


@pytest.mark.parametrize("cells", rows(), ids=lambda cells: cells[0][:40])
def test_each_line_names_tests_that_exist(cells: list[str]) -> None:
    names = re.findall(r"`([\w/]+\.py)::(\w+)`", cells[-1])
    assert names, f"no test is named for: {cells[0]}"
    for path, test in names:
        text = (ROOT / "tests" / path).read_text()
        assert re.search(rf"^(async )?def {test}\(", text, re.MULTILINE), f"{path} has no {test}"


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/*.md")) + [ROOT / "README.md"], ids=str)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
