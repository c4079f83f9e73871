"""`deepaas init`: a new package with a model, its tests, and all that is needed to publish it."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from deepaas.commands.new_package import Package
    from deepaas.commands.scripts import Script

SCRIPT = re.compile(r"(?P<path>.+?\.py)(:(?P<function>[^\W\d]\w*))?")


@click.command("init", short_help="Make a new package with a model.")
@click.argument("name")
@click.option("--train", is_flag=True, help="The model can be trained.")
@click.option("--batch", is_flag=True, help="The model predicts several requests at once.")
@click.option(
    "--from",
    "source",
    metavar="FILE.py[:FUNCTION]",
    help="Serve a function of this script, or the model that it has saved. The script is read, "
    "not run, and stays as it is.",
)
@click.option("--description", metavar="TEXT", help="One sentence on what the model does.")
@click.option("--repository", metavar="URL", help="The address of the source code.")
def command(
    name: str,
    train: bool,
    batch: bool,
    source: str | None,
    description: str | None,
    repository: str | None,
) -> None:
    """Make the folder NAME with a complete package: a model with type hints, an entry point, tests,
    metadata for the AI4 catalogue, a Dockerfile, CI for GitHub and GitLab, and a README.

    The model works at once: its tests pass. Without --from it is a straight line, to be replaced
    with yours. Nothing that exists is overwritten.
    """
    from deepaas.commands import new_package, scripts

    if source is not None and (train or batch):
        raise click.UsageError("--from cannot be combined with --train or --batch")
    if os.path.lexists(name):
        raise click.ClickException(f"{name} exists already; choose another name")
    problem = new_package.problem_of(name)
    if problem is not None:
        raise click.ClickException(f"the package cannot be called {name}: {problem}")
    package = new_package.Package(
        name=name,
        description=_sentence(description or f"The model {name}"),
        today=_today(),
        repository=_address(repository),
        train=train,
        batch=batch,
    )
    try:
        script = _script(source) if source else None
    except scripts.ScriptError as error:
        raise click.ClickException(str(error)) from error
    try:
        count = new_package.write(Path(name), package, script)
    except FileExistsError:
        raise click.ClickException(f"{name} exists already; choose another name") from None
    except OSError as error:
        raise click.ClickException(f"the package cannot be written: {error}") from error
    _say(package, count, script.notes if script else [])


def _sentence(text: str) -> str:
    """Return a description without its full stop, which the templates add."""
    if not text.isprintable() or not text.strip():
        raise click.UsageError("--description is one line of text")
    return text.strip().rstrip(".")


def _address(text: str | None) -> str | None:
    if text is not None and not re.fullmatch(r"https?://[!-~]+", text):
        raise click.UsageError("--repository is an address such as https://github.com/me/my-model")
    return text


def _today() -> str:
    """Return the date; SOURCE_DATE_EPOCH sets it for builds that must be the same each time."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    seconds = int(epoch) if epoch.isdecimal() else time.time()
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _script(source: str) -> Script:
    from deepaas.commands import scripts

    match = SCRIPT.fullmatch(source)
    if match is None:
        raise scripts.ScriptError("--from takes FILE.py or FILE.py:FUNCTION")
    return scripts.read(Path(match["path"]), match["function"])


def _say(package: Package, count: int, notes: list[str]) -> None:
    click.echo(f"The folder {package.name} has a package with {count} files.")
    if notes:
        click.echo("\nTo do:\n")
    for note in notes:
        click.echo(f"- {note}")
    click.echo(
        "\nNext:\n\n"
        f"  cd {package.name} && python -m pip install -e '.[test]' && python -m pytest\n"
        f"  deepaas check {package.package}\n"
        f"  deepaas run --model-name {package.package}"
    )
