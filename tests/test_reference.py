"""The reference pages name every error code, event, route and group of plug-ins, and no other."""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
import typing
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from deepaas import events, exceptions
from deepaas.api import ApiSettings, App
from deepaas.api.routes import routes_of
from deepaas.events import Events
from deepaas.exceptions import RequestError
from deepaas.http.routing import Access
from deepaas.serving.pool import Pool
from tests.test_docs import rows

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
LOADERS = {"NamedExtensionManager", "load"}
"""The functions whose first argument is a group of entry points."""

CODE = re.compile(r"[a-z]+(_[a-z]+)*")


def name_in(cell: str) -> str:
    """Return the name in a cell of a table, which is in backquotes."""
    match = re.fullmatch(r"`([^`]+)`", cell)
    assert match, cell
    return match[1]


# --- what the code has


class Modules:
    """The modules of the package: their trees, their constants, and the parameters in them."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.trees = [ast.parse(path.read_text()) for path in paths]
        self.constants: dict[str, str] = {}
        self.parameters: dict[str, list[list[str]]] = {}
        self.nodes = [node for tree in self.trees for node in ast.walk(tree)]
        for statement in [one for tree in self.trees for one in tree.body]:
            self._note_constant(statement)
        for node in self.nodes:
            self._note_parameters(node)

    def _note_constant(self, node: ast.AST) -> None:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            for target in node.targets:
                if isinstance(target, ast.Name) and isinstance(node.value.value, str):
                    self.constants[target.id] = node.value.value

    def _note_parameters(self, node: ast.AST) -> None:
        if isinstance(node, ast.ClassDef):
            for one in node.body:
                if isinstance(one, ast.FunctionDef) and one.name == "__init__":
                    self.parameters.setdefault(node.name, []).append(_names(one))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self.parameters.setdefault(node.name, []).append(_names(node))

    def text(self, node: ast.AST | None) -> str:
        """Return the text of a constant, given by itself or by its name; else ""."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
        return self.constants.get(node.id, "") if isinstance(node, ast.Name) else ""


PROGRAMS = {"catalog", "checks", "client", "commands"}
"""The folders of other programs than the server. Their codes are not those of its errors."""

PATHS = sorted(
    path
    for path in (ROOT / "deepaas").rglob("*.py")
    if path.relative_to(ROOT / "deepaas").parts[0] not in PROGRAMS
)


def _names(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    names = [one.arg for one in function.args.args]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def called(node: ast.Call) -> str:
    function = node.func
    return getattr(function, "attr", "") or getattr(function, "id", "")


@functools.cache
def literal_codes() -> set[str]:
    """Return the codes in the code base: class attributes, arguments and defaults named `code`."""
    modules = Modules(PATHS)
    found = set()
    for node in modules.nodes:
        if isinstance(node, ast.ClassDef):
            for one in node.body:
                target = one.targets[0] if isinstance(one, ast.Assign) else None
                target = one.target if isinstance(one, ast.AnnAssign) else target
                if isinstance(target, ast.Name) and target.id == "code":
                    found.add(modules.text(cast(Any, one).value))
        elif isinstance(node, ast.FunctionDef):
            defaults = zip(node.args.args[::-1], node.args.defaults[::-1], strict=False)
            found |= {modules.text(value) for one, value in defaults if one.arg == "code"}
        elif isinstance(node, ast.Call):
            found |= {modules.text(one.value) for one in node.keywords if one.arg == "code"}
            for names in modules.parameters.get(called(node), []):
                pairs = zip(names, node.args, strict=False)
                found |= {modules.text(value) for name, value in pairs if name == "code"}
    return {code for code in found if CODE.fullmatch(code)}


def errors() -> dict[str, int]:
    """Return the codes of all error classes, with their statuses."""
    found = {}
    for name in vars(exceptions).values():
        is_error = isinstance(name, type) and issubclass(name, RequestError)
        if is_error and name is not exceptions.StreamFailedError:  # it has the code of another one
            found[name.code] = name.status
    return found


def routes() -> set[tuple[str, str, str]]:
    """Return the routes of servers with all endpoints and without predictions."""
    pool = cast(Pool, SimpleNamespace(name="NAME"))
    found = set()
    for settings in (ApiSettings(admin=True, metrics=True), ApiSettings(predict=False)):
        for route in routes_of(App([pool], settings, None)):
            path = route.path.replace("/NAME/", "/{name}/")
            found.add((route.method, path, str(route.access.value)))
    return found


def groups() -> set[str]:
    """Return the groups of entry points that the code loads."""
    found = set()
    for module in (Modules([path]) for path in PATHS):
        for node in module.nodes:
            if isinstance(node, ast.Call) and called(node) in LOADERS and node.args:
                found.add(module.text(node.args[0]))
    return {group for group in found if group.startswith("deepaas.")}


# --- the pages


def test_page_has_all_error_codes() -> None:
    page = {name_in(cells[0]): cells[1] for cells in rows(DOCS / "errors.md")}
    assert set(page) == literal_codes()
    for code, status in errors().items():
        assert page[code] == str(status), code


def test_code_is_found_however_it_is_given() -> None:
    """One is an argument, one a default, one a constant, one an attribute, and one a keyword."""
    codes = literal_codes()
    assert {"client_closed", "result_not_encodable", "refused_by_model"} <= codes
    assert {"impossible_header", "train_failed", "internal_error"} <= codes


def test_page_has_all_events_with_their_values() -> None:
    page = {
        name_in(cells[0]): (name_in(cells[1]), set(re.findall(r"`(\w+)`", cells[3])))
        for cells in rows(DOCS / "events.md")
    }
    hints = typing.get_type_hints(Events)
    code = {}
    for field in dataclasses.fields(Events):
        (value,) = typing.get_args(hints[field.name])
        code[field.name] = value.__name__, set(typing.get_type_hints(value))
    assert page == code
    assert len(page) == len(vars(events.Events()))


def test_page_has_all_routes() -> None:
    page = [(cells[0], name_in(cells[1]), cells[2]) for cells in rows(DOCS / "routes.md")]
    assert len(set(page)) == len(page)
    assert set(page) == routes()
    assert all(access in {one.value for one in Access} for _, _, access in page)


def test_page_has_all_groups_of_plugins() -> None:
    page = {name_in(cells[0]) for cells in rows(DOCS / "plug-ins.md")}
    assert page == groups()
    assert page >= {"deepaas.v2.model", "deepaas.auth"}
