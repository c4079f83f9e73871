"""Find models: entry points, importable objects, and files.

The server only lists models (`find`). A worker loads one (`load`).
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from types import ModuleType

from deepaas.exceptions import (
    ConfigurationError,
    ModelMistakeError,
    NoModelError,
    UnknownModelError,
)

NAMESPACE = "deepaas.v2.model"


@dataclass(frozen=True)
class ModelSource:
    """The name and the location of a model: `module[:attribute]` or `path/to/file.py[:attribute]`.

    `folder` is also searched for a module that is not installed.
    """

    name: str
    target: str
    folder: str = ""

    @functools.cached_property
    def origin(self) -> str:
        """The target in a form that does not depend on the working directory: with an absolute
        path, unless it names an installed module."""
        path, attribute = _split(self.target)
        if path.endswith(".py") or not _is_installed(path):
            path = os.path.abspath(os.path.join(self.folder, path))
        return f"{path}:{attribute}" if attribute else path


def installed() -> list[ModelSource]:
    """Return the models of the installed packages, in the order in which they are found.

    Raises ConfigurationError if two packages use the same name for different models.
    """
    from stevedore import NamedExtensionManager

    # With names=[], stevedore imports nothing.
    entry_points = NamedExtensionManager(NAMESPACE, names=[]).list_entry_points()
    found: dict[str, ModelSource] = {}
    for entry_point in entry_points:
        source = ModelSource(entry_point.name, entry_point.value.partition("[")[0].strip())
        other = found.setdefault(source.name, source)
        if other != source:
            raise ConfigurationError(
                f"two installed packages have a model named {source.name!r}: "
                f"{other.target} and {source.target}; uninstall one of them"
            )
    return list(found.values())


def find(targets: Sequence[str], model_name: str = "") -> list[ModelSource]:
    """Return the models to serve: `targets` if any are given, otherwise the installed models.

    A target may also be the name of an installed model. `model_name` selects one of the installed
    models, or renames a single target. Raises ConfigurationError, with advice, if no model can be
    served.
    """
    if targets:
        if model_name and len(targets) > 1:
            raise ConfigurationError("--model-name cannot be used with several models")
        folder = os.getcwd()
        known = _known_names(targets)
        sources = [
            known.get(target) or ModelSource(_name_of(target), target, folder) for target in targets
        ]
        if model_name:
            sources = [replace(source, name=model_name) for source in sources]
        names = [source.name for source in sources]
        if len(set(names)) < len(names):
            raise ConfigurationError(f"several models would have the same name: {', '.join(names)}")
        return sources
    sources = installed()
    if model_name:
        matching = [source for source in sources if source.name == model_name]
        if not matching:
            raise UnknownModelError(model_name, [source.name for source in sources])
        return matching
    if not sources:
        raise NoModelError(
            f"no model to serve: install a package with an entry point in {NAMESPACE}, "
            "or name one: deepaas-run path/to/file.py or deepaas-run module:attribute"
        )
    return sources


def _known_names(targets: Sequence[str]) -> dict[str, ModelSource]:
    """Return the installed models by name, if a target could be such a name."""
    if all(":" in target or target.endswith(".py") for target in targets):
        return {}
    try:
        return {source.name: source for source in installed()}
    except ConfigurationError:  # two installed models have one name; the targets may be others
        return {}


def load(target: str, folder: str = "") -> object:
    """Import the model at `target`, and instantiate it if it is a class.

    A module is also searched for in `folder`, after all other places. Raises every exception that
    the model's code raises.
    """
    if folder:
        sys.path.append(folder)
    path, attribute = _split(target)
    module = _load_file(path) if path.endswith(".py") else importlib.import_module(path)
    found: object = module
    for name in filter(None, attribute.split(".")):
        found = _attribute(found, name, path)
    if inspect.isclass(found):
        _check_is_instantiable(found, target)
        found = found()
    return found


def _attribute(owner: object, name: str, path: str) -> object:
    try:
        return getattr(owner, name)
    except AttributeError:
        names = [known for known in vars(owner) if not known.startswith("_")]
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ModelMistakeError(("", f"{path} has no attribute {name!r}{hint}")) from None


def _check_is_instantiable(cls: type, target: str) -> None:
    try:
        parameters = inspect.signature(cls).parameters.values()
    except (TypeError, ValueError):  # not written in Python
        return
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in variable]
    if needed:
        path, _ = _split(target)
        text = (
            f"the class {cls.__name__} cannot be instantiated without "
            f"{', '.join(map(repr, needed))}; give defaults in __init__, "
            f"or create an instance and serve {path}:<its name>"
        )
        raise ModelMistakeError(("", text))


def package_of(target: str) -> str:
    """Return the name of the top-level package or module that contains a model."""
    path, _ = _split(target)
    if path.endswith(".py"):
        return os.path.basename(path)[: -len(".py")]
    return path.partition(".")[0]


def file_of(target: str) -> str:
    """Return the file of the loaded module at `target`; "" if it has none."""
    path, _ = _split(target)
    if path.endswith(".py"):
        return os.path.abspath(path)
    file = getattr(sys.modules.get(path), "__file__", None)
    return os.path.abspath(file) if isinstance(file, str) else ""


def sources(model: object, imported: Iterable[str]) -> list[str]:
    """Return the Python source files of a model: those of its package and those that are not
    installed.

    `imported` are the names of the modules that were imported together with the model.
    """
    own = model.__name__ if inspect.ismodule(model) else type(model).__module__
    library = os.path.dirname(os.__file__)
    found = []
    for name in imported:
        file = getattr(sys.modules.get(name), "__file__", None)
        if not isinstance(file, str) or not file.endswith(".py"):
            continue
        installed = file.startswith(library) or "-packages" + os.sep in file
        if not installed or name.partition(".")[0] == own.partition(".")[0]:
            found.append(os.path.abspath(file))
    return sorted(found)


def _is_installed(module: str) -> bool:
    """Return whether a module can be found without the server's folder. Imports nothing."""
    try:
        return importlib.util.find_spec(module.partition(".")[0]) is not None
    except (ImportError, ValueError):  # ValueError: the loaded module has no spec
        return False


def _split(target: str) -> tuple[str, str]:
    path, colon, attribute = target.rpartition(":")
    if not colon or os.sep in attribute:
        return target, ""
    return path.strip(), attribute.strip()


def _name_of(target: str) -> str:
    """Return the name of a model: that of the file, or the last part of the module name."""
    path, _ = _split(target)
    if path.endswith(".py"):
        if not os.path.isfile(path):
            raise ConfigurationError(f"there is no file {path}")
        return os.path.basename(path)[: -len(".py")]
    if os.sep in path or not all(part.isidentifier() for part in path.split(".")):
        raise ConfigurationError(
            f"{target!r} is not a model: expected the name of an installed model, "
            "module:attribute or path/to/file.py[:attribute]"
        )
    return path.rpartition(".")[2]


def _load_file(path: str) -> ModuleType:
    path = os.path.abspath(path)
    name = os.path.basename(path)[: -len(".py")]
    sys.path.insert(0, os.path.dirname(path))  # so that the file can import its neighbours
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        raise
    return module
