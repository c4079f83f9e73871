"""Correct code is not reported as a mistake, and mistakes are reported with the right place.

tests/cmd/test_mistakes.py tests the message of each mistake with a server.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from webargs import fields

from deepaas.exceptions import ModelMistakeError
from deepaas.model.v2.arguments import Arguments
from deepaas.model.v2.calling import calling_of
from deepaas.model.v2.declarations import declared_fields, declared_schema
from deepaas.model.v2.failures import causes_of, traceback_of
from deepaas.model.v2.mistakes import mistakes_of
from deepaas.model.v2.places import place_of_function
from deepaas.model.v2.wrapper import ModelWrapper

HEAD = """\
import functools
from marshmallow import Schema, post_load
from webargs import fields, validate
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModuleType]:
    """Write code to `made.py`, from its line 4, and import the file as a module."""
    monkeypatch.chdir(tmp_path)

    def load(code: str, head: str = HEAD) -> ModuleType:
        path = tmp_path / "made.py"
        path.write_text(head + code)
        spec = importlib.util.spec_from_file_location("made", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "made", module)
        spec.loader.exec_module(module)
        return module

    return load


def told(model: object) -> list[str]:
    """Return the reported mistakes of a model that is served."""
    wrapper = ModelWrapper("made", model)
    notes: list[str] = []
    arguments = Arguments(declared_fields(wrapper, "predict", notes))
    declared_schema(wrapper)
    trains = wrapper.has("train")
    train_arguments = Arguments(declared_fields(wrapper, "train", notes)) if trains else None
    kind = calling_of(wrapper).kind
    return [*notes, *mistakes_of(wrapper, kind, arguments, train_arguments)]


X = "def get_predict_args(): return {'x': fields.Float(required=True)}\n"

NO_MISTAKES = {
    "any arguments": X + "def predict(**kwargs): pass\n",
    "the argument": X + "def predict(x): pass\n",
    "the argument and a default": X + "def predict(x, y=1): pass\n",
    "by name alone": X + "def predict(*, x): pass\n",
    "a default for what may be left out": "def get_predict_args(): return {'x': fields.Float()}\n"
    "def predict(x=None): pass\n",
    "a default in the field": "def get_predict_args(): return {'x': fields.Float(load_default=1)}\n"
    "def predict(x): pass\n",
    "a decorator without wraps": X + "def other(f): return lambda **kw: f(1, **kw)\n"
    "@other\ndef predict(weights, x): pass\n",
    "a decorator that gives an argument": X + "def other(f):\n    @functools.wraps(f)\n"
    "    def wrapped(**kw): return f(1, **kw)\n    return wrapped\n"
    "@other\ndef predict(weights, x): pass\n",
    "a partial": X + "def whole(weights, x): pass\npredict = functools.partial(whole, 1)\n",
    "a lambda": X + "predict = lambda x: x\n",
    "a callable object": X
    + "class Predict:\n    def __call__(self, x): pass\npredict = Predict()\n",
    "a builtin": "predict = max\n",
    "a name that is no identifier": "def get_predict_args(): return {'x-y': fields.Float()}\n"
    "def predict(**kwargs): pass\n",
    "another name on the wire": "def get_predict_args():\n"
    "    return {'x': fields.Float(data_key='X', required=True)}\ndef predict(x): pass\n",
    "another attribute": "def get_predict_args():\n"
    "    return {'x': fields.Float(attribute='y', required=True)}\ndef predict(y): pass\n",
    "a field that is no input": "def get_predict_args():\n"
    "    return {'x': fields.Float(dump_only=True)}\n"
    "def predict(): pass\n",
    "a schema whose hook makes something else": "class Made(Schema):\n    x = fields.Float()\n"
    "    @post_load\n    def made(self, data, **kw): return {'z': 1}\n"
    "def get_predict_args(): return Made\ndef predict(z): pass\n",
    "a schema": "class Made(Schema):\n    x = fields.Float(required=True)\n"
    "def get_predict_args(): return Made()\ndef predict(x): pass\n",
    "choices of accept": "def get_predict_args():\n    one_of = validate.OneOf(['image/*'])\n"
    "    return {'accept': fields.Str(validate=one_of)}\ndef predict(accept): pass\n",
    "a batch": X + "def predict_batch(batch): return batch\n",
    "a generator": X + "def predict(x):\n    yield x\n",
    "a coroutine": X + "async def predict(x): return x\n",
    "names that are longer": "def predict(): pass\ndef trainer(): pass\ndef predictor(): pass\n"
    "def retrain(): pass\ndef predict_url(): pass\ndef warm_cache(): pass\nschemas = 3\n",
    "names like those of examples and weights": X + "def predict(x): pass\n"
    "example = {'a': 1}\nsamples = [{'x': 1}]\nheights = ['a.b', 'b.c']\nweight = [0.5]\n",
    "one example beside the examples": X + "def predict(x): pass\n"
    "example = {'x': 1}\nexamples = [example]\n",
    "names that are private": "def predict(): pass\ndef _trian(): pass\n",
    "names that are imported": "from functools import wraps as trian\ndef predict(): pass\n",
    "a misspelt name beside the right one": "def predict(): pass\ndef predit(): pass\n",
}


@pytest.mark.parametrize("code", NO_MISTAKES.values(), ids=NO_MISTAKES)
def test_what_is_no_mistake_is_not_told(load: Callable[..., ModuleType], code: str) -> None:
    assert told(load(code)) == []


def test_method_is_compared_without_self(load: Callable[..., ModuleType]) -> None:
    code = (
        "class Model:\n    def get_predict_args(self): return {'x': fields.Float(required=True)}\n"
        "    def predict(self, x): pass\n    @staticmethod\n    def train(): pass\n"
        "    @classmethod\n    def warm(cls): pass\n"
    )
    assert told(load(code).Model()) == []


def test_model_whose_attributes_cannot_be_looked_at_has_no_mistakes() -> None:
    class Odd:
        def __getattr__(self, name: str) -> Any:
            raise AttributeError(name)

        def predict(self, **kwargs: Any) -> None:
            pass

    assert told(Odd()) == []


def test_entry_of_a_schema_that_marshmallow_ignores_is_told_and_ignored(
    load: Callable[..., ModuleType],
) -> None:
    module = load(
        "def predict(): pass\nschema = {\n    'x': fields.Float(),\n    'y': 'text',\n}\n"
    )
    notes: list[str] = []
    assert declared_schema(ModelWrapper("made", module), notes) is module.schema
    text = "in schema, the field 'y' is 'text', and not a field; write fields.Str()"
    assert notes == [f"made.py:7: {text}"]


@pytest.mark.parametrize("value", ["fields.Float", "float"])
def test_schema_without_any_field_is_refused(load: Callable[..., ModuleType], value: str) -> None:
    module = load(f"schema = {{'x': {value}}}\n")
    with pytest.raises(ModelMistakeError, match="in schema, the field 'x' is the"):
        declared_schema(ModelWrapper("made", module))


# --- places


def test_place_is_the_line_of_the_definition(load: Callable[..., ModuleType]) -> None:
    code = "def decorated(f): return f\n\n@decorated\n@decorated\ndef predict(\n    x\n): pass\n"
    assert place_of_function(load(code).predict) == "made.py:8"


def test_place_outside_the_working_directory_is_a_whole_path(
    load: Callable[..., ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = load("def predict(): pass\n")
    monkeypatch.chdir(sys.prefix)
    assert place_of_function(module.predict) == f"{tmp_path / 'made.py'}:4"


def test_what_is_not_in_python_has_no_place() -> None:
    assert place_of_function(max) == ""
    assert place_of_function(functools.partial(len)) == ""


def test_function_without_a_file_has_the_line_of_its_code() -> None:
    space: dict[str, Any] = {}
    exec("\ndef predict(): pass\n", space)
    assert place_of_function(space["predict"]).endswith("<string>:2")


def test_entry_that_is_set_later_is_found(load: Callable[..., ModuleType]) -> None:
    module = load("def get_predict_args():\n    d = {}\n    d['x'] = fields.Float\n    return d\n")
    with pytest.raises(ModelMistakeError) as raised:
        declared_fields(ModelWrapper("made", module), "predict")
    assert raised.value.lines[0].startswith("made.py:6: the argument 'x' is the class")
    assert str(raised.value).startswith("the argument 'x' is the class")


def test_cause_within_a_library_has_the_line_that_called_it(
    load: Callable[..., ModuleType],
) -> None:
    module = load("import json\ndef warm():\n    json.loads('{')\n")
    with pytest.raises(json.JSONDecodeError) as raised:
        module.warm()
    cause, lines = causes_of(raised.value, "made")
    assert cause.startswith("JSONDecodeError: ")
    assert lines == [f"made.py:6: {cause}"]


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


ODD_PLACE: Any = (3, "x", None, 5)


@pytest.mark.parametrize(
    "error",
    [Unspeakable(), SyntaxError("odd", ODD_PLACE), KeyError("\ud800"), SystemExit()],
)
def test_cause_of_an_odd_exception_is_told(error: BaseException) -> None:
    cause, lines = causes_of(error, "made")
    assert type(error).__name__ in cause
    assert lines == [cause]
    assert isinstance(traceback_of(error, with_own_frames=False), str)


def test_error_of_several_lines_is_whole_in_the_calls() -> None:
    try:
        raise RuntimeError("first\nsecond")
    except RuntimeError as error:
        calls = traceback_of(error, with_own_frames=False)
    assert calls.endswith("RuntimeError: first\nsecond")


def test_calls_are_bounded() -> None:
    error = RuntimeError("x" * 100_000 + "\ny")
    calls = traceback_of(error, with_own_frames=False)
    assert len(calls) < 40_000
    assert calls.endswith("y")


def test_tuple_with_a_field_is_not_a_field() -> None:
    model = ModuleType("made")
    model.get_predict_args = lambda: {"x": (fields.Float(),)}  # type: ignore[attr-defined]
    with pytest.raises(ModelMistakeError, match="the argument 'x' is a tuple, and not a field"):
        declared_fields(ModelWrapper("made", model), "predict")
