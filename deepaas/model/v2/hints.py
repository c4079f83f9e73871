"""The arguments of a function, derived from its type hints.

They are used if the model has no `get_predict_args` (or `get_train_args`).
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any

from marshmallow import fields

from deepaas.exceptions import ModelMistakeError
from deepaas.model.v2.docstrings import texts_of
from deepaas.model.v2.hint_constraints import HintError
from deepaas.model.v2.hint_objects import Member, members_of
from deepaas.model.v2.hint_types import EMPTY, FieldMaker, shown
from deepaas.model.v2.media import is_media_type
from deepaas.model.v2.places import place_of_function, place_of_parameter
from deepaas.model.v2.wrapper import ModelWrapper

_MOST_WRAPPERS = 100  # so that a wrapper of itself does not run forever

_REMEDIES = {str: "str", int: "int", float: "float", bool: "bool"}


def derived_fields(
    model: ModelWrapper, function: str, notes: list[str] | None = None
) -> dict[str, fields.Field]:
    """Return the fields of the arguments of `function` (predict, train).

    A parameter with a default, from which no field can be made, is left out, and a line about it is
    added to `notes`. Raises ModelMistakeError for such a parameter without a default.
    """
    if function == "predict" and (members := _members_of_batch(model)) is not None:
        return _of_members(members, model)
    found = model.function(function)
    if found is None:
        return {}
    derived: dict[str, fields.Field] = {}
    mistakes: list[tuple[str, str]] = []
    minor: list[tuple[str, str]] = []
    texts = texts_of(raw_function(found))
    maker = FieldMaker()
    for parameter, is_certain in _parameters(found):
        try:
            one = _field(maker, found, model, parameter, texts.get(parameter.name, ""))
        except HintError as error:
            if parameter.default is EMPTY and not is_certain:
                continue
            line = (
                place_of_parameter(raw_function(found), parameter.name),
                _line(function, parameter, error),
            )
            (mistakes if parameter.default is EMPTY else minor).append(line)
            continue
        if parameter.name == "accept" and _has_media_types(one):
            one.required = False  # the server always chooses one
        derived[parameter.name] = one
    if notes is not None and minor:
        notes += ModelMistakeError(*minor).lines
    if mistakes:
        raise ModelMistakeError(*mistakes)
    return derived


def _field(
    maker: FieldMaker, function: Any, model: ModelWrapper, parameter: inspect.Parameter, text: str
) -> fields.Field:
    """Return the field of a parameter. Raises HintError."""
    if parameter.annotation is EMPTY:
        raise HintError("has no type hint", f"write {_hinted(parameter)}")
    hint = resolved(raw_function(function), model, parameter.annotation)
    try:
        return maker.field_of(hint, parameter.default, text)
    except HintError:
        raise
    except Exception as error:  # any object can stand in a type hint
        what = f"has the type hint {shown(hint)}, which cannot be read ({error})"
        raise HintError(what) from error


def _line(function: str, parameter: inspect.Parameter, error: HintError) -> str:
    """Return the line about a parameter from which no field can be made."""
    remedy = error.remedy or f"declare it in get_{function}_args"
    if parameter.default is EMPTY:
        return f"the argument {parameter.name!r} of {function} {error.what}; {remedy}"
    text = f"the argument {parameter.name!r} of {function} is not offered, because it {error.what}"
    return f"{text}; {remedy}"


# --- parameters and their hints


def _parameters(function: Callable[..., Any]) -> list[tuple[inspect.Parameter, bool]]:
    """Return the parameters that can be given by name, without `self` in a module.

    With each, say whether the function itself has it. A decorator with functools.wraps that takes
    any arguments shows the parameters of the function that it decorates, but may give some itself.
    """
    try:
        inner = inspect.signature(function).parameters.values()
        outer = inspect.signature(function, follow_wrapped=False).parameters.values()
    except (TypeError, ValueError):
        return []
    takes_any = any(one.kind is one.VAR_KEYWORD for one in outer)
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    own = {one.name for one in outer if one.kind in by_name}
    return [
        (one, one.name in own)
        for one in inner
        if one.kind in by_name
        and (takes_any or one.name in own)
        and not (one.name == "self" and one.annotation is EMPTY)
        and not (one.name.startswith("_") and one.default is not EMPTY)
    ]


def raw_function(function: Any) -> Any:
    """Return the function that has the type hints: not the partial, method or decorator."""
    for _ in range(_MOST_WRAPPERS):
        if isinstance(function, functools.partial | functools.partialmethod):
            function = function.func
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif inspect.ismethod(function):
            function = function.__func__
        elif not inspect.isroutine(function):
            function = getattr(type(function), "__call__", None)  # noqa: B004 it is inspected
        else:
            break
    return function


def resolved(function: Any, model: ModelWrapper, annotation: Any) -> Any:
    """Return the annotation; texts in it are evaluated. Raises HintError."""
    holder = types.SimpleNamespace(__annotations__={"hint": annotation})
    names = getattr(function, "__globals__", {})
    owner = {} if inspect.ismodule(model.model) else dict(vars(type(model.model)))
    try:
        try:
            return typing.get_type_hints(holder, names, include_extras=True)["hint"]
        except NameError:  # it may be a name in the class of the model
            return typing.get_type_hints(holder, names, owner, include_extras=True)["hint"]
    except NameError as error:
        raise HintError(
            f"has the type hint {shown(annotation)}, in which {error.name!r} is not defined",
            f"define or import {error.name} at the top of the module",
        ) from None
    except Exception as error:
        raise HintError(
            f"has the type hint {shown(annotation)}, which cannot be read ({error})"
        ) from None


def _hinted(parameter: inspect.Parameter) -> str:
    """Return how to write the parameter with a type hint."""
    if parameter.default is EMPTY:
        return f"{parameter.name}: float, for example"
    kind = _REMEDIES.get(type(parameter.default), "str")
    return f"{parameter.name}: {kind} = {parameter.default!r:.60}"


def _has_media_types(one: fields.Field) -> bool:
    choices: Sequence[Any] = getattr(one.validate, "choices", ())
    return any(isinstance(choice, str) and is_media_type(choice) for choice in choices)


# --- batches


def _members_of_batch(model: ModelWrapper) -> list[Member] | None:
    """Return the keys of the TypedDict in `predict_batch(batch: list[TypedDict])`, or None."""
    function = model.function("predict_batch")
    if function is None:
        return None
    for parameter, _ in _parameters(function):
        try:
            hint = resolved(raw_function(function), model, parameter.annotation)
        except HintError:
            return None
        for item in typing.get_args(hint):
            if isinstance(item, type) and hasattr(item, "__required_keys__"):
                members = members_of(item)
                return None if members is None else list(members())
        return None
    return None


def _of_members(members: Sequence[Member], model: ModelWrapper) -> dict[str, fields.Field]:
    maker = FieldMaker()
    return {one.name: _of_member(maker, one, model) for one in members}


def _of_member(maker: FieldMaker, one: Member, model: ModelWrapper) -> fields.Field:
    try:
        return maker.field_of(
            one.hint, description=one.description, may_be_absent=one.may_be_absent
        )
    except HintError as error:
        text = f"the argument {one.name!r} of predict_batch {error.what}; "
        text += error.remedy or "declare it in get_predict_args"
        where = place_of_function(raw_function(model.function("predict_batch")))
        raise ModelMistakeError((where, text)) from None
