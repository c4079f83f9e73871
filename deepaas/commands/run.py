"""`deepaas run`: the server, with the options of `deepaas-run`."""

from __future__ import annotations

import sys
from typing import Any

import click

from deepaas.cmd import start


class _Passed(click.Command):
    """A command whose options another program reads, `--help` too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.args = args
        return args

    def invoke(self, ctx: click.Context) -> Any:
        sys.argv = ["deepaas-run", *ctx.args]
        start.main()


command = _Passed(
    "run",
    short_help="Serve models over HTTP; the same as deepaas-run.",
    add_help_option=False,
)
