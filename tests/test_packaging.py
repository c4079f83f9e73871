"""The distributions contain the files of the repository, and match the documents."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest

import deepaas
from deepaas import config
from deepaas.config import describing

ROOT = Path(__file__).resolve().parent.parent
GENERATED = {"__pycache__", "deepaas.egg-info", "PKG-INFO", ".pytest_cache", ".hypothesis"}


def files_of_the_project() -> set[str]:
    """Return the files of the checkout that git does not ignore; without git, all source files."""
    if (ROOT / ".git").exists():
        listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        return {name for name in names.splitlines() if (ROOT / name).is_file()}
    files = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return {str(path) for path in files if not GENERATED & set(path.parts)}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a source distribution, and a wheel from it; return the directory of both."""
    source = tmp_path_factory.mktemp("source")  # the build leaves files behind
    for name in files_of_the_project():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    made = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(made)]
    subprocess.run([*command, str(source)], check=True, timeout=120, stdout=subprocess.DEVNULL)
    return made


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    (path,) = built.glob("*.whl")
    assert path.name == "deepaas-2.7.0-py3-none-any.whl"
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    text = wheel.read("deepaas-2.7.0.dist-info/METADATA").decode()
    return message_from_string(text)


def test_wheel_has_all_of_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "deepaas").rglob("*.py")}
    page = {f"deepaas/api/page/page.{kind}" for kind in ("css", "html", "js")}
    templates = {str(path.relative_to(ROOT)) for path in (ROOT / "deepaas/templates").iterdir()}
    assert len(templates) >= 15
    assert packed == sources | page | templates | {"deepaas/py.typed"}


def test_wheel_says_who_has_written_it_and_where_it_is_from(metadata: Message) -> None:
    assert metadata["Author"] == "The DEEPaaS authors"
    urls = dict(line.split(", ") for line in metadata.get_all("Project-URL", []))
    assert set(urls) == {"Repository", "Documentation", "Changelog", "Issues"}
    assert all(url.startswith("https://") for url in urls.values())


def test_wheel_and_readme_say_the_same_of_the_project(metadata: Message) -> None:
    assert (
        metadata["Summary"] == "Serve a trained model over REST: add one entry point to its package"
    )
    readme = (ROOT / "README.md").read_text()
    assert f"{metadata['Summary']}.\n" in readme
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert str(metadata.get_payload()).strip() == readme.strip()


def test_long_description_renders_on_a_package_index(built: Path) -> None:
    packages = [str(path) for path in built.iterdir()]
    assert len(packages) == 2
    subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *packages], check=True, timeout=120
    )


def test_source_distribution_has_the_whole_project(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {member.name for member in archive.getmembers() if member.isfile()}
    packed = {name.removeprefix("deepaas-2.7.0/") for name in names}
    generated = {name for name in packed if name == "PKG-INFO" or ".egg-info/" in name}
    left_out = {name for name in files_of_the_project() if name.startswith(".")}
    assert packed - generated == files_of_the_project() - left_out
    for name in (
        "CHANGELOG.md",
        "docs/models.md",
        "examples/digits/samples/3.png",
        "tests/support.py",
    ):
        assert name in packed


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
