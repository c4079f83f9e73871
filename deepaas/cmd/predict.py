"""`deepaas-predict`: predicts one file or URL with a model of the first interface. Deprecated.

Such a model defines `predict_data` and `predict_url`, which receive one dictionary.
"""

from __future__ import annotations

import argparse
import mimetypes
import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from deepaas.cmd import cli_options
from deepaas.cmd.cli_options import CommandError, ProgramParser
from deepaas.stdio import StandardStreams

PROGRAM = "deepaas-predict"
JSON = "application/json"
DEPRECATED = (
    "deepaas-predict is deprecated and will be removed in the next major release; "
    "use deepaas-cli instead"
)


def _parser() -> ProgramParser:
    parser = ProgramParser(
        PROGRAM,
        shared=("model-name", "debug"),
        description=f"Deprecated: {DEPRECATED}. Predict one file, or one URL with --url, with a "
        "model that has predict_data and predict_url.",
    )
    parser.add_argument(
        "--input-file", "-i", metavar="FILE", help="The file to predict, or its URL with --url."
    )
    parser.add_argument(
        "--output",
        "-o",
        metavar="DIRECTORY",
        help="Where to save the result: DIRECTORY/out_<name of the input>.json, or the file that "
        "the model returns.",
    )
    parser.add_argument(
        "--content-type",
        "-ct",
        metavar="TYPE",
        default=JSON,
        help=f"The media type of the result. [default: {JSON}]",
    )
    parser.add_argument(
        "--url", "-u", action="store_true", help="The input is a URL, which the model loads."
    )
    parser.add_argument("--nourl", action="store_false", dest="url", help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """Run the command line of this process, and exit with its code."""
    cli_options.end_with(run)


def run(argv: Sequence[str], streams: StandardStreams) -> int:
    """Run a command line and return the exit code: 0, 1 for an error, 130 for Ctrl-C, 143 for
    SIGTERM. Raises SystemExit with code 2 for a usage error."""
    parser = _parser()
    given = parser.read(argv)
    cli_options.end_at_sigterm()
    print(f"{PROGRAM}: warning: {DEPRECATED}", file=sys.stderr)
    return cli_options.exit_code_of(PROGRAM, streams, lambda: _predict(parser, given, streams))


def _check(given: argparse.Namespace) -> None:
    """Raise CommandError unless the input and the output are given and the input exists."""
    if not given.input_file:
        raise CommandError("no input is given; name the file to predict with -i FILE")
    if not given.output:
        raise CommandError(
            "no output is given; name the directory for the result with -o DIRECTORY/"
        )
    if not given.url and not os.path.isfile(given.input_file):
        raise CommandError(
            f"there is no file {given.input_file}; give the path of a file, or --url with a URL"
        )


def _predict(parser: ProgramParser, given: argparse.Namespace, streams: StandardStreams) -> None:
    _check(given)
    from deepaas.cmd.cli_methods import load_model  # not needed for --help
    from deepaas.model.v2.failures import describe, prepare_for_model, traceback_of
    from deepaas.model.v2.invocation import Runtime

    settings = cli_options.read_settings(parser, given)
    source = cli_options.chosen_model(settings)
    cli_options.set_weights_directory(settings, source)
    folder = os.path.abspath(given.output)
    path = os.path.abspath(given.input_file)
    model = load_model(source)
    name = "predict_url" if given.url else "predict_data"
    function = model.function(name)
    if function is None:
        raise CommandError(
            f"model {source.name} has no function {name}; use deepaas-cli, which calls predict"
        )
    runtime = Runtime(source.name, "cmd.predict", streams.restore)
    prepare_for_model()
    argument = _argument(given)
    try:
        value = runtime.resolve(function(argument))
        runtime.recover()
        saved = _save(value, given, folder, path)
    except (KeyboardInterrupt, CommandError):
        raise
    except (Exception, SystemExit) as error:
        runtime.recover(error)
        print(traceback_of(error, with_own_frames=settings.log.debug), file=sys.stderr)
        raise CommandError(f"{name} failed: {describe(error)}") from None
    print(f"Output saved at {given.output}{saved}", flush=True)


def _argument(given: argparse.Namespace) -> dict[str, Any]:
    """Return the dictionary for the function of the model. It may open the file, not a copy."""
    from deepaas.model.v2.wrapper import UploadedFile

    path = given.input_file
    if given.url:
        return {"urls": [path], "accept": given.content_type}
    content_type = mimetypes.guess_type(path)[0]
    return {"files": [UploadedFile(path, path, content_type)], "accept": given.content_type}


def _save(value: Any, given: argparse.Namespace, folder: str, path: str) -> str:
    """Save the result in the folder and return the name of its file."""
    source = urlsplit(given.input_file).path if given.url else path
    stem = os.path.splitext(os.path.basename(source))[0]
    os.makedirs(folder, exist_ok=True)
    if given.content_type == JSON:
        name = f"out_{stem}.json"
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(f"{value!r}\n")
        return name
    if isinstance(getattr(value, "name", None), str) and os.path.isfile(value.name):
        name = os.path.basename(str(value.name))
        shutil.copyfile(value.name, os.path.join(folder, name))
        return name
    from deepaas.model.v2.results import encode

    name = f"out_{stem}{mimetypes.guess_extension(given.content_type) or ''}"
    with open(os.path.join(folder, name), "wb") as content:
        content.write(encode(value, given.content_type).body)
    return name


if __name__ == "__main__":
    main()
