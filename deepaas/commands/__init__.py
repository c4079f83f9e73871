"""`deepaas`: the program whose sub-commands are plug-ins.

A sub-command is an entry point in `deepaas.command`: its name is the name of the sub-command, and
its value a `click.Command`. The module of a sub-command imports nothing but click and the standard
library, because `deepaas --help` imports all of them; the command itself imports the rest.
"""

from __future__ import annotations

import difflib
import functools
from importlib.metadata import EntryPoint, entry_points
from typing import NoReturn

import click

import deepaas

NAMESPACE = "deepaas.command"

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
"""The settings of the program, which its sub-commands inherit."""


class Commands(click.Group):
    """The installed sub-commands. One that cannot be loaded does not affect the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_points())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        point = _points().get(cmd_name)
        if point is None:
            return None
        try:
            found = point.load()
        except Exception as error:
            return _broken(point, f"{type(error).__name__}: {error}")
        if not isinstance(found, click.Command):
            return _broken(point, f"it is {type(found).__name__}, and not a click.Command")
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and name not in _points():
            near = difflib.get_close_matches(name, _points(), n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else "deepaas --help lists all commands"
            ctx.fail(f"there is no command {name}; {hint}")
        return super().resolve_command(ctx, args)


@functools.cache  # a scan reads a file of each installed package
def _points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=NAMESPACE)}


def _broken(point: EntryPoint, reason: str) -> click.Command:
    """Return a command that only reports why the plug-in cannot be used."""
    package = point.dist.name if point.dist else point.value

    def fail() -> NoReturn:
        raise click.ClickException(
            f"the command {point.name} of {package} cannot be loaded: {reason}"
        )

    return click.Command(
        point.name,
        callback=fail,
        short_help=f"(cannot be loaded: {reason})",
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )


@click.group(cls=Commands, context_settings=CONTEXT)
@click.version_option(deepaas.__version__, message="%(version)s")
def main() -> None:
    """Serve trained models over REST, and write, check and call them."""
