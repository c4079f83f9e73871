"""The arguments of a function of a script, with the type hints for its wrapper."""

from __future__ import annotations

import ast
import builtins
import re
from dataclasses import dataclass, field

PATH = re.compile(r"(.*_)?(path|file|filename|fname)")
FILE = re.compile(r"(.*_)?(path|file|filename|fname|image|img|picture|photo|audio|wav|video)")
"""Arguments with such names are files that a client sends."""

UPLOAD = "from deepaas.model.v2.wrapper import UploadedFile"


@dataclass(frozen=True)
class Argument:
    """An argument of predict, and the value that the function of the script gets for it."""

    name: str
    hint: str
    default: str | None
    value: str
    is_keyword: bool

    @property
    def declared(self) -> str:
        default = "" if self.default is None else f" = {self.default}"
        return f"{self.name}: {self.hint}{default}"

    @property
    def passed(self) -> str:
        return f"{self.name}={self.value}" if self.is_keyword else self.value


def call_with(arguments: list[Argument]) -> str:
    """Return the arguments of a call of the function; those by position stand first."""
    return ", ".join(one.passed for one in sorted(arguments, key=lambda one: one.is_keyword))


@dataclass
class Names:
    """The names that annotations may use: imported ones, and classes of the script."""

    imports: dict[str, str]
    classes: set[str]
    used: set[str] = field(default_factory=set)
    needs_upload: bool = False

    def text_of(self, annotation: ast.expr) -> str | None:
        """Return an annotation as text, or None if it has names that cannot be imported."""
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            try:
                annotation = ast.parse(annotation.value, mode="eval").body
            except SyntaxError:
                return None
        names = {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)}
        own = {name for name in names if name in self.imports or name in self.classes}
        if not all(hasattr(builtins, name) for name in names - own):
            return None
        self.used |= own
        return ast.unparse(annotation)

    def lines(self, module: str) -> list[str]:
        """Return the import lines of the names that were used."""
        lines = {self.imports[name] for name in self.used if name in self.imports}
        lines |= {UPLOAD} if self.needs_upload else set()
        own = sorted(self.used & self.classes)
        return sorted(lines | ({f"from .{module} import {', '.join(own)}"} if own else set()))


def arguments_of(
    function: ast.FunctionDef | ast.AsyncFunctionDef, names: Names
) -> tuple[list[Argument], list[str]]:
    """Return the arguments, those without a default first, and notes on those that were guessed."""
    signature = function.args
    positional = [*signature.posonlyargs, *signature.args]
    missing = len(positional) - len(signature.defaults)
    defaults: list[ast.expr | None] = [*[None] * missing, *signature.defaults]
    pairs = [*zip(positional, defaults, strict=True)]
    pairs += zip(signature.kwonlyargs, signature.kw_defaults, strict=True)
    arguments, notes = [], []
    left_out = ""  # the first argument by position that predict does not pass
    for argument, default in pairs:
        is_keyword = argument not in signature.posonlyargs
        if left_out and not is_keyword:
            notes.append(
                f"api.py, {argument.arg}: not offered, because {left_out} before it is not"
            )
            continue
        made, note = _argument(argument, default, is_keyword, names)
        if made is None and not is_keyword:
            left_out = argument.arg
        if made is not None:
            arguments.append(made)
        if note:
            notes.append(f"api.py, {argument.arg}: {note}")
    return sorted(arguments, key=lambda one: one.default is not None), notes


def _argument(
    argument: ast.arg, default: ast.expr | None, is_keyword: bool, names: Names
) -> tuple[Argument | None, str]:
    """Return an argument, or None if it is not offered, and a note for the author."""
    name, annotation = argument.arg, argument.annotation
    plain = ast.unparse(annotation).rpartition(".")[2] if annotation else ""
    if plain == "Path" or PATH.fullmatch(name) or (not annotation and FILE.fullmatch(name)):
        return _file(name, plain == "Path", default, is_keyword, names)
    hint = names.text_of(annotation) if annotation else _type_of(default)
    text = ast.unparse(default) if default is not None and _is_literal(default) else None
    if default is not None and (hint is None or text is None):
        return None, "the type of this argument is not known, so it is not offered"
    if hint is None:
        return Argument(name, "str", None, name, is_keyword), (
            "the script does not say its type; str is a guess"
        )
    return Argument(name, hint, text, name, is_keyword), ""


def _file(
    name: str, is_path: bool, default: ast.expr | None, is_keyword: bool, names: Names
) -> tuple[Argument, str]:
    names.needs_upload = True
    value = f"str({name}.filename)"
    if is_path:
        names.imports.setdefault("Path", "from pathlib import Path")
        names.used.add("Path")
        value = f"Path({value})"
    note = "clients send a file, and the script gets its path; change this if it expects otherwise"
    if default is None:
        return Argument(name, "UploadedFile", None, value, is_keyword), note
    other = ast.unparse(default) if _is_literal(default) else "None"
    value = f"{value} if {name} else {other}"
    return Argument(name, "UploadedFile | None", "None", value, is_keyword), note


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except ValueError:
        return False
    return True


def _type_of(default: ast.expr | None) -> str | None:
    """Return the type of a default value that is a number, a text or a bool."""
    if default is None or not _is_literal(default):
        return None
    value = ast.literal_eval(default)
    return type(value).__name__ if isinstance(value, bool | int | float | str) else None
