"""The arguments of a model's function as options of `deepaas-cli`: their help and their values.

Each value comes as text. The model's fields read it, as they read the text of a request.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import enum
import json
import mimetypes
import os
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

from marshmallow import ValidationError, fields, missing, validate

from deepaas.cmd.cli_options import CommandError
from deepaas.model.v2.arguments import Argument, Arguments, InvalidArgumentsError
from deepaas.model.v2.json_encoder import to_plain
from deepaas.model.v2.json_schema import enum_values
from deepaas.model.v2.media import ANY, JSON
from deepaas.model.v2.validation import holds_secrets
from deepaas.model.v2.wrapper import UploadedFile

TRUE = frozenset({"yes", "true", "t", "1"})

_TYPES: list[tuple[type[fields.Field], str]] = [
    (fields.Boolean, "bool"),
    (fields.Integer, "int"),
    (fields.Decimal, "str (decimal number)"),
    (fields.Float, "float"),
    (fields.Date, "str (date, YYYY-MM-DD)"),
    (fields.Time, "str (time, HH:MM:SS)"),
    (fields.DateTime, "str (date and time, ISO 8601)"),
    (fields.Mapping, 'dict, enclosed as string: "{...}"'),
    (fields.Nested, 'dict, enclosed as string: "{...}"'),
]
"""The type that the help shows for a field. Date and Time come before DateTime, their base."""

_LIST = 'list, enclosed as string: "[...]"'


class LiteralError(Exception):
    """A text is not a Python literal; the message says why."""


# --- the options


class MethodParser(argparse.ArgumentParser):
    """The parser of the words after a method of `deepaas-cli`."""

    def __init__(self, prog: str, arguments: Arguments | None = None) -> None:
        super().__init__(
            prog=prog,
            formatter_class=_HelpFormatter,
            conflict_handler="resolve",  # a model may have an argument called help
            argument_default=argparse.SUPPRESS,
        )
        self.by_name: dict[str, Argument] = {}
        words = ["[-h]"]
        for argument in arguments.visible if arguments is not None else ():
            name = argument.field.name or argument.name
            self.by_name[name] = argument
            metavar = "".join(c if c.isalnum() else "_" for c in name.upper())
            self.add_argument(
                f"--{name}",
                dest=name,
                metavar=metavar,
                required=bool(argument.field.required),
                help=_described(argument).replace("%", "%%"),
            )
            word = f"--{name} {metavar}"
            words.append(word if argument.field.required else f"[{word}]")
        self.usage = _usage(prog, words).replace("%", "%%")

    def read(self, argv: Sequence[str]) -> dict[str, str]:
        """Return the given texts by the Python names of their arguments; exit with code 2 at a
        mistake."""
        given, rest = self.parse_known_args(argv)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}; {self._hint(rest)}")
        return dict(vars(given))

    def _hint(self, words: Sequence[str]) -> str:
        for word in words:
            name = word.partition("=")[0].removeprefix("--")
            near = difflib.get_close_matches(name, self.by_name, n=1, cutoff=0.7)
            if word.startswith("--") and near:
                return f"did you mean --{near[0]}?"
        return "the options of the program, such as --deepaas_method_output, come before the method"

    def refuse(self, error: InvalidArgumentsError) -> NoReturn:
        """Report what is wrong with the values, by option, and exit with code 2."""
        flags = {argument.name: f"--{name}" for name, argument in self.by_name.items()}
        messages = error.messages if isinstance(error.messages, Mapping) else {"": error.messages}
        parts = []
        for name, found in messages.items():
            text = " ".join(map(str, found)) if isinstance(found, list) else str(found)
            parts.append(f"argument {flags[name]}: {text}" if name in flags else text)
        self.error("; ".join(parts))


class _HelpFormatter(argparse.RawTextHelpFormatter):
    """Shows the text of each option below it, one line for each fact."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=10)


def _usage(prog: str, words: Sequence[str]) -> str:
    """Return the usage in lines of limited width. argparse cannot break lines at every name."""
    width = max(40, shutil.get_terminal_size().columns - 2) - len("usage: ")
    joined = " ".join(word.replace(" ", "\0") for word in words)
    indent = " " * (len(prog) + 1)
    lines = textwrap.wrap(
        joined,
        width - len(indent),
        break_long_words=False,
        break_on_hyphens=False,
    )
    text = ("\n" + " " * len("usage: ") + indent).join(lines)
    return f"{prog} {text}".replace("\0", " ")


def _described(argument: Argument) -> str:
    """Return the help of an argument: description, type, default, choices."""
    declared = argument.field
    lines = []
    description = declared.metadata.get("description")
    if description:
        lines.append(str(description).strip())
    lines.append(f"Type: {type_of(argument)}")
    default = declared.load_default
    if declared.required:
        lines.append("*Required*")
    elif default is not missing:
        if callable(default):
            lines.append("Default: computed at each call")
        else:
            lines.append(f"Default: {'********' if holds_secrets(declared) else _sent(declared)}")
    choices = choices_of(declared)
    if choices is not None:
        lines.append(f"Choices: {choices}")
    return "\n".join(lines)


def _sent(declared: fields.Field) -> Any:
    """Return the default of a field, in the form in which a value is given."""
    default = declared.load_default
    is_plain = isinstance(default, str | int | float | list | tuple | None)
    if isinstance(default, enum.Enum) or not is_plain:
        with contextlib.suppress(Exception):  # the default may not be a value of the field
            return to_plain(declared._serialize(default, "", None))
    return default


def type_of(argument: Argument) -> str:
    """Return the type that the help shows for the text of an argument."""
    if argument.takes_files:
        return (
            'list of filepaths, enclosed as string: "[...]"'
            if argument.multiple
            else ("str (filepath)")
        )
    if argument.multiple or (isinstance(argument.field, fields.Nested) and argument.field.many):
        return _LIST
    return next((text for kind, text in _TYPES if isinstance(argument.field, kind)), "str")


def choices_of(declared: fields.Field) -> list[Any] | None:
    """Return the choices of a field, from `enum` or OneOf, or None."""
    choices = declared.metadata.get("enum")
    if choices is None:
        ones = (v.choices for v in declared.validators if isinstance(v, validate.OneOf))
        choices = next(ones, None)
    if choices is None and isinstance(declared, fields.Enum):
        choices = enum_values(declared)
    return None if choices is None else list(choices)


# --- the values


@dataclass
class Given:
    """The keyword arguments for a function, and the media type of its result."""

    values: dict[str, Any]
    media_type: str = JSON


@dataclass
class Reader:
    """Converts texts to the values that the fields read. `folder` receives copies of the files."""

    folder: str
    _copies: int = field(default=0, init=False)

    def load(
        self, arguments: Arguments, by_name: Mapping[str, Argument], texts: Mapping[str, str]
    ) -> Given:
        """Return the validated keyword arguments.

        Raises InvalidArgumentsError, CommandError if a file cannot be read, and every other
        exception that the model's fields raise.
        """
        raw: dict[str, Any] = {}
        wrong: dict[str, list[str]] = {}
        for name, text in texts.items():
            argument = by_name[name]
            try:
                raw[argument.name] = self._value(argument, name, text)
            except LiteralError as error:
                wrong[argument.name] = [str(error)]
        if wrong:
            raise InvalidArgumentsError(wrong)
        _choose_media_type(arguments, raw)
        try:
            values: dict[str, Any] = arguments.schema.load(raw)
        except ValidationError as error:
            raise InvalidArgumentsError(error.messages) from None
        return Given(values, arguments.media_type(values))

    def _value(self, argument: Argument, name: str, text: str) -> Any:
        declared = argument.field
        if argument.takes_files:
            return self._files(argument, name, text)
        if argument.multiple or isinstance(declared, fields.Mapping | fields.Nested):
            return _literal(text, is_list=argument.multiple)
        if type(declared) is fields.Boolean and _is_usual(declared):
            return text.strip().lower() in TRUE
        if isinstance(declared, fields.Integer) and declared.strict:
            with contextlib.suppress(ValueError):
                return int(text)
        return text

    def _files(self, argument: Argument, name: str, text: str) -> Any:
        if not argument.multiple:
            return self._copy(argument.name, name, text) if text else ""
        paths = _literal(text, is_list=True)
        if not isinstance(paths, list | tuple) or not all(isinstance(p, str) for p in paths):
            raise LiteralError("""Not a list of paths; write "['one.png', 'two.png']".""")
        return [self._copy(argument.name, name, path) for path in paths]

    def _copy(self, wire_name: str, name: str, path: str) -> UploadedFile:
        """Copy a file, because the model may change, move or delete what it receives."""
        original = os.path.basename(path)
        self._copies += 1
        _, extension = os.path.splitext(original)
        target = os.path.join(self.folder, f"{self._copies}{extension}")
        try:
            shutil.copyfile(path, target)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise CommandError(
                f"the file of --{name} cannot be read: {path}: {reason}; give the path of a file"
            ) from None
        content_type = mimetypes.guess_type(original)[0] or "application/octet-stream"
        return UploadedFile(wire_name, target, content_type, original)


@contextlib.contextmanager
def reader() -> Iterator[Reader]:
    """Provide a Reader whose copies of files are removed at the end."""
    with TemporaryDirectory(prefix="deepaas-", ignore_cleanup_errors=True) as folder:
        yield Reader(folder)


def _literal(text: str, *, is_list: bool) -> Any:
    """Return the value of a Python literal. Raises LiteralError."""
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        example = "\"['a', 'b']\" or \"[1, 2]\"" if is_list else "\"{'a': 1}\""
        shown = text if len(text) <= 80 else text[:79] + "…"
        hint = _json_hint(text)
        raise LiteralError(f"not a Python literal: {shown!r}; write {example}{hint}") from None


def _json_hint(text: str) -> str:
    try:
        json.loads(text)
    except ValueError:
        return ""
    return ", with True, False and None instead of true, false and null"


def _is_usual(declared: fields.Boolean) -> bool:
    return True in declared.truthy and False in declared.falsy


def _choose_media_type(arguments: Arguments, raw: dict[str, Any]) -> None:
    """Set `accept`, unless it is given: to its default, to JSON, or to the first choice.

    A request without an Accept header gets the first choice. This program has always used the
    default of the field, and JSON without a default.
    """
    accept = next((a for a in arguments.visible if a.name == "accept"), None)
    if accept is None or raw.get("accept", ANY) != ANY:
        return
    raw.pop("accept", None)
    default = accept.field.load_default
    if isinstance(default, str) and default != ANY:
        return
    choices = arguments.media_types
    if choices:
        raw["accept"] = JSON if JSON in choices else choices[0]
