"""`deepaas init`: the new packages are complete, their tests pass, and nothing is overwritten."""

from __future__ import annotations

import ast
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import yaml
from click.testing import CliRunner, Result

from deepaas.catalog.reading import read
from deepaas.commands.init import command
from tests.support import Server

ROOT = Path(__file__).resolve().parent.parent.parent
SECONDS = 300.0
"""Only stops a test that hangs."""

FILES = {
    ".dockerignore",
    ".github/workflows/test.yml",
    ".gitignore",
    ".gitlab-ci.yml",
    "Dockerfile",
    "README.md",
    "ai4-metadata.yml",
    "my_model/__init__.py",
    "my_model/api.py",
    "my_model/model.json",
    "pyproject.toml",
    "tests/conftest.py",
    "tests/test_api.py",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the working directory."""
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    return tmp_path / "folder"


def init(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))


def made(*arguments: str) -> Result:
    result = init(*arguments)
    assert result.exit_code == 0, result.output
    return result


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def python(*arguments: str, cwd: Path, path: Path | None = None) -> str:
    """Run Python with the given directory of packages, and return its output."""
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PIP_NO_INDEX": "1"}
    env["PYTHONPATH"] = str(path or "")
    ran = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def install(folder: Path, target: Path) -> Path:
    """Install the package into a directory, as pip does without an index."""
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--target", str(target)]
    python("-m", "pip", "install", *options, ".", cwd=folder)
    return target


# --- the model of a new package ----------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--train", "--batch"]),
        pytest.param([], marks=pytest.mark.long),
        pytest.param(["--train"], marks=pytest.mark.long),
        pytest.param(["--batch"], marks=pytest.mark.long),
    ],
    ids=" ".join,
)
def test_tests_of_the_new_package_pass(folder: Path, tmp_path: Path, options: list[str]) -> None:
    made("my-model", *options)
    site = install(folder / "my-model", tmp_path / "site")
    output = python("-m", "pytest", "-q", cwd=folder / "my-model", path=site)
    count = 4 + ("--batch" in options) + ("--train" in options)
    assert f"{count} passed" in output


@pytest.mark.parametrize(
    "options",
    [["--train", "--batch"], pytest.param([], marks=pytest.mark.long)],
    ids=" ".join,
)
def test_code_of_the_new_package_is_typed_and_formatted(folder: Path, options: list[str]) -> None:
    made("my-model", *options)
    python("-m", "ruff", "check", "--isolated", ".", cwd=folder / "my-model")
    python("-m", "ruff", "format", "--isolated", "--check", ".", cwd=folder / "my-model")
    strict = ["--strict", "--cache-dir", str(ROOT / ".mypy_cache"), "my_model", "tests"]
    python("-m", "mypy", *strict, cwd=folder / "my-model", path=ROOT)


def test_new_package_is_complete(folder: Path) -> None:
    made("my-model")
    assert set(contents(folder / "my-model")) == FILES
    made("other", "--train")
    files = {name.replace("other/", "my_model/") for name in contents(folder / "other")}
    assert files == FILES | {"my_model/samples/points.csv"}


def test_workflows_are_yaml_and_run_the_tests(folder: Path) -> None:
    made("my-model")
    github = yaml.safe_load((folder / "my-model/.github/workflows/test.yml").read_text())
    steps = [step["run"] for step in github["jobs"]["test"]["steps"] if "run" in step]
    gitlab = yaml.safe_load((folder / "my-model/.gitlab-ci.yml").read_text())
    assert steps == gitlab["test"]["script"]
    assert steps[0] == "python -m pip install '.[test]'"
    assert steps[-1] == "python -m pytest"


def test_metadata_has_the_words_of_the_catalogue(folder: Path) -> None:
    made(
        "my-model", "--train", "--repository", "https://a.example/b", "--description", 'A: "b" # c.'
    )
    metadata = yaml.safe_load((folder / "my-model/ai4-metadata.yml").read_text())
    assert metadata["metadata_version"] == "2.3.0"
    assert metadata["title"] == "my model"
    assert metadata["summary"] == 'A: "b" # c'
    assert metadata["description"] == 'A: "b" # c.'
    assert metadata["links"] == {"source_code": "https://a.example/b"}
    assert metadata["categories"] == ["AI4 pre trained", "AI4 trainable", "AI4 inference"]
    assert metadata["libraries"] == ["Other"]
    checked = read("ai4-metadata.yml", (folder / "my-model/ai4-metadata.yml").read_bytes())
    assert checked is not None
    assert checked.problems == ()
    assert metadata["tasks"] == ["Regression"]
    assert metadata["data-type"] == ["Tabular"]
    assert set(metadata["dates"]) == {"created", "updated"}


def test_same_options_make_the_same_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    found = []
    for place in ("first", "second"):
        (folder / place).mkdir()
        monkeypatch.chdir(folder / place)
        made("my-model", "--train")
        found.append(contents(folder / place))
    assert found[0] == found[1]
    assert b"created: '1970-01-02'" in found[0]["my-model/ai4-metadata.yml"]


def test_output_ends_with_the_next_commands(folder: Path) -> None:
    lines = made("my-model").output.splitlines()
    assert lines[0] == "The folder my-model has a package with 13 files."
    assert lines[-3:] == [
        "  cd my-model && python -m pip install -e '.[test]' && python -m pytest",
        "  deepaas check my_model",
        "  deepaas run --model-name my_model",
    ]


# --- names and errors --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a/b", "it is a path"),
        ("my model", "write letters, digits"),
        ("-x", "No such option"),
        ("model-", "write letters, digits"),
        ("modèle", "write letters, digits"),
        ("m" * 65, "longer than 64"),
        ("3d-model", "begins with a letter"),
        ("class", "keyword of Python"),
        ("JSON", "standard library"),
        ("tests", "another folder"),
        ("numpy", "already installed"),
        ("scikit-learn", "already installed"),
        ("deepaas", "already installed"),
    ],
)
def test_name_that_cannot_be_used_is_refused(folder: Path, name: str, reason: str) -> None:
    result = init(name)
    assert result.exit_code == (2 if name == "-x" else 1)
    assert reason in result.output
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: path.mkdir(), id="folder"),
        pytest.param(lambda path: path.write_text("mine"), id="file"),
        pytest.param(lambda path: path.symlink_to("nowhere"), id="broken link"),
    ],
)
def test_nothing_is_overwritten(folder: Path, make: Callable[[Path], object]) -> None:
    make(folder / "my-model")
    result = init("my-model")
    assert result.exit_code == 1
    assert "my-model exists already" in result.output
    assert [path.name for path in folder.iterdir()] == ["my-model"]
    assert contents(folder) in ({}, {"my-model": b"mine"})


def test_failure_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "script.py").write_text('FILE = "a.pkl"\n')
    (folder / "a.pkl").write_bytes(b"")

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", fails)
    result = init("my-model", "--from", "script.py")
    assert result.exit_code == 1
    assert "No space left on device" in result.output
    assert sorted(path.name for path in folder.iterdir()) == ["a.pkl", "script.py"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--from", "x.py", "--train"], "--from cannot be combined"),
        (["--repository", "github.com/me"], "an address such as"),
        (["--repository", 'https://a.example/"b"\n'], "an address such as"),
        (["--description", "two\nlines"], "one line of text"),
        (["--description", " "], "one line of text"),
    ],
)
def test_bad_option_is_a_usage_error(folder: Path, options: list[str], reason: str) -> None:
    result = init("my-model", *options)
    assert result.exit_code == 2
    assert reason in result.output
    assert list(folder.iterdir()) == []


# --- a script ----------------------------------------------------------------------------------

SCRIPT = '''
"""Scales numbers."""

from __future__ import annotations

import pickle
from pathlib import Path

FACTOR = pickle.loads(Path("factor.pkl").read_bytes())


def scale(path: Path, times: int = 1, note=None) -> list[float]:
    """Return the numbers of a file, scaled.

    Args:
        path: A text with one number in each line.
    """
    return [float(line) * FACTOR * times for line in path.read_text().splitlines()]


def main() -> None:
    print(scale(Path("numbers.txt")))
'''


def test_function_of_a_script_is_served_with_its_file(folder: Path, tmp_path: Path) -> None:
    (folder / "scale.py").write_text(SCRIPT)
    (folder / "factor.pkl").write_bytes(pickle.dumps(10.0))
    output = made("scaling", "--from", "scale.py").output
    assert "- api.py, path: clients send a file" in output
    assert "- api.py, note: the type of this argument is not known" in output
    assert (folder / "scale.py").read_text() == SCRIPT
    package = folder / "scaling"
    python("-m", "ruff", "check", "--isolated", ".", cwd=package)
    python("-m", "ruff", "format", "--isolated", "--check", "scaling/api.py", "tests", cwd=package)
    site = install(package, tmp_path / "site")
    with Server(args=["--model-name", "scaling"], env={"PYTHONPATH": str(site)}) as server:
        answer = server.predict("scaling", data={"times": 2}, files={"path": b"1\n2.5\n"})
        assert answer.json() == {"status": "OK", "predictions": [20.0, 50.0]}
        refused: httpx.Response = server.predict("scaling")
        assert refused.status_code == 422
        assert list(refused.json()) == ["path"]
        assert server.get("/v2/models/scaling/").json()["weights_version"] is not None


SAVES = """
import joblib
from sklearn.datasets import load_iris
from sklearn.tree import DecisionTreeClassifier

data = load_iris()
joblib.dump(DecisionTreeClassifier(random_state=0).fit(data.data, data.target), "iris.joblib")
"""


@pytest.mark.long
@pytest.mark.parametrize("source", ["saved", "function"])
def test_tests_of_a_wrapped_script_pass(folder: Path, tmp_path: Path, source: str) -> None:
    (folder / "script.py").write_text(SAVES if source == "saved" else "def f(text): return text")
    if source == "saved":
        python("script.py", cwd=folder)
    made("my-model", "--from", "script.py")
    site = install(folder / "my-model", tmp_path / "site")
    assert "2 passed" in python("-m", "pytest", "-q", cwd=folder / "my-model", path=site)


@pytest.mark.long
def test_saved_model_is_served(folder: Path, tmp_path: Path) -> None:
    (folder / "train.py").write_text(SAVES)
    early = init("iris", "--from", "train.py")
    assert early.exit_code == 1
    assert "run the script first" in early.output
    python("train.py", cwd=folder)
    assert "takes rows of numbers" in made("iris", "--from", "train.py").output
    site = install(folder / "iris", tmp_path / "site")
    with Server(args=["--model-name", "iris"], env={"PYTHONPATH": str(site)}) as server:
        answer = server.predict("iris", json={"values": [[5.1, 3.5, 1.4, 0.2], [7, 3, 6, 2]]})
        assert answer.json() == {"status": "OK", "predictions": [0, 2]}
    metadata = yaml.safe_load((folder / "iris/ai4-metadata.yml").read_text())
    assert metadata["libraries"] == ["Scikit-learn"]


def wrapped(folder: Path, script: str, *options: str) -> tuple[str, str]:
    """Return api.py and the output for a script."""
    (folder / "script.py").write_text(script)
    output = made("wrapped", "--from", "script.py", *options).output
    return (folder / "wrapped/wrapped/api.py").read_text(), output


@pytest.mark.parametrize(
    ("function", "declared", "call"),
    [
        (
            "def f(a: int, /, b: float = 1.5): ...",
            "a: int, b: float = 1.5",
            "return script_function(a, b=b)",
        ),
        (
            "def f(a: int = 1, /, *, b: int): ...",
            "b: int, a: int = 1",
            "return script_function(a, b=b)",
        ),
        (
            "def f(a=X, b: int = 1, /, c: int = 2): ...",
            "c: int = 2",
            "return script_function(c=c)",
        ),
        (
            "def f(*, size=3, loud=False): ...",
            "size: int = 3, loud: bool = False",
            "size=size, loud=loud",
        ),
        ("def f(image): ...", "image: UploadedFile", "image=str(image.filename)"),
        (
            "def f(path='a.txt'): ...",
            "path: UploadedFile | None = None",
            "path=str(path.filename) if path else 'a.txt'",
        ),
        ("def f(word): ...", "word: str", "word=word"),
        ("def f(a, b=X, *rest, **more): ...", "a: str", "return script_function(a=a)"),
        ("async def f(a: str): ...", "a: str", "return await script_function(a=a)"),
        ("def f(a: str):\n    yield a", "a: str", "yield from script_function(a=a)"),
        ("async def f(a: str):\n    yield a", "a: str", "async for item in script_function(a=a):"),
        ("def f(a: 'list[int] | None' = None): ...", "a: list[int] | None = None", "a=a"),
        ("class A: ...\ndef f(a: A): ...", "a: A", "a=a"),
        ("def f(a: Missing): ...", "a: str", "a=a"),
    ],
)
def test_arguments_of_the_function(folder: Path, function: str, declared: str, call: str) -> None:
    api, _ = wrapped(folder, f"X = object()\n{function}\n")
    assert call in api
    arguments = api.partition("def predict(")[2].partition(") ->")[0]
    assert ", ".join(filter(None, map(str.strip, arguments.split(",\n")))) == declared
    compile(api, "api.py", "exec")


def test_imports_of_annotations_are_copied(folder: Path) -> None:
    script = "import numpy as np\nfrom typing import Literal\nclass Kind: ...\n"
    api, _ = wrapped(
        folder, f"{script}def f(a: np.ndarray, b: Literal['x'], c: Kind) -> Kind: ...\n"
    )
    assert "\nimport numpy as np\n\nfrom .script import Kind\n" in api
    assert "\nfrom typing import Any\nfrom typing import Literal\n" in api
    assert ") -> Kind:" in api


@pytest.mark.parametrize(
    "text", ['Say "what"', 'A \\path.\n\nAnd """quotes""" in it.\n\n  Indented.']
)
def test_docstring_is_kept_whatever_it_has(folder: Path, text: str) -> None:
    api, _ = wrapped(folder, f"def f(a: int):\n    {text!r}\n")
    functions = [node for node in ast.parse(api).body if isinstance(node, ast.FunctionDef)]
    assert ast.get_docstring(functions[-1]) == text


def test_data_files_beside_the_script_are_copied(folder: Path) -> None:
    (folder / "conf").mkdir()
    for name in ("labels.json", "conf/names.csv", "other.py"):
        (folder / name).write_text("[]")
    code = """import json, pathlib
HERE = pathlib.Path(__file__).parent
NAMES = (HERE / "conf/names.csv").read_text()
def f(word: str) -> str:
    return json.load(open("labels.json")) or "absent.json other.py ." + NAMES
"""
    wrapped(folder, code)
    package = folder / "wrapped/wrapped"
    assert (package / "labels.json").read_text() == (package / "conf/names.csv").read_text()
    copied = (package / "script.py").read_text()
    assert "open(str(pathlib.Path(__file__).parent / 'labels.json'))" in copied
    assert "HERE / str(pathlib.Path(__file__).parent / 'conf/names.csv')" in copied
    assert '"absent.json other.py ."' in copied
    assert "conf/names.csv" in (folder / "wrapped/pyproject.toml").read_text()


def test_output_says_what_is_left_to_do(folder: Path) -> None:
    _, output = wrapped(folder, 'print("x")\ndef f(word):\n    return open("/m/a.onnx")\n')
    assert "- script.py:1 runs whenever the model is loaded" in output
    assert "- script.py:3 names the file '/m/a.onnx', which is not beside the script" in output
    assert "- api.py, word: the script does not say its type; str is a guess" in output


def test_only_expressions_become_paths_in_the_package(folder: Path) -> None:
    (folder / "m.onnx").touch()
    script = """\
from typing import Literal
def f(word: str, kind: Literal["m.onnx"] = "m.onnx") -> str:
    "m.onnx"
    match word:
        case "m.onnx":
            return f"{word}m.onnx"
        case {"m.onnx": 1}:
            return f"{open('m.onnx')}"
    return"m.onnx"
"""
    output = wrapped(folder, script)[1]
    path = "str(pathlib.Path(__file__).parent / 'm.onnx')"
    expected = script.replace('return"m.onnx"', f"return {path}").replace('= "m.onnx"', f"= {path}")
    copy = (folder / "wrapped/wrapped/script.py").read_text()
    assert copy == f"import pathlib\n{expected}"
    for line in (5, 6, 7, 8):
        assert f"- script.py:{line} names the file 'm.onnx', but as a part of" in output


def test_script_that_cannot_find_its_files_is_refused(folder: Path) -> None:
    (folder / "m.onnx").touch()
    line = '"doc"; from __future__ import annotations; file = "m.onnx"'
    (folder / "script.py").write_text(f"{line}\ndef f(): ...\n")
    result = init("my-model", "--from", "script.py")
    assert result.exit_code == 1
    assert "write each statement on a line of its own" in result.output


def test_any_name_of_a_script_and_its_file_can_be_wrapped(folder: Path) -> None:
    (folder / 'q""".pkl').touch()
    (folder / 'q""".py').write_text("""open('q\"\"\".pkl', "wb")""")
    made("wrapped", "--from", 'q""".py')
    ast.parse((folder / "wrapped/wrapped/api.py").read_text())


def test_one_of_several_functions_is_chosen(folder: Path) -> None:
    script = "def load(): ...\ndef classify(a: int): ...\ndef _private(): ...\n"
    assert "calls `classify`" in wrapped(folder, script)[0]
    made("other", "--from", "script.py:load")
    assert "calls `load`" in (folder / "other/other/api.py").read_text()


def test_libraries_of_the_script_are_dependencies(folder: Path) -> None:
    wrapped(folder, "import torch, cv2, os\nfrom sklearn.svm import SVC\ndef f(): ...\n")
    project = (folder / "wrapped/pyproject.toml").read_text()
    assert '    "opencv-python-headless",\n    "scikit-learn",\n    "torch",\n' in project
    metadata = yaml.safe_load((folder / "wrapped/ai4-metadata.yml").read_text())
    assert metadata["libraries"] == ["PyTorch", "Scikit-learn"]
    assert metadata["categories"] == ["AI4 inference"]


def test_script_with_a_predict_of_its_own_is_wrapped_once(folder: Path) -> None:
    script = "from deepaas.model.v2.wrapper import UploadedFile\ndef f(path): ...\n"
    api, output = wrapped(folder, script + "def predict(image: UploadedFile) -> str: ...\n")
    assert "image: UploadedFile,\n) -> str:" in api
    assert "return script_function(image=image)" in api
    assert "To do" not in output
    assert (folder / "wrapped/pyproject.toml").read_text().count('\n    "deepaas') == 1


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("def f(:", "script.py:1: invalid syntax"),
        ("x = '\0'", "script.py:1: source code string cannot contain null bytes"),
        ("x = 1", "put the code that predicts into a function"),
        ("def main(): ...", "put the code that predicts into a function"),
        ("open('model.onnx')", "run the script first"),
        ("def a(): ...\ndef b(): ...", "name the one that predicts: --from script.py:a"),
        ("import helper\ndef f(): ...", "script.py:1 imports a file beside it"),
        ("from . import helper\ndef f(): ...", "script.py:1 imports a file beside it"),
    ],
)
def test_script_that_cannot_be_wrapped(folder: Path, script: str, reason: str) -> None:
    (folder / "script.py").write_text(script)
    (folder / "helper.py").write_text("")
    result = init("my-model", "--from", "script.py")
    assert result.exit_code == 1
    assert reason in result.output
    assert not (folder / "my-model").exists()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("missing.py", "missing.py cannot be read"),
        ("notebook.ipynb", "--from takes FILE.py"),
        ("script.py:g", "script.py has no function g; it has f"),
        ("script.py:", "--from takes FILE.py"),
    ],
)
def test_source_that_does_not_exist(folder: Path, source: str, reason: str) -> None:
    (folder / "script.py").write_text("def f(): ...\n")
    result = init("my-model", "--from", source)
    assert result.exit_code == 1
    assert reason in result.output


def test_script_is_not_run(folder: Path) -> None:
    wrapped(folder, "from pathlib import Path\nPath('ran').touch()\ndef f(): ...\n")
    assert not (folder / "ran").exists()


def test_help_of_the_command_imports_neither_jinja_nor_the_templates() -> None:
    code = "import sys, deepaas.commands.init; assert 'jinja2' not in sys.modules"
    python("-c", code, cwd=ROOT, path=ROOT)
