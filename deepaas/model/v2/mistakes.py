"""Mistakes of a model's author that do not prevent the model from being served.

They make requests fail with errors that explain less. Each is therefore logged when the model is
loaded, in one line: the file and line, what is wrong, and what to write instead.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any

from marshmallow import fields, missing

from deepaas.model.v2.arguments import LOCATIONS, Argument, Arguments
from deepaas.model.v2.declarations import (
    FIELDS,
    a,
    is_field,
    is_needed,
    lacks_self,
    listed,
    parameters_of,
)
from deepaas.model.v2.exchange import CallingKind
from deepaas.model.v2.media import is_media_type
from deepaas.model.v2.places import (
    at,
    place_of_attribute,
    place_of_entry,
    place_of_function,
    place_of_model,
    place_of_parameter,
)
from deepaas.model.v2.weights import looks_like_path
from deepaas.model.v2.wrapper import ModelWrapper

FUNCTIONS = (
    "predict",
    "get_predict_args",
    "get_train_args",
    "get_metadata",
    "predict_batch",
    "train",
    "warm",
)

_NEAR = 0.8  # similarity, from 0 to 1, above which a name counts as a misspelling of another

_ALL_IN_ONE = ("args", "kwargs", "arguments", "data")
"""Usual names of a parameter that is meant to receive all arguments."""

_OTHER_WORDS = {"samples", "heights"}
"""Words that are similar to a name, but not misspelt."""

_SYNONYMS = {"warmup": "warm", "warm_up": "warm", "get_args": "get_predict_args"}


def mistakes_of(
    model: ModelWrapper, kind: str, arguments: Arguments, train_arguments: Arguments | None
) -> list[str]:
    """Return the mistakes that do not prevent serving, one line each.

    `kind` is the CallingKind of the model.
    """
    names = {one.name for one in arguments.visible}
    names |= {one.name for one in (train_arguments.visible if train_arguments else ())}
    found = [*_near_misses(model, names), *_not_callable(model)]
    if not any(model.has(name) for name in ("predict", "predict_batch", "train")):
        text = "the model has neither predict nor train; "
        found.append(at(place_of_model(model.model), text + _instead(model.model)))
    if kind is CallingKind.BATCH:
        found += _batch_signature(model.function("predict_batch"))
        found += _of_declarations(model, "predict", arguments)
    elif model.has("predict"):
        found += _of_function(model, "predict", arguments)
    if train_arguments is not None:
        found += _of_function(model, "train", train_arguments)
    return list(dict.fromkeys(found))


def _instead(model: Any) -> str:
    """Return what to write for a model that has no function to call."""
    classes = [
        name
        for name, value in _own_attributes(model).items()
        if inspect.isclass(value) and any(hasattr(value, one) for one in ("predict", "train"))
    ]
    if classes and inspect.ismodule(model):
        return f"to serve the class {classes[0]}, write :{classes[0]} after the file or module"
    return "write def predict(**arguments)"


def _of_function(model: ModelWrapper, name: str, arguments: Arguments) -> Iterable[str]:
    yield from _of_declarations(model, name, arguments)
    function = model.function(name)
    texts = list(_signature(model, name, arguments, function))
    for text in texts:
        yield at(place_of_function(function), text)


def _of_declarations(model: ModelWrapper, name: str, arguments: Arguments) -> Iterable[str]:
    """Yield the mistakes in the declared arguments that do not concern the function's
    parameters."""
    get = model.function(f"get_{name}_args")
    for argument in arguments.visible:
        key = argument.field.name or argument.name
        accept = _accept(argument, arguments, name, has_hints=get is None)
        for text in filter(None, (accept, _location(argument), _file(argument))):
            if get is None:
                yield at(place_of_parameter(model.function(name), key), text)
            else:
                yield at(place_of_entry(get, key), text)


def _accept(argument: Argument, arguments: Arguments, function: str, *, has_hints: bool) -> str:
    if argument.name != "accept" or function != "predict":
        return ""
    if not arguments.media_types:
        remedy = 'fields.Str(validate=validate.OneOf(["application/json", "image/png"]))'
        if has_hints:
            remedy = 'accept: Literal["application/json", "image/png"]'
        return (
            "the argument 'accept' has no choices, so that the server cannot tell which media "
            f"types predict returns; write {remedy}"
        )
    wrong = [choice for choice in arguments.media_types if not is_media_type(choice)]
    if wrong:
        return f"{wrong[0]!r} in 'accept' is not a media type; write one such as 'image/png'"
    return ""


def _location(argument: Argument) -> str:
    location = argument.field.metadata.get("location")
    if location is None or location in LOCATIONS:
        return ""
    text = f"the argument {argument.name!r} has the unknown location {location!r}; write one of "
    return text + ", ".join(LOCATIONS)


def _file(argument: Argument) -> str:
    inner = getattr(argument.field, "inner", argument.field)
    if not argument.is_file or type(inner) not in (fields.String, fields.Int, fields.Float):
        return ""
    kind = type(inner).__name__
    return (
        f"the argument {argument.name!r} is a file, which fields.{kind} cannot take; "
        "write fields.Raw in its place"
    )


# --- names


def _near_misses(model: ModelWrapper, arguments: Set[str]) -> Iterable[str]:
    """Yield functions and attributes whose names are similar to those that the server uses.

    `arguments` are the names of the declared arguments.
    """
    own = _own_attributes(model.model)
    absent = [name for name in FUNCTIONS if not model.has(name)]
    if model.has("predict_batch"):  # it replaces predict
        absent = [name for name in absent if name != "predict"]
    for name, value in own.items():
        if inspect.isroutine(value) and name not in FUNCTIONS:
            meant = _nearest(name, absent)
            if meant:
                text = f"the function {name!r} is never called; rename it to {meant!r}"
                yield at(place_of_function(value), text)
            continue
        meant = _nearest(name, _attributes_like(value, arguments))
        if meant and inspect.getattr_static(model.model, meant, None) is None:
            text = f"{name!r} is never used; rename it to {meant!r}"
            yield at(place_of_attribute(model.model, name), text)


def _own_attributes(model: Any) -> dict[str, Any]:
    """Return the public attributes that the author defined, without imported ones."""
    if inspect.ismodule(model):
        return {
            name: value
            for name, value in vars(model).items()
            if not name.startswith("_")
            and getattr(value, "__module__", model.__name__) == model.__name__
        }
    found: dict[str, Any] = {}
    for owner in reversed(type(model).__mro__):
        if owner.__module__.partition(".")[0] not in ("builtins", "deepaas"):
            found |= {k: v for k, v in vars(owner).items() if not k.startswith("_")}
    return found


def _nearest(name: str, known: list[str]) -> str:
    lower = name.lower()
    if _SYNONYMS.get(lower) in known:
        return _SYNONYMS[lower]
    if lower in _OTHER_WORDS:
        return ""
    for near in difflib.get_close_matches(lower, known, n=1, cutoff=_NEAR):
        contains = lower.startswith(near) or lower.endswith(near)
        if not contains or len(lower) < len(near) + 2:  # ignore trainer, retrain, warm_cache
            return near
    return ""


def _looks_like_fields(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value) and all(map(is_field, value.values()))
    return False


def _attributes_like(value: Any, arguments: Set[str]) -> list[str]:
    """Return the attributes of a model that could have this value."""
    if _looks_like_fields(value):
        return ["schema"]
    if _looks_like_example(value, arguments):  # one, without the list
        return ["examples", "train_examples"]
    if not isinstance(value, list | tuple) or not value:
        return []
    if all(_looks_like_example(one, arguments) for one in value):
        return ["examples", "train_examples"]
    return ["weights"] if all(map(looks_like_path, value)) else []


def _looks_like_example(value: Any, arguments: Set[str]) -> bool:
    return isinstance(value, Mapping) and bool(value) and {*value} <= arguments


def _not_callable(model: ModelWrapper) -> Iterable[str]:
    for name in FUNCTIONS:
        value = getattr(model.model, name, None)
        if value is not None and not callable(value):
            text = f"{name} is {a(value)}, and not a function; write def {name}"
            yield at(place_of_attribute(model.model, name), text)


# --- signatures


def _signature(
    model: ModelWrapper, name: str, arguments: Arguments, function: Callable[..., Any] | None
) -> Iterable[str]:
    """Yield the mismatches between the parameters of a function and its declared arguments."""
    if lacks_self(function):
        yield f"{name} lacks the parameter self; write def {name}(self, ...)"
        return
    parameters = parameters_of(function)
    given = arguments.passed
    if parameters is None or given is None:
        return
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    taken = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    unknown = [key for key in given if key not in taken]
    needed = [p for p in parameters if is_needed(p) and p.name not in given]
    positional = [p.name for p in parameters if is_needed(p) and p.kind is p.POSITIONAL_ONLY]
    if positional:
        text = f"{name} gets its arguments by name, but {listed(positional)} can only be given by "
        yield f"{text}position; remove the / from its parameters"
        return
    only = needed[0].name if len(needed) == 1 else ""
    if only in _ALL_IN_ONE:
        yield f"{name} gets its arguments by name, and not as one; write def {name}(**{only})"
        return
    yield from _renamed(name, needed, unknown)
    if unknown and not takes_any:
        text = f"{name} does not take {listed(unknown)}, which get_{name}_args declares; "
        yield f"{text}add {listed(unknown, '')} or **arguments to its parameters"
    yield from _needed(model, name, needed)
    yield from _optional(name, parameters, given)


def _renamed(name: str, needed: list[inspect.Parameter], unknown: list[str]) -> Iterable[str]:
    """Yield parameters that are declared under a similar name, and remove them from both lists."""
    for parameter in list(needed):
        near = difflib.get_close_matches(parameter.name, unknown, n=1, cutoff=_NEAR)
        if near:
            needed.remove(parameter)
            unknown.remove(near[0])
            yield (
                f"{name} takes {parameter.name!r}, but get_{name}_args declares {near[0]!r}; "
                "write the same name in both"
            )


def _needed(model: ModelWrapper, name: str, needed: list[inspect.Parameter]) -> Iterable[str]:
    """Yield the required parameters that no request can set."""
    names = [parameter.name for parameter in needed]
    if "self" in names and inspect.ismodule(model.model):
        names.remove("self")
        yield f"{name} is not in a class, but has the parameter self; remove it"
    if not names:
        return
    get = f"get_{name}_args"
    entries = ", ".join(f'"{p.name}": {_field_for(p)}' for p in needed if p.name in names)
    if model.has(get):
        text = f"{name} needs {listed(names)}, which {get} does not declare; add {entries} to it"
    else:
        text = (
            f"{name} needs {listed(names)}, but there is no {get}; "
            f"write def {get}(): return {{{entries}}}"
        )
    yield text


def _field_for(parameter: inspect.Parameter) -> str:
    annotation = parameter.annotation
    by_name = {kind.__name__: text for kind, text in FIELDS.items() if isinstance(kind, type)}
    field = by_name.get(annotation, "") if isinstance(annotation, str) else FIELDS.get(annotation)
    field = field or "fields.Str()"
    return f"{field[:-2]}(required=True)" if field.endswith("()") else field


def _optional(
    name: str, parameters: list[inspect.Parameter], given: Mapping[str, Any]
) -> Iterable[str]:
    """Yield parameters without a default for arguments that a request may omit."""
    for parameter in parameters:
        field = given.get(parameter.name)
        if field is None or not is_needed(parameter) or field.required:
            continue
        if field.load_default is missing and parameter.name != "accept":
            kind = type(field).__name__
            yield (
                f"{name} needs {parameter.name!r}, but a request may leave it out; write "
                f"fields.{kind}(required=True) or def {name}({parameter.name}=None)"
            )


def _batch_signature(function: Callable[..., Any] | None) -> Iterable[str]:
    if lacks_self(function):
        text = "predict_batch lacks the parameter self; write def predict_batch(self, batch)"
        yield at(place_of_function(function), text)
        return
    parameters = parameters_of(function)
    if parameters is None:
        return
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    takes_one = any(p.kind in (*positional, p.VAR_POSITIONAL) for p in parameters)
    needed = [p for p in parameters if is_needed(p)]
    if not takes_one or len(needed) > 1:
        text = "predict_batch is called with one list; write def predict_batch(batch)"
        yield at(place_of_function(function), text)
