"""`deepaas list`: the installed models, and on request what each of them can do."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

LEAST_WIDTH = 24
"""Characters of the last column, also on a narrow terminal."""


@dataclass
class Model:
    """An installed model. `loaded` says what it can do, and `problem` why it cannot be served."""

    name: str
    target: str
    package: str
    version: str
    summary: str
    loaded: dict[str, Any] | None = None
    problem: str | None = None

    @classmethod
    def of(cls, point: EntryPoint) -> Model:
        target = point.value.partition("[")[0].strip()
        package = version = summary = ""
        if point.dist is not None:
            about = point.dist.metadata
            package, version = about["Name"] or "", point.dist.version or ""
            summary = " ".join((about["Summary"] or "").split())
        return cls(point.name, target, package, version, summary)

    @property
    def origin(self) -> str:
        """The package and its version."""
        return f"{self.package} {self.version}".strip()


@click.command("list", short_help="List the installed models.")
@click.option("--load", is_flag=True, help="Load each model, and show what it can do.")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.IntRange(1, 86400),
    default=120,
    show_default=True,
    help="With --load: seconds that a model may take to load.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(load: bool, timeout: float, as_json: bool) -> None:
    """List the installed models and the packages that they come from.

    Without --load, no model is imported. With it, each model is loaded in a process of its own, as
    the server loads it, but warm() is not called; the models that cannot be loaded are shown with
    the reason.

    The exit code is 1 if there is no model, if two packages have a model of the same name, or if a
    model cannot be loaded.
    """
    models = installed_models()
    names = [model.name for model in models]
    for model in models:
        if names.count(model.name) > 1:
            model.problem = "another package has a model of this name; uninstall one of them"
    if load:
        from deepaas.commands.loaded_models import load_models
        from deepaas.exceptions import ConfigurationError

        try:
            load_models([model for model in models if not model.problem], timeout)
        except ConfigurationError as error:
            raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps([vars(model) for model in models], indent=2))
    elif models:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        click.echo(table(models, width))
    if not models:
        raise click.ClickException(
            "no model is installed in this environment. Install a package with an entry point in "
            "deepaas.v2.model, or make one with deepaas init. A file needs no package: "
            "deepaas run path/to/file.py"
        )
    if any(model.problem for model in models):
        raise SystemExit(1)


def installed_models() -> list[Model]:
    """Return the models of all installed packages, by name. Nothing is imported."""
    from deepaas.model.loading import NAMESPACE

    found = {(one.name, one.target): one for one in map(Model.of, entry_points(group=NAMESPACE))}
    return sorted(found.values(), key=lambda model: (model.name, model.package))


def table(models: list[Model], width: int | None) -> str:
    """Return the lines of a table; the last column is wrapped at `width` characters, if given."""
    has_loaded = any(model.loaded for model in models)
    rows = [("MODEL", "PACKAGE", "CAN" if has_loaded else "SUMMARY")]
    for model in models:
        text = f"error: {model.problem}" if model.problem else model.summary
        rows.append((model.name, model.origin, can(model.loaded) if model.loaded else text))
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    indent = first + second + 4
    lines = []
    for name, origin, text in rows:
        space = max(width - indent, LEAST_WIDTH) if width else 0
        head, *rest = (textwrap.wrap(text, space) if space else [text]) or [""]
        lines.append(f"{name:{first}}  {origin:{second}}  {head}".rstrip())
        lines += [" " * indent + line for line in rest]
    return "\n".join(lines)


def can(loaded: dict[str, Any]) -> str:
    """Return in one line what a model can do."""
    functions = [name for name in ("predict", "train") if loaded[name]]
    parts = [", ".join(functions) or "neither predict nor train"]
    parts += [key for key in ("batches", "streams", "async") if loaded[key]]
    if loaded["files"]:
        parts.append(f"files: {', '.join(loaded['files'])}")
    if loaded["predict"]:
        parts.append(f"returns {', '.join(loaded['media_types'])}")
    if number := len(loaded["mistakes"]):
        parts.append(f"{number} mistake{'s' * (number > 1)}, see deepaas check")
    return "; ".join(parts)
