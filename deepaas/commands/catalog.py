"""`deepaas catalog`: metadata files, and later the modules that they describe."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from deepaas.catalog.metadata import Metadata


@click.group("catalog", short_help="Check and migrate the metadata of modules.")
def command() -> None:
    """Check the metadata of modules, and write it in the format V2."""


@command.command()
@click.argument("files", nargs=-1, type=click.Path(exists=True))
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, one object per file.")
@click.option(
    "--fix", is_flag=True, help="Print a patch that mends the files; apply it with `patch -p1`."
)
def check(files: Sequence[str], as_json: bool, fix: bool) -> None:
    """Check metadata FILES strictly, and say what to write.

    Without FILES, the metadata file of the current directory is checked. Exits with 1 if a file has
    an error; warnings are advice.
    """
    read = [(path, *_read(path)) for path in _named(files)]
    if fix:
        for path, data, metadata in read:
            mended = _patch(path, data, metadata)
            click.echo(mended, nl=False)
            if metadata.problems and not mended:
                click.echo(f"{path}: nothing can be mended without you", err=True)
    elif as_json:
        click.echo(
            json.dumps(
                [
                    {
                        "file": path,
                        "format": metadata.format,
                        "errors": len(metadata.errors),
                        "problems": [one.as_dict() for one in metadata.problems],
                    }
                    for path, _, metadata in read
                ],
                indent=2,
            )
        )
    else:
        for path, _, metadata in read:
            _show(path, metadata)
    if any(metadata.errors for _, _, metadata in read):
        raise SystemExit(1)


@command.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False), required=False)
@click.option("--output", "-o", metavar="FILE", help="Write to this file, which must not exist.")
def migrate(file: str | None, output: str | None) -> None:
    """Write the metadata of FILE in the format V2.

    Values for which V2 has no field become comments at the end. Without FILE, `metadata.json` of
    the current directory is read.
    """
    from deepaas.catalog.writing import as_v2

    (path,) = _named([file] if file else [], ("metadata.json",))
    _, metadata = _read(path)
    text = as_v2(metadata)
    if metadata.errors:
        count = _counted(len(metadata.errors), "error")
        click.echo(f"{path} has {count}; see deepaas catalog check {path}", err=True)
    if not output:
        click.echo(text, nl=False)
        return
    try:
        with open(output, "x", encoding="utf-8") as written:
            written.write(text)
    except OSError as error:
        raise click.ClickException(
            f"{output} cannot be written: {error.strerror}; give another one with --output"
        ) from None


def _named(files: Sequence[str], names: Sequence[str] = ()) -> list[str]:
    """Return the files; without any, or for a directory, the metadata file that it has."""
    from deepaas.catalog.reading import NAMES

    found = []
    for path in files or ["."]:
        if not os.path.isdir(path):
            found.append(path)
            continue
        here = [os.path.normpath(os.path.join(path, name)) for name in names or NAMES]
        there = [one for one in here if os.path.isfile(one)]
        if not there:
            expected = " or ".join(names or NAMES)
            raise click.ClickException(f"there is no {expected} in {os.path.abspath(path)}")
        found.append(there[0])
    return found


def _read(path: str) -> tuple[bytes, Metadata]:
    from deepaas.catalog.reading import read
    from deepaas.catalog.text import MOST_BYTES

    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be read: {error.strerror}") from None
    metadata = read(os.path.basename(path), data)
    if metadata is None:
        raise click.ClickException(f"{path} is neither a YAML file (.yml) nor a JSON file (.json)")
    return data, metadata


def _patch(path: str, data: bytes, metadata: Metadata) -> str:
    from deepaas.catalog.fixing import patch

    if any(one.code == "too-large" for one in metadata.problems):
        raise click.ClickException(f"{path} is too large to be mended")
    try:
        return patch(path, data, metadata)
    except UnicodeDecodeError:
        raise click.ClickException(f"save {path} in UTF-8 first") from None


def _show(path: str, metadata: Metadata) -> None:
    for problem in metadata.problems:
        place = f"{path}:{problem.line}:{problem.column}" if problem.line else path
        click.echo(f"{place}: {problem.severity}: {problem.message}")
    errors = len(metadata.errors)
    warnings = len(metadata.problems) - errors
    click.echo(f"{path}: {_counted(errors, 'error')}, {_counted(warnings, 'warning')}")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
