"""The files of a new package with a model, made from the templates in `deepaas/templates`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import keyword
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent
from typing import Any

import jinja2

from deepaas.commands.script_arguments import call_with
from deepaas.commands.scripts import Script

LONGEST_NAME = 64
TEMPLATES = Path(__file__).resolve().parent.parent / "templates"

NAME = re.compile(r"[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9._-]*[A-Za-z0-9]")
"""The name of a distribution, as PEP 508 defines it."""

OWN_FOLDERS = {"tests", "build", "dist"}

COMMON = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "ai4-metadata.yml": "ai4-metadata.yml",
    ".gitignore": "gitignore",
    ".github/workflows/test.yml": "github.yml",
    ".gitlab-ci.yml": "gitlab.yml",
    "{package}/__init__.py": "package.py",
    "tests/conftest.py": "conftest.py",
}
"""The files of each package, and the names of their templates."""


BASE = ("deepaas>=2.7.0,<3.0",)
"""The dependencies of each package."""


@dataclass(frozen=True)
class Package:
    """What the author has chosen."""

    name: str
    description: str
    """One sentence, without its full stop."""
    today: str
    """The date in the metadata, as YYYY-MM-DD."""
    repository: str | None = None
    train: bool = False
    batch: bool = False

    @property
    def package(self) -> str:
        """The name of the Python package, which is also that of the model."""
        return package_of(self.name)

    @property
    def title(self) -> str:
        return re.sub(r"[-_.]+", " ", self.name)


def package_of(name: str) -> str:
    return re.sub(r"[-.]+", "_", name).lower()


def problem_of(name: str) -> str | None:
    """Return why a package cannot have this name, or None if it can."""
    package = package_of(name)
    if "/" in name:
        return "it is a path; change to the folder, and give only the name"
    if NAME.fullmatch(name) is None:
        return "write letters, digits, '-', '_' and '.', with a letter or digit at both ends"
    if len(name) > LONGEST_NAME:
        return f"it is longer than {LONGEST_NAME} characters"
    if not package.isidentifier():
        return "the name of a Python package begins with a letter"
    if keyword.iskeyword(package):
        return f"{package} is a keyword of Python"
    if package in sys.stdlib_module_names:
        return f"{package} is a module of Python's standard library"
    if package in OWN_FOLDERS:
        return f"the new package has another folder {package}"
    if importlib.util.find_spec(package) is not None:
        return f"a module {package} is already installed"
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    return "a package of this name is already installed"


def files_of(package: Package, script: Script | None) -> dict[str, str]:
    """Return the files of the package: path -> text. The same arguments give the same files."""
    from deepaas.commands.dockerfile import DOCKERIGNORE, dockerfile_for

    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    templates.filters["quoted"] = quoted
    if script is None:
        names, own = _names_of_the_line(package), _files_of_the_line(package)
    else:
        names, own = _names_of_a_script(script), _files_of_a_script(script)
    texts = {
        path.format(package=package.package): templates.get_template(f"{template}.j2").render(
            names, **vars(package), package=package.package, title=package.title
        )
        for path, template in (COMMON | own).items()
    }
    if script is not None and script.function:
        texts[f"{package.package}/{script.module}.py"] = script.text
    return texts | {"Dockerfile": dockerfile_for(package.name), ".dockerignore": DOCKERIGNORE}


def _files_of_the_line(package: Package) -> dict[str, str]:
    """Return the templates of the model without a script, a straight line."""
    files = {
        "{package}/api.py": "api.py",
        "{package}/model.json": "model.json",
        "tests/test_api.py": "test_api.py",
    }
    return files | ({"{package}/samples/points.csv": "points.csv"} if package.train else {})


def _names_of_the_line(package: Package) -> dict[str, Any]:
    samples = ["samples/points.csv"] if package.train else []
    trainable = ["AI4 trainable"] if package.train else []
    return {
        "dependencies": [*BASE, "marshmallow>=3.18,<4"],
        "data_files": ["model.json", *samples],
        "categories": ["AI4 pre trained", *trainable, "AI4 inference"],
        "libraries": ["Other"],
        "tasks": ["Regression"],
        "data_type": "Tabular",
        "script": None,
        "script_file": None,
    }


def _files_of_a_script(script: Script) -> dict[str, str]:
    api = "script_api.py" if script.function else "saved_model_api.py"
    return {"{package}/api.py": api, "tests/test_api.py": "script_test_api.py"}


def _names_of_a_script(script: Script) -> dict[str, Any]:
    return {
        "dependencies": [*BASE, *script.requirements],
        "data_files": script.files,
        "categories": ["AI4 pre trained", "AI4 inference"] if script.files else ["AI4 inference"],
        "libraries": script.libraries or ["Other"],
        "tasks": ["Other"],
        "data_type": "Other",
        "script_file": f"{script.module}.py" if script.function else None,
        "script": script,
        "imports": imports_of(script),
        "docstring": docstring(script.docstring),
        "passed": call_with(script.arguments),
        "required": [one.name for one in script.arguments if one.default is None]
        if script.function
        else ["values"],
    }


def imports_of(script: Script) -> list[str]:
    """Return the import lines of api.py, with an empty line between their groups."""
    lines = {*script.imports, "from importlib.metadata import metadata", "from typing import Any"}
    if script.function:
        lines.add(f"from .{script.module} import {script.function} as script_function")
    else:
        lines |= {"from functools import cache", "from pathlib import Path"}
    groups: list[list[str]] = [[], [], []]
    for line in sorted(lines, key=lambda line: (not line.startswith("import"), line)):
        module = line.split()[1]
        is_standard = module.partition(".")[0] in sys.stdlib_module_names
        groups[2 if module.startswith(".") else 0 if is_standard else 1].append(line)
    return [line for group in groups if group for line in [*group, ""]][:-1]


def quoted(value: object) -> str:
    """Return a text, or a list of texts, in the notation that JSON, TOML, YAML and Python share."""
    return json.dumps(value, ensure_ascii=False)


def docstring(text: str) -> str:
    """Return a text as the docstring of a function, indented by four columns."""
    text = (
        text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"') or "Call the function of the script."
    )
    if text.endswith('"'):
        text = text[:-1] + '\\"'
    end = "\n" if "\n" in text else ""
    return indent(f'"""{text}{end}"""', "    ").lstrip()


def write(folder: Path, package: Package, script: Script | None) -> int:
    """Write the package to a new folder, and return the number of its files.

    If that fails, nothing is left. Raises FileExistsError if there is a file or folder of this
    name, and other OSErrors.
    """
    texts = files_of(package, script)
    copied = script.files if script is not None else []
    folder.mkdir()
    try:
        for path, text in texts.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
        for name in copied:
            assert script is not None
            target = folder / package.package / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(script.path.parent / name, target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return len(texts) + len(copied)
