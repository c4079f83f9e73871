"""`deepaas-cli`: calls a model in this process, without a server."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from deepaas.cmd import cli_options
from deepaas.cmd.cli_options import ProgramParser
from deepaas.stdio import StandardStreams

PROGRAM = "deepaas-cli"

METHODS = {
    "get_metadata": "Print the metadata of the model; also done if no method is given.",
    "warm": "Call warm, for example to load the weights of the model.",
    "predict": "Call predict, and print its result or save it. `deepaas-cli predict --help` lists "
    "its arguments.",
    "train": "Call train, and print the record of the training. `deepaas-cli train --help` lists "
    "its arguments.",
}

_EPILOG = (
    "The options of the program come before the method, those of the model after it. "
    "--workers, --client-max-size, --deepaas_with_multiprocessing and the switches of endpoints "
    "are accepted, as in 2.6, but they concern only deepaas-run."
)


class _Rest(argparse.ArgumentParser):
    """Keeps the words after a method: only the model knows which of them are options."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        return argparse.Namespace(rest=list(args or ())), []


def _parser() -> ProgramParser:
    parser = ProgramParser(
        PROGRAM,
        description="Call a method of an installed model in this process, without a server.",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "--deepaas_method_output",
        metavar="FILE",
        default="",
        help="Save the result in FILE instead of printing it. predict adds the extension of the "
        "result's media type to FILE if it has another one, and prints the new name.",
    )
    methods = parser.add_subparsers(
        title="methods", dest="method", metavar="METHOD", parser_class=_Rest
    )
    for name, text in METHODS.items():
        methods.add_parser(name, help=text, add_help=False)
    return parser


def main() -> None:
    """Run the command line of this process, and exit with its code."""
    cli_options.end_with(run)


def run(argv: Sequence[str], streams: StandardStreams) -> int:
    """Run a command line and return the exit code: 0, 1 for an error, 130 for Ctrl-C, 143 for
    SIGTERM. Raises SystemExit with code 2 for a usage error."""
    parser = _parser()
    given = parser.read(argv, METHODS)
    cli_options.end_at_sigterm()
    return cli_options.exit_code_of(PROGRAM, streams, lambda: _call(parser, given, streams))


def _call(parser: ProgramParser, given: argparse.Namespace, streams: StandardStreams) -> None:
    from deepaas.cmd.cli_methods import Command, no_options, run_method  # not needed for --help

    argv: list[str] = getattr(given, "rest", [])
    if given.method in ("get_metadata", "warm"):
        no_options(given.method, argv)
    settings = cli_options.read_settings(parser, given)
    options = cli_options.open_log(settings)
    source = cli_options.chosen_model(settings)
    cli_options.set_weights_directory(settings, source)
    command = Command.open(
        source,
        streams,
        warm=settings.models.warm,
        output=given.deepaas_method_output,
        level=options.level,
    )
    run_method(command, given.method, argv)


if __name__ == "__main__":
    main()
