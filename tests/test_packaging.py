"""What is installed is what is in the repository, and what the documents say of it is true."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import deepaas
from deepaas import config
from deepaas.config import describing

ROOT = Path(__file__).resolve().parent.parent


def test_wheel_has_all_of_the_package_and_nothing_else(tmp_path: Path) -> None:
    copy = tmp_path / "source"  # building leaves files behind
    shutil.copytree(ROOT / "deepaas", copy / "deepaas")
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    wheels = tmp_path / "wheels"
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
        + ["--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(copy)],
        check=True,
        timeout=120,
    )
    (wheel,) = wheels.iterdir()
    assert wheel.name == "deepaas-2.7.0-py3-none-any.whl"
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "deepaas").rglob("*.py")}
    assert packed == sources | {"deepaas/py.typed"}


def test_version_is_plain_and_the_same_everywhere() -> None:
    assert deepaas.__version__ == "2.7.0"
    assert importlib.metadata.version("deepaas") == deepaas.__version__
    assert f"{deepaas.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()


def test_werkzeug_comes_along_for_models_that_do_not_declare_it() -> None:
    required = importlib.metadata.requires("deepaas") or []
    (werkzeug,) = [one for one in required if one.startswith("werkzeug")]
    assert "extra" not in werkzeug
    lowest = (ROOT / "tests/compat/requirements-lowest.txt").read_text().splitlines()
    assert re.search(r">=2\b", werkzeug)
    assert "werkzeug==2.0.0" in lowest


def test_links_between_the_documents_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_files_that_the_architecture_names_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for name in re.findall(r"`(deepaas/[\w/.]+)`", text):
        assert (ROOT / name).exists(), name


def test_page_of_options_is_what_the_declarations_say() -> None:
    made = subprocess.run(
        [sys.executable, "docs/make_options.py"], cwd=ROOT, capture_output=True, text=True
    )
    assert made.stderr == ""
    page = (ROOT / "docs" / "options.md").read_text()
    assert page == made.stdout, "run `make docs`"
    for option in config.ALL:
        assert page.count(f"| `{describing.flag(option)}`") == 1, option.name


def test_every_option_says_what_it_does() -> None:
    for option in [*config.ALL, *config.ARGUMENTS]:
        assert option.help, option.name
        assert option.help.endswith("."), option.name
