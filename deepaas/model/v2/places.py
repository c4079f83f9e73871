"""Find the place of something in the files of a model, as `file:line`, for messages to its
author."""

from __future__ import annotations

import ast
import functools
import inspect
import os
import sys
import sysconfig
from collections.abc import Iterator
from types import ModuleType, TracebackType
from typing import Any

import deepaas

_OWN = os.path.dirname(os.path.abspath(deepaas.__file__)) + os.sep
_IMPORT_SYSTEM = ("<frozen importlib", os.path.dirname(os.path.abspath(os.__file__)) + "/importlib")
_LIBRARIES = tuple(
    os.path.abspath(sysconfig.get_path(name)) + os.sep
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


def place(path: str, line: int) -> str:
    """Return `file:line`; the path is relative if the file is in the working directory."""
    if not path:
        return ""
    path = os.path.abspath(path)
    folder = os.getcwd() + os.sep
    return f"{path.removeprefix(folder)}:{line}"


def at(where: str, text: str) -> str:
    """Return the text, preceded by the place if that is known."""
    return f"{where}: {text}" if where else text


def is_own(path: str) -> bool:
    """Return whether a file belongs to this package, or to the import system of Python."""
    return path.startswith(_OWN) or path.startswith(_IMPORT_SYSTEM)


# --- places of definitions


def place_of_function(function: Any) -> str:
    """Return the line of a function's `def`, or "" if it is not written in Python."""
    node, path = _definition(function)
    return place(path, node.lineno) if node is not None else _first_line(function)


def place_of_entry(function: Any, name: str) -> str:
    """Return the line of the entry `name` in the dictionary that a function returns.

    If it is not found, return the line of the function's `def`.
    """
    node, path = _definition(function)
    line = _line_of_key(node, name) if node is not None else 0
    return place(path, line) if line else place_of_function(function)


def place_of_parameter(function: Any, name: str) -> str:
    """Return the line of a parameter of a function, or that of its `def`."""
    node, path = _definition(function)
    arguments = getattr(node, "args", None)
    for one in ast.walk(arguments) if arguments is not None else ():
        if isinstance(one, ast.arg) and one.arg == name:
            return place(path, one.lineno)
    return place_of_function(function)


def place_of_attribute(model: Any, name: str, entry: str = "", item: int = -1) -> str:
    """Return the line that sets an attribute of a model: in a module, a class, or the class of an
    object.

    With `entry`, return the line of that entry in the assigned dictionary; with `item`, that of
    this item of the assigned list.
    """
    owners = [model] if inspect.ismodule(model) else inspect.getmro(type(model))
    for owner in owners:
        tree, path = _tree_of(owner)
        for node in getattr(tree, "body", ()):
            if _sets(node, name):
                found = _line_of_key(node, entry) or _line_of_item(node, item)
                return place(path, found or node.lineno)
    return place_of_model(model)


def place_of_model(model: Any) -> str:
    """Return the first line of the module or class of a model."""
    tree, path = _tree_of(model if inspect.ismodule(model) else type(model))
    return place(path, getattr(tree, "lineno", 1)) if tree is not None else ""


def code_of(function: Any) -> Any:
    """Return the code object that runs when the function is called; None if it is not in Python."""
    while isinstance(function, functools.partial):
        function = function.func
    function = getattr(function, "__func__", function)
    if not hasattr(function, "__code__") and not inspect.isroutine(function):
        function = getattr(type(function), "__call__", None)  # noqa: B004 the method is inspected
    return getattr(function, "__code__", None)


def _first_line(function: Any) -> str:
    code = code_of(function)
    return place(code.co_filename, code.co_firstlineno) if code is not None else ""


def _definition(function: Any) -> tuple[Any, str]:
    """Return the syntax tree of a function and its file; (None, "") if it is not found."""
    code = code_of(function)
    tree = _tree_of_file(code.co_filename) if code is not None else None
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
            if first == code.co_firstlineno and getattr(node, "name", "<lambda>") == code.co_name:
                return node, code.co_filename
    return None, ""


def _tree_of(owner: ModuleType | type) -> tuple[Any, str]:
    """Return the syntax tree of a module or class, and its file."""
    module = owner if isinstance(owner, ModuleType) else sys.modules.get(owner.__module__)
    path = getattr(module, "__file__", None)
    if not isinstance(path, str) or is_own(os.path.abspath(path)):
        return None, ""
    tree = _tree_of_file(path)
    if tree is None or isinstance(owner, ModuleType):
        return tree, path
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == owner.__name__:
            return node, path
    return None, ""


@functools.lru_cache(maxsize=8)
def _tree_of_file(path: str) -> ast.Module | None:
    try:
        with open(path, "rb") as file:
            return ast.parse(file.read())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None


def _line_of_key(node: ast.AST, name: str) -> int:
    """Return the first line on which `name` is a dictionary key in a syntax tree; 0 if not
    found."""
    lines = [found.lineno for found in _keys(node) if name and found.value == name]
    return min(lines, default=0)


def _line_of_item(node: ast.AST, item: int) -> int:
    """Return the line of an item of the list that is assigned; 0 if it is not found."""
    items = getattr(getattr(node, "value", None), "elts", [])
    return int(items[item].lineno) if 0 <= item < len(items) else 0


def _keys(node: ast.AST) -> Iterator[ast.Constant]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Dict):
            yield from (key for key in inner.keys if isinstance(key, ast.Constant))
        elif isinstance(inner, ast.Subscript) and isinstance(inner.slice, ast.Constant):
            yield inner.slice


def _sets(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return node.name == name
    targets: list[Any] = getattr(node, "targets", []) or [getattr(node, "target", None)]
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)


# --- places of exceptions


def place_of_error(error: BaseException, package: str) -> str:
    """Return the line of the model's code that caused the exception, or "" if it is not known.

    If a library raised it, that is the line that called the library. `package` is the name of the
    model's package, whose files may be installed next to libraries.
    """
    if isinstance(error, SyntaxError) and isinstance(error.filename, str):
        return place(error.filename, error.lineno or 1)
    frames = list(_frames(error.__traceback__))
    authors = [found for found in frames if _is_authors(*found, package)]
    if authors:
        path, line, _ = authors[-1]
        return place(path, line)
    return ""


def _frames(traceback: TracebackType | None) -> Iterator[tuple[str, int, str]]:
    """Yield the file, line and module of each call, the outermost first."""
    while traceback is not None:
        module = str(traceback.tb_frame.f_globals.get("__name__", ""))
        yield traceback.tb_frame.f_code.co_filename, traceback.tb_lineno, module
        traceback = traceback.tb_next


def _is_authors(path: str, _line: int, module: str, package: str) -> bool:
    if path.startswith("<") or is_own(path):
        return False
    return module.partition(".")[0] == package or not path.startswith(_LIBRARIES)


def without_own_frames(error: BaseException) -> BaseException:
    """Return the exception without the frames of this package that precede the model's frames.

    The exceptions that caused it are changed in the same way.
    """
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        traceback = following.__traceback__
        while traceback is not None and is_own(traceback.tb_frame.f_code.co_filename):
            traceback = traceback.tb_next
        following.__traceback__ = traceback
        following = following.__cause__ or following.__context__
    return error
