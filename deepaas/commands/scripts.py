"""Reads a script without running it: which function to serve, with which arguments and files."""

from __future__ import annotations

import ast
import keyword
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from deepaas.commands.script_arguments import Argument, Names, arguments_of

Function = ast.FunctionDef | ast.AsyncFunctionDef

NAMES = ("predict", "inference", "infer", "classify", "detect", "segment", "transcribe")
"""If a script has several functions, the one with such a name is served."""

DISTRIBUTIONS = {
    "PIL": "pillow",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}
"""The distributions whose name is not that of their module."""

LIBRARIES = {
    "catboost": "CatBoost",
    "keras": "Keras",
    "lightgbm": "LightGBM",
    "sklearn": "Scikit-learn",
    "tensorflow": "TensorFlow",
    "torch": "PyTorch",
    "xgboost": "XGBoost",
}
"""The names that the AI4 catalogue has for libraries."""

MODEL_FILE = re.compile(r".+\.(joblib|pkl|pickle|onnx|pt|pth|h5|keras|npz|npy|safetensors|ckpt)")


@dataclass(frozen=True)
class Loader:
    """How to load a model from a file, and how to call it."""

    requirements: tuple[str, ...]
    imports: tuple[str, ...]
    load: str
    call: str


LOADERS = {
    "joblib": Loader(
        ("joblib", "scikit-learn"),
        ("import joblib",),
        "joblib.load(FILE)",
        "model().predict(values)",
    ),
    "pkl": Loader(
        ("scikit-learn",),
        ("import pickle",),
        "pickle.loads(FILE.read_bytes())",
        "model().predict(values)",
    ),
    "keras": Loader(
        ("keras", "numpy"),
        ("import keras", "import numpy as np"),
        "keras.models.load_model(FILE)",
        "model().predict(np.asarray(values))",
    ),
    "onnx": Loader(
        ("numpy", "onnxruntime"),
        ("import numpy as np", "import onnxruntime"),
        "onnxruntime.InferenceSession(FILE)",
        "model().run(None, {model().get_inputs()[0].name: np.asarray(values, np.float32)})[0]",
    ),
}
"""The files of models that can be loaded without the code that made them."""


class ScriptError(Exception):
    """The script cannot be wrapped; the message says what to change."""


@dataclass
class Script:
    """What was read from a script."""

    path: Path
    text: str
    """The text of the copy in the package."""
    function: str = ""
    """The function that predict calls; "" if the script only makes a file with a model."""
    is_async: bool = False
    is_generator: bool = False
    docstring: str = ""
    returns: str = "Any"
    arguments: list[Argument] = field(default_factory=list)
    imports: list[str] = field(default_factory=list)
    requirements: list[str] = field(default_factory=list)
    libraries: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    """The files that the package needs, relative to the folder of the script."""
    loader: Loader | None = None
    notes: list[str] = field(default_factory=list)
    """What the author still has to do."""

    @property
    def module(self) -> str:
        """The name of the copy as a module of the package."""
        name = re.sub(r"\W", "_", self.path.stem)
        usable = name.isidentifier() and not keyword.iskeyword(name)
        return name if usable and name not in ("api", "__init__") else "script"


def read(path: Path, function: str | None) -> Script:
    """Read a script. Without `function`, the function to serve is found by its name.

    Raises ScriptError.
    """
    if not path.is_file():  # a pipe, for example, would be read without end
        raise ScriptError(f"{path} cannot be read: there is no such file")
    try:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ScriptError(f"{path} cannot be read: {error}") from error
    except SyntaxError as error:
        raise ScriptError(f"{path}:{error.lineno or 1}: {error.msg}") from error
    except ValueError as error:  # older releases of Python raise it for a null byte
        raise ScriptError(f"{path}:1: {error}") from error
    script = Script(path, text)
    modules = _modules(script, tree)
    script.requirements = sorted({DISTRIBUTIONS.get(name, name) for name in modules})
    script.libraries = sorted({LIBRARIES[name] for name in modules if name in LIBRARIES})
    found = _function(script, tree, function)
    if found is None:
        _serve_file(script, tree)
    else:
        _serve_function(script, tree, found)
    return script


def _modules(script: Script, tree: ast.Module) -> set[str]:
    """Return the imported modules that are not of Python. Raises ScriptError for local ones."""
    modules = set()
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    for node in nodes:
        names = [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            names = ["." * node.level + (node.module or "")]
        for name in (name.partition(".")[0] for name in names):
            if not name or _is_module(script.path.parent / name):
                raise ScriptError(
                    f"{script.path}:{node.lineno} imports a file beside it, and only a single file "
                    "can be wrapped; run deepaas init without --from, copy the files to the new "
                    "package, and call your function in predict of its api.py"
                )
            modules.add(name)
    return modules - sys.stdlib_module_names - {"deepaas"}


def _is_module(path: Path) -> bool:
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def _function(script: Script, tree: ast.Module, name: str | None) -> Function | None:
    functions = {
        node.name: node
        for node in tree.body
        if isinstance(node, Function) and not node.name.startswith("_") and node.name != "main"
    }
    choices = ", ".join(functions)
    if name is not None:
        if name not in functions:
            has = f"it has {choices}" if choices else "it has no function that can be served"
            raise ScriptError(f"{script.path} has no function {name}; {has}")
        return functions[name]
    if len(functions) <= 1:
        return next(iter(functions.values()), None)
    for known in NAMES:
        if known in functions:
            return functions[known]
    raise ScriptError(
        f"{script.path} has several functions ({choices}); name the one that predicts: "
        f"--from {script.path}:{next(iter(functions))}"
    )


# --- a function that predicts -----------------------------------------------------------------


def _serve_function(script: Script, tree: ast.Module, function: Function) -> None:
    own = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    names = Names(_imports(tree), own)
    script.function = function.name
    script.is_async = isinstance(function, ast.AsyncFunctionDef)
    script.is_generator = any(
        isinstance(node, ast.Yield | ast.YieldFrom) for node in _own_nodes(function)
    )
    script.docstring = ast.get_docstring(function) or ""
    script.arguments, notes = arguments_of(function, names)
    script.notes += notes
    if function.returns is not None and not script.is_generator:
        script.returns = names.text_of(function.returns) or "Any"
    script.imports = names.lines(script.module)
    script.notes += _notes_on_top_level_code(script, tree)
    _take_files(script, tree)


def _imports(tree: ast.Module) -> dict[str, str]:
    """Return the import line of each name that the script imports at its top level."""
    lines = {}
    for node in tree.body:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for alias in node.names:
            renamed = f" as {alias.asname}" if alias.asname else ""
            line = f"import {alias.name}{renamed}"
            if isinstance(node, ast.ImportFrom):
                line = f"from {node.module} {line}"
            lines[alias.asname or alias.name.partition(".")[0]] = line
    return lines


def _own_nodes(function: Function) -> Iterator[ast.AST]:
    """Yield the nodes of a function without those of the functions inside of it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, Function | ast.Lambda | ast.ClassDef):
            waiting += ast.iter_child_nodes(node)


def _notes_on_top_level_code(script: Script, tree: ast.Module) -> Iterator[str]:
    quiet = (ast.Import, ast.ImportFrom, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.If, ast.Try)
    for node in tree.body:
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not isinstance(node, (*quiet, *Function.__args__)) and not is_text:
            yield (
                f"{script.module}.py:{node.lineno} runs whenever the model is loaded; if it is not "
                'needed for a prediction, put it below `if __name__ == "__main__":`'
            )
            return


@dataclass(frozen=True)
class NamedFile:
    """A text in a script that is the path of a file, and its place; columns count bytes."""

    path: str
    line: int
    begin: int
    end: int
    is_part: bool
    """Whether it is a part of an f-string or of a pattern, where no expression can stand."""


_WITHOUT_EXPRESSIONS = (ast.JoinedStr, getattr(ast, "TemplateStr", ast.JoinedStr), ast.pattern)


def _named_files(script: Script, tree: ast.Module) -> list[NamedFile]:
    """Return the paths of files with models, and of other files beside the script, in their order.

    Texts of several lines are none, and neither are docstrings and texts in annotations.
    """
    nodes = list(ast.walk(tree))
    parts = {
        inner
        for node in nodes
        if isinstance(node, _WITHOUT_EXPRESSIONS)
        for inner in ast.walk(node)
    }
    unused: set[ast.AST] = {node.value for node in nodes if isinstance(node, ast.Expr)}
    for annotation in filter(None, map(_annotation_of, nodes)):
        unused |= {*ast.walk(annotation)}
    found = [
        NamedFile(
            *(node.value, node.lineno, node.col_offset, node.end_col_offset or 0),
            is_part=node in parts,
        )
        for node in nodes
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and (MODEL_FILE.fullmatch(node.value) or _is_data_file(script, node.value))
        and node.lineno == node.end_lineno
        and node not in unused
    ]
    return sorted(found, key=lambda file: (file.line, file.begin))


def _annotation_of(node: ast.AST) -> ast.AST | None:
    if isinstance(node, Function):
        return node.returns
    return node.annotation if isinstance(node, ast.arg | ast.AnnAssign) else None


def _take_files(script: Script, tree: ast.Module) -> None:
    """Let the copy find its files in the package: an installed package has no working directory.

    Raises ScriptError.
    """
    lines = script.text.encode().splitlines(keepends=True)
    for file in reversed(_named_files(script, tree)):
        if file.is_part or not _is_beside(script, file.path):
            why = "which is not beside the script"
            if file.is_part:
                why = "but as a part of a text or a pattern"
            script.notes.append(
                f"{script.module}.py:{file.line} names the file {file.path!r}, {why}; copy it to "
                "the package, add it to package-data in pyproject.toml, and "
                f"open Path(__file__).with_name({Path(file.path).name!r})"
            )
            continue
        line = lines[file.line - 1]
        before, after = line[: file.begin], line[file.end :]
        space = b" " if before[-1:].isalnum() else b""  # such as in return"model.onnx"
        new = f"str(pathlib.Path(__file__).parent / {file.path!r})".encode()
        lines[file.line - 1] = before + space + new + after
        script.files = sorted({*script.files, file.path})
    if script.files:
        lines.insert(_first_line_of_code(tree) - 1, b"import pathlib\n")
        script.text = b"".join(lines).decode()
        try:
            compile(script.text, script.path.name, "exec", dont_inherit=True)  # it is not run
        except SyntaxError as error:
            raise ScriptError(
                f"{script.path} cannot be changed so that it finds its files in a package "
                f"({error.msg}); write each statement on a line of its own"
            ) from error


def _is_beside(script: Script, name: str) -> bool:
    """Whether a path names a file in the folder of the script, or in a folder of that."""
    path = Path(name)
    inside = not path.is_absolute() and ".." not in path.parts
    return inside and (script.path.parent / path).is_file()


def _is_data_file(script: Script, name: str) -> bool:
    """Whether a path names a file beside the script, other than code."""
    is_path = "." in name and len(name) < 200 and name.isprintable()
    return is_path and not name.endswith(".py") and _is_beside(script, name)


def _first_line_of_code(tree: ast.Module) -> int:
    """Return the first line after the docstring and the imports from __future__."""
    for node in tree.body:
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
        if not is_text and not is_future:
            decorators: list[ast.expr] = getattr(node, "decorator_list", [])
            return min([node.lineno, *(one.lineno for one in decorators)])
    return 1


# --- a file with a trained model --------------------------------------------------------------


def _serve_file(script: Script, tree: ast.Module) -> None:
    """Serve the file that a script without functions makes. Raises ScriptError."""
    files = [file.path for file in _named_files(script, tree) if not file.is_part]
    loadable = [path for path in files if _kind(path) in LOADERS]
    if not loadable:
        raise ScriptError(
            f"{script.path} has no function that can be served, and names no file of a model that "
            "can be loaded without its code (.joblib, .pkl, .onnx, .keras); put the code that "
            "predicts into a function"
        )
    name = loadable[-1]
    if not _is_beside(script, name):
        raise ScriptError(
            f"{script.path} names the file {name}, which is not beside it; run the script first, "
            "or put the code that predicts into a function"
        )
    script.loader = LOADERS[_kind(name)]
    script.imports = list(script.loader.imports)
    script.requirements = list(script.loader.requirements)
    script.files = [name]
    script.notes = [
        f"api.py assumes that the model in {name} takes rows of numbers; change predict if it does "
        "not, and do there what the script does with the data before and after"
    ]


def _kind(name: str) -> str:
    return Path(name).suffix.lstrip(".").replace("pickle", "pkl")
