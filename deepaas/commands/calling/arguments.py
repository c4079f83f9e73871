"""The arguments of a model as options: their help, and their values from the texts given.

The server converts and checks values. Here a text only gets the type of JSON that it stands for, so
that it can be sent.
"""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

import click

from deepaas.client.errors import UnsuitableArgumentError
from deepaas.client.interface import Argument, Function, Json
from deepaas.client.requests import File
from deepaas.commands import CONTEXT
from deepaas.commands.calling.text import printable, printable_line

_NUMBERS = {"integer", "number"}


@dataclass
class Given:
    """What was given after MODEL.

    `values` are the arguments of a call. `batch` has the name of an argument and the files with
    which the call is made, once for each; it is None if there is only one call. `options` are those
    of the program.
    """

    values: dict[str, Any]
    batch: tuple[str, list[File]] | None = None
    options: dict[str, Any] = field(default_factory=dict)


class ArgumentCommand(click.Command):
    """The parser of the words after MODEL."""

    def __init__(
        self, name: str, function: Function, options: Sequence[click.Parameter], help: str
    ) -> None:
        self.function = function
        self.by_key = {f"argument_{i}": one for i, one in enumerate(function.arguments)}
        names = {f"--{one.name}" for one in function.arguments}
        own = [_option(key, one, names) for key, one in self.by_key.items()]
        self.options = [_without(option, names) for option in options]
        params = [*own, *(option for option in self.options if option.opts)]
        files = click.Argument(["files"], nargs=-1, metavar="[FILE]...", required=False)
        super().__init__(name, params=[*params, files], help=help, context_settings={**CONTEXT})

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [
            (printable_line(_left(one)), printable(described(one)))
            for one in self.function.arguments
        ]
        with formatter.section("Arguments of the model"):
            formatter.write_dl(rows) if rows else formatter.write_text("none")
        if len(self.function.media_types) > 1 and not self.function.streams:
            with formatter.section("Media types of the result (--accept)"):
                formatter.write_text(printable(", ".join(self.function.media_types)))
        shown = [o.get_help_record(ctx) for o in [*self.options, self.get_help_option(ctx)] if o]
        with formatter.section("Options"):
            formatter.write_dl([record for record in shown if record])

    def read(self, words: Sequence[str]) -> Given:
        """Return what the words give. Raises click.UsageError, and click.exceptions.Exit for the
        help."""
        try:
            context = self.make_context(self.name, list(words))
        except click.NoSuchOption as error:
            names = [name for option in self.params for name in option.opts if name[:2] == "--"]
            near = difflib.get_close_matches(error.option_name, names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else "--help lists all"
            text = f"there is no argument {error.option_name}; {hint}"
            raise click.UsageError(text, error.ctx) from None
        params = dict(context.params)
        texts = {one.name: list(params.pop(key)) for key, one in self.by_key.items()}
        self._place(texts, list(params.pop("files")))
        given = Given({}, options=params)
        stdin = _Stdin()
        for argument in self.function.arguments:
            if texts[argument.name]:
                self._add(given, argument, texts[argument.name], stdin)
            elif argument.required:
                raise click.UsageError(f"the argument --{argument.name} is required", context)
        return given

    def _place(self, texts: dict[str, list[str]], files: list[str]) -> None:
        """Give the words without an option to the argument that takes files."""
        takers = [one.name for one in self.function.arguments if one.is_file]
        required = [one.name for one in self.function.arguments if one.is_file and one.required]
        used = [name for name in takers if texts[name]]
        lists = [one.name for one in self.function.arguments if one.name in used and one.is_list]
        for chosen in (lists, used, required, takers):
            if files and len(chosen) == 1:
                texts[chosen[0]] += files
                return
        if files and takers:
            names = ", ".join(f"--{name}" for name in takers)
            raise click.UsageError(f"which argument is {files[0]} for? Write one of {names} before")
        if files:
            raise click.UsageError(
                f"the model takes no file, so {files[0]} is no argument; "
                "write each argument as --name value"
            )

    def _add(self, given: Given, argument: Argument, texts: list[str], stdin: _Stdin) -> None:
        if argument.is_file:
            files = [_file(argument, text, stdin) for text in texts]
            if argument.is_list:
                given.values[argument.name] = files
            elif len(files) == 1:
                given.values[argument.name] = files[0]
            elif given.batch is None:
                given.batch = argument.name, files
            else:
                raise click.UsageError(
                    f"only one argument can have several files: --{given.batch[0]} or "
                    f"--{argument.name}"
                )
            return
        texts = [_from_file(argument, text, stdin) for text in texts]
        if argument.is_list:
            given.values[argument.name] = _list_of(argument, texts)
        elif len(texts) > 1:
            raise click.UsageError(f"--{argument.name} takes one value, but has {len(texts)}")
        else:
            given.values[argument.name] = value_of(argument, argument.schema, texts[0])


def _option(key: str, argument: Argument, taken: set[str]) -> click.Option:
    """Return the option of an argument; `_` in a name may also be written as `-`."""
    option = click.Option([f"--{key}", key], multiple=True, type=click.UNPROCESSED)
    option.opts = [f"--{argument.name}"]  # a name may have any characters
    other = f"--{argument.name.replace('_', '-')}"
    if other not in taken:
        option.opts.append(other)
    return option


def _without(option: click.Parameter, names: set[str]) -> click.Parameter:
    """Take the names away from an option that an argument of the model has."""
    option.opts = [name for name in option.opts if name not in names]
    return option


# --- the help


def _left(argument: Argument) -> str:
    return f"--{argument.name} {_kind(argument)}"


def _kind(argument: Argument) -> str:
    """Return the type of an argument as the help shows it."""
    if argument.is_file:
        return "FILE..." if argument.is_list else "FILE"
    if argument.is_list:
        return f"{_word(argument, argument.item_schema)}..."
    return _word(argument, argument.schema)


def _word(argument: Argument, schema: Json) -> str:
    types = [one for one in argument.types_of(schema) if one != "null"]
    words = {"string": "TEXT", "object": "JSON", "array": "JSON", "boolean": "true|false"}
    if len(types) != 1:
        return "VALUE"
    if types[0] == "string" and schema.get("format") in ("date", "date-time", "time", "uuid"):
        return str(schema["format"]).upper()
    return words.get(types[0], types[0].upper())


def described(argument: Argument) -> str:
    """Return the text of an argument: description, choices, bounds, default, required."""
    schema = argument.schema
    facts = []
    if argument.choices:
        facts.append("one of " + ", ".join(_plain(one) for one in argument.choices))
    facts += [
        f"{text} {_plain(schema[key])}"
        for key, text in (
            ("minimum", "at least"),
            ("exclusiveMinimum", "more than"),
            ("maximum", "at most"),
            ("exclusiveMaximum", "less than"),
        )
        if key in schema
    ]
    if argument.required:
        facts.append("required")
    if schema.get("default") is not None:
        facts.append(f"default: {_plain(schema['default'])}")
    description = argument.description.strip().rstrip(".")
    fact = f"[{'; '.join(facts)}]" if facts else ""
    return "  ".join(one for one in (description and f"{description}.", fact) if one)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# --- the values


class _Stdin:
    """Standard input, which can be read once."""

    def __init__(self) -> None:
        self._reader = ""

    def read(self, argument: Argument) -> bytes:
        if self._reader:
            raise click.UsageError(
                f"--{argument.name}: standard input was read already for --{self._reader}"
            )
        self._reader = argument.name
        return sys.stdin.buffer.read()


def _file(argument: Argument, text: str, stdin: _Stdin) -> File:
    path = text.removeprefix("@")
    if path == "-":
        return File("stdin", data=stdin.read(argument))
    try:
        return File.at(path)
    except UnsuitableArgumentError as error:
        raise click.UsageError(f"--{argument.name}: {error}") from None


def _from_file(argument: Argument, text: str, stdin: _Stdin) -> str:
    """Return the text, or that of the file after @; @- is standard input, @@ stands for @."""
    if text.startswith("@@"):
        return text[1:]
    if not text.startswith("@"):
        return text
    if text == "@-":
        data = stdin.read(argument)
    else:
        try:
            with open(text[1:], "rb") as file:
                data = file.read()
        except OSError as error:
            raise click.UsageError(
                f"--{argument.name}: the file {text[1:]} cannot be read: {error.strerror}; "
                f"write @{text} for the text {text}"
            ) from None
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise click.UsageError(f"--{argument.name}: {text[1:]} is not a text in UTF-8") from None


def _list_of(argument: Argument, texts: list[str]) -> list[Any]:
    """Return a list: one value that is a list in JSON, or an item for each value."""
    if len(texts) == 1 and texts[0].lstrip().startswith("["):
        whole = _parsed(texts[0])
        if isinstance(whole, list):
            return whole
        raise _not_json(argument, texts[0], '[1, 2] or ["a", "b"]')
    return [value_of(argument, argument.item_schema, text) for text in texts]


def value_of(argument: Argument, schema: Json, text: str) -> Any:
    """Return the value of JSON for which a text stands, by the types that the schema allows.

    A number or a boolean that is not written as in JSON stays a text: the server reads or refuses
    it. An object or a list must be JSON. Raises click.UsageError.
    """
    types = set(argument.types_of(schema))
    value = _parsed(text)
    if types & {"object", "array"} and "string" not in types:
        if isinstance(value, dict | list) or (value is None and text.strip() == "null"):
            return value
        raise _not_json(argument, text, '{"key": 1}' if "object" in types else "[1, 2]")
    if text.strip() == "null" and "null" in types and "string" not in types:
        return None
    if isinstance(value, bool):
        return value if "boolean" in types or not types else text
    if isinstance(value, int | float) and (types & _NUMBERS or not types):
        return value if _is_exact(value, text) else text
    if not types and value is not None:
        return value
    return text


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None


def _is_exact(value: float, text: str) -> bool:
    """Return whether the number has all digits of the text."""
    try:
        return isinstance(value, int) or Decimal(repr(value)) == Decimal(text.strip())
    except InvalidOperation:
        return False


def _not_json(argument: Argument, text: str, example: str) -> click.UsageError:
    shown = text if len(text) <= 80 else text[:79] + "…"
    return click.UsageError(
        f"--{argument.name}: {shown} is not JSON of the right kind; write it like '{example}'"
    )
