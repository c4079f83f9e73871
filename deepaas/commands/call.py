"""`deepaas call`: predict, train and look at records over HTTP, or call a model in this process."""

from __future__ import annotations

from typing import Any

import click

DEFAULT_URL = "http://127.0.0.1:5000"

ACTIONS = {
    "predict": "make a prediction; this is also done if no action is given",
    "train": "start a training, and follow it until its end",
    "list": "list the trainings and the asynchronous predictions",
    "show": "show a record",
    "log": "print the output of a training or of an asynchronous prediction",
    "files": "list the files that a training has written, or save them with --output",
    "wait": "follow a training or an asynchronous prediction until its end",
    "cancel": "cancel what runs or waits",
    "delete": "cancel it if necessary, and remove its record, log and files",
}

_EPILOG = """\b
Actions:
{actions}

\b
Examples:
  deepaas call digits --help
  deepaas call digits --image 3.png
  deepaas call digits *.png --output results/
  deepaas call http://gpu:8000/digits train --epochs 3

Exit codes: 0 success; 1 the server or the model answered with an error; 2 an option or an argument
is wrong; 3 no connection, or no usable response in time; 4 the training has failed or is cancelled;
130 Ctrl-C.
"""


def connection_options() -> list[click.Parameter]:
    """Return the options that are needed before the arguments of the model are known."""
    seconds = click.FloatRange(min=0, min_open=True)
    return [
        click.Option(
            ["--local"],
            is_flag=True,
            help="Call the model in this process, without a server. MODEL is the name of an "
            "installed model, a file or module:attribute.",
        ),
        click.Option(
            ["--token-file"],
            metavar="FILE",
            help="A file with the token for the sign-in. Without it, the variable DEEPAAS_TOKEN "
            "counts.",
        ),
        click.Option(
            ["--timeout"],
            type=seconds,
            metavar="SECONDS",
            help="Give up if the server sends nothing for this long.  [default: 600]",
        ),
        click.Option(
            ["--connect-timeout"],
            type=seconds,
            metavar="SECONDS",
            help="Give up if there is no connection after this time.  [default: 10]",
        ),
    ]


def result_options() -> list[click.Parameter]:
    """Return the options that say what to do with the result."""
    return [
        click.Option(
            ["--output", "-o"],
            metavar="PATH",
            help="Save the result in this file; in this directory if there are several results, "
            "or if PATH ends with a slash or is a directory.",
        ),
        click.Option(
            ["--json"],
            is_flag=True,
            help="Print JSON, one value a line: whole responses, records, and errors too.",
        ),
        click.Option(
            ["--accept"],
            metavar="TYPE",
            help="The media type of the result, such as image/png.",
        ),
        click.Option(
            ["--parallel"],
            type=click.IntRange(1, 64),
            metavar="N",
            help="The number of predictions at the same time, if there are several files.  "
            "[default: 1]",
        ),
        click.Option(
            ["--async"],
            is_flag=True,
            help="Do not wait for the end: print the record of a training or of an asynchronous "
            "prediction. The action wait follows it.",
        ),
    ]


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
    """Return the models of the server that begin with the word; none if it does not answer."""
    from deepaas.commands.calling.completion import models_like

    return models_like(incomplete)


class _Call(click.Command):
    """Shows the actions below the options."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        lines = [f"  {name:8} {text}" for name, text in ACTIONS.items()]
        self.epilog = _EPILOG.format(actions="\n".join(lines))
        super().format_epilog(ctx, formatter)


def _run(**given: Any) -> None:
    from deepaas.commands.calling.main import run

    model = given.pop("model")
    words = given.pop("words")
    click.get_current_context().exit(run(model, list(words), given))


command = _Call(
    "call",
    callback=_run,
    short_help="Predict and train with a model of a server, or with --local without one.",
    help="Call a model. MODEL is the name of a model of the server at DEEPAAS_URL (by default "
    f"{DEFAULT_URL}), or an address such as http://gpu:8000/digits.\n\n"
    "`deepaas call MODEL --help` lists the arguments of the model. Its arguments come after MODEL. "
    "The options below may stand before or after MODEL; if the model has an argument of the same "
    "name, before it.",
    options_metavar="[OPTIONS]",
    context_settings={"allow_interspersed_args": False},
    params=[
        *connection_options(),
        *result_options(),
        click.Argument(["model"], metavar="[URL/]MODEL", shell_complete=_complete),
        click.Argument(
            ["words"],
            metavar="[ACTION] [--argument value]... [FILE]...",
            nargs=-1,
            type=click.UNPROCESSED,
        ),
    ],
)
