"""Finding and loading models."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from deepaas.exceptions import ConfigurationError, ModelMistakeError, NoModelError
from deepaas.model import loading
from deepaas.model.loading import ModelSource, find, load
from tests.support import environment

GROUP = "deepaas.test.model"
SOURCE = """
calls = []

def predict():
    return "module"

class Model:
    def predict(self):
        return "class"

    class Inner:
        pass

instance = Model()
"""


@pytest.fixture(autouse=True)
def _imports_are_undone() -> Iterator[None]:
    path, modules = sys.path.copy(), sys.modules.copy()
    yield
    sys.path[:] = path
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]
    sys.modules.update(modules)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory on `sys.path` with a package `demo_package.api` and a file `demo.py`."""
    package = tmp_path / "demo_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "api.py").write_text(SOURCE)
    (tmp_path / "demo.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def in_environment(home: Path, groups: Mapping[str, Mapping[str, str]], call: str) -> Any:
    """Return the result of a call of `loading` in an environment with these packages.

    Each package has these entry points. An error is returned as the name of its class and its text.
    The entry points are in a separate group, because models may be installed beside the tests.
    """
    for package, models in groups.items():
        info = home / "site" / f"{package}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        points = "".join(f"{name} = {target}\n" for name, target in models.items())
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{points}")
    program = f"""
import json, sys
from dataclasses import astuple
from deepaas.model import loading
from deepaas.model.loading import find
loading.NAMESPACE = {GROUP!r}
try:
    result = sorted(map(astuple, {call}))
except Exception as error:
    result = [type(error).__name__, str(error)]
assert not any(name.startswith("absent") for name in sys.modules)
print(json.dumps(result))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(home, home / "site", extra={}),
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


# --- installed models ------------------------------------------------------------------------


def test_entry_points_are_found_and_not_imported(tmp_path: Path) -> None:
    packages = {
        "first": {"a": "absent.api", "b": "absent.api:model"},
        "second": {"c": "absent.other:Model [extra]"},
    }
    assert in_environment(tmp_path, packages, "find([])") == [
        ["a", "absent.api", ""],
        ["b", "absent.api:model", ""],
        ["c", "absent.other:Model", ""],
    ]


def test_group_of_the_entry_points() -> None:
    assert loading.NAMESPACE == "deepaas.v2.model"


def test_one_of_the_installed_models_is_picked(tmp_path: Path) -> None:
    packages = {"first": {"a": "absent.api", "b": "absent.other"}}
    assert in_environment(tmp_path, packages, "find([], 'b')") == [["b", "absent.other", ""]]


def test_same_entry_point_twice_is_one_model(tmp_path: Path) -> None:
    packages = {"first": {"a": "absent.api"}, "second": {"a": "absent.api"}}
    assert in_environment(tmp_path, packages, "find([])") == [["a", "absent.api", ""]]


def test_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    packages = {"first": {"a": "absent.one"}, "second": {"a": "absent.two"}}
    kind, text = in_environment(tmp_path, packages, "find([])")
    assert kind == "ConfigurationError"
    assert text in {
        f"two installed packages have a model named 'a': {one} and {other}; uninstall one of them"
        for one, other in (("absent.one", "absent.two"), ("absent.two", "absent.one"))
    }


def test_nothing_installed_says_what_to_do(tmp_path: Path) -> None:
    assert in_environment(tmp_path, {}, "find([])") == [
        "NoModelError",
        "no model to serve: install a package with an entry point in deepaas.test.model, "
        "or name one: deepaas-run path/to/file.py or deepaas-run module:attribute",
    ]


def test_unknown_name_with_nothing_installed(tmp_path: Path) -> None:
    assert in_environment(tmp_path, {}, "find([], 'a')") == [
        "UnknownModelError",
        "no model is called 'a'; no package installed here has an entry point in deepaas.v2.model",
    ]


INSTALLED = [ModelSource("dogs_breed", "x"), ModelSource("cats_breed", "y")]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("dog_breed", "did you mean dogs_breed or cats_breed?"),
        ("DOGS", "installed: cats_breed, dogs_breed"),
    ],
)
def test_unknown_name_gets_a_hint(monkeypatch: pytest.MonkeyPatch, name: str, hint: str) -> None:
    monkeypatch.setattr(loading, "installed", lambda: INSTALLED)
    with pytest.raises(ConfigurationError) as error:
        find([], name)
    assert str(error.value) == f"no model is called {name!r}; {hint}"


def test_no_model_is_an_error_of_configuration() -> None:
    assert issubclass(NoModelError, ConfigurationError)


# --- models that are named -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("demo_package.api", "api"),
        ("demo_package.api:Model", "api"),
        ("demo_package", "demo_package"),
        ("demo.py", "demo"),
        ("./demo.py", "demo"),
        ("demo.py:instance", "demo"),
        ("{folder}/demo.py", "demo"),
        ("{folder}/demo.py:Model", "demo"),
    ],
)
def test_target_has_a_name(folder: Path, target: str, name: str) -> None:
    target = target.format(folder=folder)
    assert find([target]) == [ModelSource(name, target, str(folder))]


def test_target_can_be_given_a_name(folder: Path) -> None:
    assert find(["demo.py"], "other") == [ModelSource("other", "demo.py", str(folder))]


def test_several_targets(folder: Path) -> None:
    assert find(["demo.py", "demo_package.api"]) == [
        ModelSource("demo", "demo.py", str(folder)),
        ModelSource("api", "demo_package.api", str(folder)),
    ]


def test_several_targets_take_no_name() -> None:
    with pytest.raises(ConfigurationError) as error:
        find(["a", "b"], "name")
    assert str(error.value) == "--model-name cannot be used with several models"


def test_targets_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigurationError) as error:
        find(["one.api", "two.api"])
    assert str(error.value) == "several models would have the same name: api, api"


@pytest.mark.parametrize(
    "name",
    [
        "",
        pytest.param(
            "given",
        ),
    ],
)
@pytest.mark.parametrize("target", ["missing.py", "missing.py:model"])
def test_missing_file_is_told(folder: Path, target: str, name: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        find([target], name)
    assert str(error.value) == "there is no file missing.py"


@pytest.mark.parametrize("target", ["", "a b", "a/b", "./demo", "demo-package", "a..b", ":a", "1"])
def test_what_is_no_target_is_told(folder: Path, target: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        find([target])
    assert str(error.value) == (
        f"{target!r} is not a model: expected the name of an installed model, module:attribute or "
        "path/to/file.py[:attribute]"
    )


def test_target_may_be_the_name_of_an_installed_model(monkeypatch: pytest.MonkeyPatch) -> None:
    own = ModelSource("my-model", "my_package.api")
    monkeypatch.setattr(loading, "installed", lambda: [own])
    assert find(["my-model"]) == [own]
    assert find(["my-model"], "other") == [ModelSource("other", "my_package.api")]
    assert find(["json"])[0].target == "json"


# --- loading ---------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["demo_package.api", "demo.py", "./demo.py", "{folder}/demo.py"])
def test_module_is_loaded(folder: Path, target: str) -> None:
    module = load(target.format(folder=folder))
    assert isinstance(module, ModuleType)
    assert module.predict() == "module"


@pytest.mark.parametrize("target", ["demo_package.api", "demo.py", "{folder}/demo.py"])
def test_attribute_is_loaded(folder: Path, target: str) -> None:
    target = target.format(folder=folder)
    assert type(load(f"{target}:instance")).__name__ == "Model"


@pytest.mark.parametrize("target", ["demo_package.api:Model", "demo.py:Model", "demo.py : Model"])
def test_class_is_instantiated(folder: Path, target: str) -> None:
    model: Any = load(target)
    assert model.predict() == "class"


def test_attribute_of_an_attribute_is_loaded(folder: Path) -> None:
    assert type(load("demo_package.api:Model.Inner")).__name__ == "Inner"


def test_file_finds_its_neighbours(folder: Path) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "helpful_neighbour.py").write_text("value = 3")
    (elsewhere / "main.py").write_text("from helpful_neighbour import value")
    model: Any = load("elsewhere/main.py")
    assert model.value == 3


def test_file_can_be_imported_by_its_name(folder: Path) -> None:
    (folder / "selfish.py").write_text("import selfish\nme = selfish\n")
    module: Any = load("selfish.py")
    assert module.me is module
    assert sys.modules["selfish"] is module


def test_folders_may_have_colons_in_their_names(folder: Path) -> None:
    (folder / "a:b").mkdir()
    (folder / "a:b" / "main.py").write_text(SOURCE)
    model: Any = load(f"{folder}/a:b/main.py")
    assert model.predict() == "module"


def test_file_that_fails_is_not_left_behind(folder: Path) -> None:
    (folder / "faulty.py").write_text("1 / 0")
    with pytest.raises(ZeroDivisionError):
        load("faulty.py")
    assert "faulty" not in sys.modules


def test_file_that_fails_leaves_a_module_of_its_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "taken.py").write_text("1 / 0")
    earlier = ModuleType("taken")
    monkeypatch.setitem(sys.modules, "taken", earlier)
    with pytest.raises(ZeroDivisionError):
        load("taken.py")
    assert sys.modules["taken"] is earlier


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("absent_package.api", ModuleNotFoundError),
        ("demo_package.absent", ModuleNotFoundError),
        ("demo_package.api:absent", ModelMistakeError),
        ("demo.py:Model.absent", ModelMistakeError),
        ("absent.py", FileNotFoundError),
    ],
)
def test_what_is_not_there_is_told(folder: Path, target: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="absent"):
        load(target)


def test_what_a_class_raises_comes_out(folder: Path) -> None:
    (folder / "faulty.py").write_text("class Model:\n    def __init__(self): 1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        load("faulty.py:Model")


# --- where a model comes from ----------------------------------------------------------------


def test_origin_of_an_installed_module_is_its_target() -> None:
    assert ModelSource("m", "json.decoder", "/anywhere").origin == "json.decoder"
    assert ModelSource("m", "json.decoder : JSONDecoder").origin == "json.decoder:JSONDecoder"


def test_origin_of_a_file_is_its_full_path(tmp_path: Path) -> None:
    path = str(tmp_path / "demo.py")
    for target in ("demo.py", "./demo.py", "../" + tmp_path.name + "/demo.py", path):
        assert ModelSource("m", target, str(tmp_path)).origin == path
    assert ModelSource("m", "demo.py:Model", str(tmp_path)).origin == f"{path}:Model"


def test_origin_of_a_module_that_is_not_installed_has_its_folder(tmp_path: Path) -> None:
    assert ModelSource("m", "absent_demo.api:f", str(tmp_path)).origin == (
        f"{tmp_path}/absent_demo.api:f"
    )


def test_origin_is_found_without_an_import(folder: Path) -> None:
    assert ModelSource("m", "demo_package.api", "/anywhere").origin == "demo_package.api"
    assert "demo_package" not in sys.modules
