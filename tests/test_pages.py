"""All code on the pages is correct: each block is run, or the page says why not.

Each page is one test, in which a reader does what the page says, from the top, in an empty folder.
The pages in ELSEWHERE need more than that, and have tests of their own.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.documents import Block, blocks, blocks_of
from tests.reader import lend_packages, make_environment, parse, reading, sides

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]

ELSEWHERE = {
    "README.md": "test_readme.py::"
    "test_commands_of_the_readme_print_what_it_says_and_leave_nothing_behind",
    "calling.md": "test_calling.py::reader",
    "first-model.md": "test_first_model.py::"
    "test_reader_gets_from_an_empty_folder_to_a_trained_model",
    "serve-a-script.md": "test_first_model.py::test_scripts_are_served_with_the_lines_of_the_page",
    "deepaas-call.md": "test_calling.py::test_deepaas_call",
    "check.md": "checks/test_check.py::test_page_shows_a_real_report",
    "calling-curl.md": "test_calling.py::test_curl",
    "calling-requests.md": "test_calling.py::test_requests",
    "calling-javascript.md": "test_calling.py::test_javascript",
    "calling-python-client.md": "test_calling.py::test_python_client",
    "calling-typescript-client.md": "test_calling.py::test_typescript_client",
    "proxies.md": "api/test_proxies.py::test_client_that_is_no_browser_notices_nothing",
    "command-line.md": "cmd/test_cli.py::test_commands_of_the_page_print_what_it_says",
}
"""The tests that run all blocks of a page."""

LONG = {"migrate-flask.md", "migrate-fastapi.md", "migrate-litserve.md", "migrate-bentoml.md"}
"""The pages that `make test` leaves out: each takes long, and the tutorial has the same model."""


def is_code(block: Block) -> bool:
    """Whether the block contains code that a reader runs; Sphinx runs `{eval-rst}` and the like."""
    return block.language not in ("", "text") and not block.language.startswith("{")


def exists(test: str) -> bool:
    path, _, name = test.partition("::")
    text = (ROOT / "tests" / path).read_text()
    return re.search(rf"^(async )?def {name}\(", text, re.MULTILINE) is not None


RUN_HERE = [
    pytest.param(page, id=page.name, marks=[pytest.mark.long] if page.name in LONG else [])
    for page in PAGES
    if page.name not in ELSEWHERE and any(map(is_code, blocks(page)))
]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    left_out = re.compile(r"deepaas|__editable__|__pycache__|.*\.pth$")
    return lend_packages(tmp_path_factory.mktemp("lent") / "packages", left_out=left_out)


def follow(page: Path, folder: Path, programs: list[Path]) -> None:
    with reading(folder, programs) as reader:
        for example in blocks_of(page, reader.read):
            example.evaluate()
        reader.finish()


@pytest.mark.parametrize("page", RUN_HERE)
def test_page_is_correct(page: Path, packages: Path, tmp_path: Path) -> None:
    programs = make_environment(tmp_path / "environment", packages)
    follow(page, tmp_path / "reader", [programs])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_block_that_is_not_run_has_a_reason(page: Path) -> None:
    """And a block that another test runs names one that exists."""
    for block in blocks(page):
        place = f"{page.name}, line {block.line}"
        test = block.remark("run by")
        assert not block.comment or test or len(block.remark("not run")) > 10, place
        assert not test or exists(test), f"{place}: there is no {test}"
        assert block.language or not block.text.startswith("$ "), f"{place}: write console"


@pytest.mark.parametrize("page", ELSEWHERE)
def test_page_that_has_a_test_of_its_own_exists(page: str) -> None:
    assert page in [path.name for path in PAGES]
    assert exists(ELSEWHERE[page])


# --- the reader


def test_difference_has_two_sides() -> None:
    diff = "--- a.py\n+++ b.py\n def f():\n-    return 1\n+    return 2\n\n"
    assert sides(diff) == ("def f():\n    return 1\n\n", "def f():\n    return 2\n\n")


@pytest.mark.parametrize("language", ["console", "toml", "Dockerfile", "python"])
def test_wrong_block_is_noticed(language: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"```{language}\n$ false\n```\n")
    with pytest.raises((AssertionError, ValueError)):
        follow(page, tmp_path, [])


def test_text_that_cannot_be_parsed_is_refused() -> None:
    with pytest.raises(ValueError, match="Expecting"):
        parse("json", "{")
