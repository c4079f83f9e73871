"""The wrapper of a model that is a module, an instance of a class, or another object."""

from __future__ import annotations

from collections import OrderedDict
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from marshmallow import Schema
from webargs import fields

from deepaas.model.v2.base import BaseModel
from deepaas.model.v2.wrapper import (
    ModelWrapper,
    NoDictionaryError,
    UploadedFile,
    docstring,
    unloaded_metadata,
)

FUNCTIONS = ["get_metadata", "warm", "get_predict_args", "predict", "get_train_args", "train"]


def module(**attributes: Any) -> ModuleType:
    made = ModuleType("made")
    vars(made).update(attributes)
    return made


class Partial(BaseModel):
    def predict(self, **kwargs: Any) -> Any:
        return {"called": kwargs}


def wrapped(model: object) -> ModelWrapper:
    return ModelWrapper("demo", model)


def test_uploaded_file_has_four_fields_that_are_none() -> None:
    assert UploadedFile() == (None, None, None, None)
    assert UploadedFile._fields == ("name", "filename", "content_type", "original_filename")


def test_uploaded_file_is_compared_like_a_tuple() -> None:
    assert UploadedFile("a", "/b", "c/d", "e") == ("a", "/b", "c/d", "e")


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("model", [module(), BaseModel(), object(), None])
def test_model_may_lack_every_function(model: object, name: str) -> None:
    assert wrapped(model).function(name) is None
    assert not wrapped(model).has(name)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_a_module_are_found(name: str) -> None:
    def function() -> None: ...

    assert wrapped(module(**{name: function})).function(name) is function


def test_only_overridden_methods_of_the_base_class_count() -> None:
    model = wrapped(Partial())
    assert [name for name in FUNCTIONS if model.has(name)] == ["predict"]


def test_method_inherited_from_a_model_counts() -> None:
    class Child(Partial):
        pass

    assert wrapped(Child()).has("predict")


def test_what_cannot_be_called_is_no_function() -> None:
    assert not wrapped(module(predict=3)).has("predict")


def test_callable_object_is_a_function() -> None:
    assert wrapped(SimpleNamespace(predict=dict)).function("predict") is dict


def test_function_is_looked_up_at_every_call() -> None:
    model = module()
    wrapper = wrapped(model)
    assert not wrapper.has("predict")
    vars(model)["predict"] = len
    assert wrapper.function("predict") is len


def test_schema_is_that_of_the_model() -> None:
    assert wrapped(module(schema={"a": 1})).schema == {"a": 1}


@pytest.mark.parametrize("model", [module(), BaseModel()])
def test_schema_may_be_absent(model: object) -> None:
    assert wrapped(model).schema is None


def test_metadata_of_a_module_without_get_metadata_has_its_docstring() -> None:
    model = module(__doc__="First.\n\n    Second.\n")
    assert wrapped(model).metadata() == {
        "id": "0",
        "name": "demo",
        "description": "First.\n\nSecond.",
    }


class Inherited(Partial):
    """Has a docstring."""


class InheritsOnly(Inherited):
    pass


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (module(), ""),
        (module(__doc__=3), ""),
        (Inherited(), "Has a docstring."),
        (InheritsOnly(), ""),
        (Partial(), ""),
        (BaseModel(), ""),
        (object(), ""),
        (None, ""),
        (SimpleNamespace(__doc__="of the object"), ""),
        (OrderedDict(), ""),
    ],
)
def test_docstring_is_that_of_the_module_or_of_the_class(model: object, text: str) -> None:
    assert docstring(model) == text


def test_metadata_of_what_is_not_loaded_says_so() -> None:
    assert unloaded_metadata("demo") == {
        "id": "0",
        "name": "demo",
        "description": "Could not load description from underlying model (loaded 'demo')",
    }


def test_metadata_of_the_model_comes_over_its_name_and_id() -> None:
    model = module(get_metadata=lambda: {"name": "Demo", "author": ["a", "b"], "license": None})
    assert wrapped(model).metadata() == {
        "id": "demo",
        "name": "Demo",
        "author": ["a", "b"],
        "license": None,
    }


def test_metadata_of_the_model_stays_as_it_was() -> None:
    own: dict[str, Any] = {"name": "Demo"}
    wrapped(module(get_metadata=lambda: own)).metadata()
    assert own == {"name": "Demo"}


@pytest.mark.parametrize("own", [None, [], "text"])
def test_metadata_that_is_no_dictionary(own: Any) -> None:
    with pytest.raises(NoDictionaryError) as raised:
        wrapped(module(get_metadata=lambda: own)).metadata()
    what = "None" if own is None else f"a {type(own).__name__}"
    assert str(raised.value) == f"get_metadata returns {what}, and not a dictionary"


def test_what_get_metadata_raises_comes_out() -> None:
    def get_metadata() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        wrapped(module(get_metadata=get_metadata)).metadata()


def test_fields_of_each_function() -> None:
    predict, train = {"a": fields.Int()}, {"b": fields.Int()}
    model = wrapped(module(get_predict_args=lambda: predict, get_train_args=lambda: train))
    assert model.fields("predict") is predict
    assert model.fields("train") is train


@pytest.mark.parametrize("model", [module(), BaseModel()])
def test_no_fields(model: object) -> None:
    assert wrapped(model).fields("predict") == {}


def test_fields_may_be_a_schema() -> None:
    assert wrapped(module(get_predict_args=lambda: Schema)).fields("predict") is Schema


def test_warm_is_called() -> None:
    calls: list[str] = []
    wrapped(module(warm=lambda: calls.append("warm"))).warm()
    assert calls == ["warm"]


def test_warm_may_be_absent() -> None:
    wrapped(BaseModel()).warm()


def test_repr_tells_name_and_model() -> None:
    assert repr(wrapped(None)) == "<ModelWrapper demo: None>"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_base_class_implements_nothing(name: str) -> None:
    with pytest.raises(NotImplementedError):
        getattr(BaseModel(), name)()
