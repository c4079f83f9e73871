"""The documentation site can be built without a warning, and fetches nothing from other sites."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FETCHED = {
    ("link", "href"),
    ("script", "src"),
    ("img", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("object", "data"),
}
"""The attributes whose addresses a browser fetches by itself."""

OUTSIDE = re.compile(r"(https?:)?//")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet"]
    built = subprocess.run(
        [*command, "-b", "html", "-d", folder / "doctrees", ROOT / "docs", folder / "html"],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert (built.returncode, built.stderr) == (0, "")
    return folder / "html"


class Page(HTMLParser):
    """The addresses that a browser fetches with a page, and the links and anchors in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if (tag, name) in FETCHED and ("rel", "canonical") not in attrs:
                self.fetched.append(value or "")
            elif (tag, name) == ("a", "href"):
                self.links.append(value or "")
            elif name == "id":
                self.anchors.add(value or "")


def test_each_page_is_in_the_site(site: Path) -> None:
    sources = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert sources <= {path.stem for path in site.glob("*.html")}
    assert (site / "searchindex.js").stat().st_size > 10_000


def test_nothing_is_fetched_from_other_sites(site: Path) -> None:
    for path in site.glob("*.html"):
        page = Page(path)
        assert page.fetched
        assert [one for one in page.fetched if OUTSIDE.match(one)] == [], path.name
    for path in site.rglob("*.css"):
        urls = re.findall(r"url\(([^)]*)\)|@import\s+([^;]*)", path.read_text())
        found = [one.strip("\"' ") for pair in urls for one in pair]
        assert [one for one in found if OUTSIDE.match(one)] == [], path.name


def test_links_within_the_site_lead_to_their_anchors(site: Path) -> None:
    pages = {path.name: Page(path) for path in site.glob("*.html")}
    for name, page in pages.items():
        for link in page.links:
            target, _, anchor = link.partition("#")
            if re.match(r"\w+:", link) or target.startswith(("_", "..")):
                continue
            assert not target or target in pages, f"{name} links to {link}"
            anchors = pages[target or name].anchors
            assert not anchor or anchor in anchors, f"{name} links to {link}"
