"""The constraints in `Annotated[...]`: marshmallow's validators, and objects of annotated-types.

annotated-types is not imported: its objects are known by their attributes.
"""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from marshmallow import ValidationError, fields, validate

from deepaas.model.v2.hint_fields import Holds, MultipleOf


class HintError(Exception):
    """A type hint from which no field can be made: what is wrong, and what to write."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


@dataclass
class Values:
    """What the values of a type have in common, to check which constraints fit them."""

    name: str
    types: tuple[type, ...] = ()
    """The types of the values; () for any."""
    ordered: bool = False
    sized: bool = False


@dataclass
class Made:
    """How to make the field of a type: what it takes besides the options of every field."""

    cls: Callable[..., fields.Field]
    values: Values
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    validators: list[Callable[[Any], Any]] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    choices: list[Any] = field(default_factory=list)
    nullable: bool = False


@dataclass
class Extras:
    """What `Annotated` adds to a type."""

    given: fields.Field | None = None
    """The author's own field."""
    validators: list[Callable[[Any], Any]] = field(default_factory=list)
    description: str = ""


_BOUNDS = {"ge": ("min", True), "gt": ("min", False), "le": ("max", True), "lt": ("max", False)}
_LENGTHS = {"min_length": "min", "max_length": "max"}


def extras_of(metadata: Sequence[Any]) -> Extras:
    """Return what the objects in an `Annotated` add. Objects that are not known are ignored.

    Raises HintError.
    """
    extras = Extras()
    bounds: dict[str, Any] = {}
    lengths: dict[str, Any] = {}
    for one in _flat(metadata):
        if isinstance(one, fields.Field):
            extras.given = one
        elif isinstance(one, type) and issubclass(one, fields.Field | validate.Validator):
            name = f"{'fields' if issubclass(one, fields.Field) else 'validate'}.{one.__name__}"
            raise HintError(f"has the class {name}", f"write {name}()")
        elif isinstance(one, validate.Validator) or inspect.isroutine(one):
            extras.validators.append(one)
        elif isinstance(one, str):
            extras.description = one
        elif isinstance(getattr(one, "documentation", None), str):  # Doc of typing_extensions
            extras.description = one.documentation
        else:
            _of_annotated_types(one, extras, bounds, lengths)
    if lengths:
        extras.validators.insert(0, _length(lengths))
    if bounds:
        extras.validators.insert(0, _range(bounds))
    return extras


def _flat(metadata: Iterable[Any]) -> Iterator[Any]:
    """Yield the objects, with the members of groups (`Interval`, pydantic's `Field`) in place."""
    for one in metadata:
        module = type(one).__module__.partition(".")[0]
        if getattr(one, "__is_annotated_types_grouped_metadata__", False) is True:
            yield from _flat(one)
        elif module == "pydantic" and isinstance(getattr(one, "metadata", None), list):
            yield from _flat(one.metadata)
            if isinstance(getattr(one, "description", None), str):
                yield one.description
        else:
            yield one


def _of_annotated_types(
    one: Any, extras: Extras, bounds: dict[str, Any], lengths: dict[str, Any]
) -> None:
    if type(one).__module__.partition(".")[0] not in ("annotated_types", "pydantic"):
        return
    for name in _BOUNDS:
        if getattr(one, name, None) is not None:
            _set(bounds, name, getattr(one, name), one)
    for name in _LENGTHS:
        limit = getattr(one, name, None)
        if limit is not None and not (name == "min_length" and limit == 0):
            _set(lengths, name, limit, one)
    if getattr(one, "multiple_of", None) is not None:
        extras.validators.append(MultipleOf(one.multiple_of))
    function = getattr(one, "func", None)
    if callable(function):
        negated = type(function).__name__ == "Not"
        function = function.func if negated else function
        extras.validators.append(Holds(function, negated=negated))


def _set(limits: dict[str, Any], name: str, value: Any, one: Any) -> None:
    side = {"ge": "gt", "gt": "ge", "le": "lt", "lt": "le"}.get(name, name)
    if name in limits or side in limits:
        raise HintError(f"has a second limit, {one!r}", "write one of them")
    limits[name] = value


def _range(bounds: dict[str, Any]) -> validate.Range:
    options: dict[str, Any] = {}
    for name, limit in bounds.items():
        side, inclusive = _BOUNDS[name]
        options |= {side: limit, f"{side}_inclusive": inclusive}
    return validate.Range(**options)


def _length(lengths: dict[str, Any]) -> validate.Length:
    return validate.Length(**{_LENGTHS[name]: limit for name, limit in lengths.items()})


# --- whether they fit


def check_constraints(
    values: Values, validators: Sequence[Callable[[Any], Any]], choices: Sequence[Any] = ()
) -> None:
    """Raise HintError if a constraint does not fit the values, or if no value meets all.

    `choices` are the values that the type itself allows, if it lists them.
    """
    flat = list(_without_and(validators))
    for one in flat:
        _check_fit(values, one)
    _check_limits([one for one in flat if isinstance(one, validate.Range)], "Range")
    _check_limits([_as_range(one) for one in flat if isinstance(one, validate.Length)], "Length")
    listed = [list(one.choices) for one in flat if type(one) is validate.OneOf]
    possible = list(choices) or (listed[0] if listed else [])
    if possible and not any(_is_valid(value, flat) for value in possible):
        raise HintError(
            f"has constraints that none of its choices meets ({_shown(flat)})", "change one of them"
        )


def _without_and(validators: Iterable[Any]) -> Iterator[Any]:
    for one in validators:
        if isinstance(one, validate.And):
            yield from _without_and(one.validators)
        else:
            yield one


def _check_fit(values: Values, one: Any) -> None:
    texts = validate.Regexp | validate.URL | validate.Email
    contains = validate.ContainsOnly | validate.ContainsNoneOf
    if isinstance(one, validate.Range):
        _check_bounds(values, one)
    elif isinstance(one, validate.Length) and not values.sized:
        raise HintError(f"has a constraint on its length, but {values.name} has none", "remove it")
    elif isinstance(one, texts) and values.types != (str,):
        name = type(one).__name__
        raise HintError(f"has the constraint {name}, which only a text can meet", "remove it")
    elif isinstance(one, contains) and not values.sized:
        name = type(one).__name__
        raise HintError(f"has the constraint {name}, which only a list can meet", "remove it")
    elif isinstance(one, MultipleOf) and not _are_numbers(values):
        raise HintError("has the constraint MultipleOf, which only a number can meet", "remove it")
    elif type(one) is validate.OneOf:
        wrong = [choice for choice in one.choices if not _is_of(choice, values)]
        if wrong:
            text = f"has the choice {wrong[0]!r}, which is not {values.name}"
            raise HintError(text, "write choices of this type")


def _check_bounds(values: Values, one: validate.Range) -> None:
    if not values.ordered:
        raise HintError(
            f"has a constraint on its range, but {values.name} has no order",
            "write validate.Length or remove it" if values.sized else "remove it",
        )
    for bound in (one.min, one.max):
        if bound is not None and not _is_of(bound, values):
            raise HintError(
                f"has the limit {bound!r}, which is not {values.name}", "write a limit of this type"
            )


def _are_numbers(values: Values) -> bool:
    return bool(values.types) and issubclass(values.types[0], numbers.Number)


def _is_of(value: Any, values: Values) -> bool:
    if not values.types:
        return True
    if isinstance(value, bool):
        return bool in values.types
    if _are_numbers(values) and bool not in values.types:
        return isinstance(value, numbers.Number)
    return isinstance(value, values.types)


def _as_range(one: validate.Length) -> validate.Range:
    low, high = (one.min, one.max) if one.equal is None else (one.equal, one.equal)
    return validate.Range(min=low, max=high)


def _check_limits(ranges: Sequence[validate.Range], name: str) -> None:
    """Raise HintError if the limits exclude every value."""
    lows = [(one.min, one.min_inclusive) for one in ranges if one.min is not None]
    highs = [(one.max, one.max_inclusive) for one in ranges if one.max is not None]
    for low, low_inclusive in lows:
        for high, high_inclusive in highs:
            if low > high or (low == high and not (low_inclusive and high_inclusive)):
                raise HintError(
                    f"has limits of its {name.lower()} that exclude every value ({low} and {high})",
                    "change one of them",
                )


def _is_valid(value: Any, validators: Iterable[Callable[[Any], Any]]) -> bool:
    try:
        return all(one(value) is not False for one in validators)
    except ValidationError:
        return False


def _shown(validators: Iterable[Any]) -> str:
    return ", ".join(type(one).__name__ for one in validators)
