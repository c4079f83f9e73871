"""Random signatures give the same arguments as fields of marshmallow that are written by hand."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import typing
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import annotated_types
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from marshmallow import Schema, fields, validate

from deepaas.model.v2.arguments import Arguments, InvalidArgumentsError
from deepaas.model.v2.declarations import declared_fields
from deepaas.model.v2.description import describe_function
from deepaas.model.v2.exchange import Call
from deepaas.model.v2.interface import describe_interface
from deepaas.model.v2.wrapper import ModelWrapper

JSON = "application/json"


class Mode(enum.Enum):
    FAST = "fast"
    EXACT = "exact"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Query(typing.TypedDict, total=False):
    text: typing.Annotated[str, validate.Length(min=1)]
    counts: list[int]


NAMES: dict[str, Any] = {
    **{name: getattr(typing, name) for name in ("Annotated", "Any", "Literal", "Optional")},
    "at": annotated_types,
    "validate": validate,
    "fields": fields,
    "datetime": datetime,
    "uuid": uuid,
    "decimal": decimal,
    "Mode": Mode,
    "Level": Level,
    "Query": Query,
}

Options = dict[str, Any]


@dataclass
class Type:
    """A type hint, the equal field, and values that clients send and that are often valid.

    `defaults` are expressions.
    """

    hint: str
    make: Callable[[Options], fields.Field]
    values: st.SearchStrategy[Any]
    defaults: tuple[str, ...] = ()


def of(hint: str, cls: Any, values: st.SearchStrategy[Any], *defaults: str, **own: Any) -> Type:
    return Type(hint, lambda options: cls(**own, **options), values, defaults)


numbers = st.integers(-3, 12) | st.floats(-3, 12) | st.sampled_from(["2", "x", 2**70])
texts = st.text("abc", max_size=4)
dates = st.sampled_from(["2026-11-27", "2026-11-27T10:00:00", "2026-11-27T10:00:00Z", "10:00", 5])

SCALARS = [
    of("float", fields.Float, numbers, "0.5", "1"),
    of("int", fields.Int, numbers, "3"),
    of("str", fields.Str, texts | st.integers(), "'a'"),
    of("bool", fields.Bool, st.booleans() | st.sampled_from(["yes", 1, 2]), "True"),
    of("datetime.date", fields.Date, dates, "datetime.date(2026, 1, 1)"),
    of("datetime.datetime", fields.DateTime, dates, "datetime.datetime(2026, 1, 1)"),
    of("datetime.time", fields.Time, dates),
    of("datetime.timedelta", fields.TimeDelta, numbers, "datetime.timedelta(seconds=3)"),
    of("uuid.UUID", fields.UUID, st.uuids().map(str) | texts),
    of("decimal.Decimal", fields.Decimal, numbers, "decimal.Decimal('1.5')"),
    of("Any", fields.Raw, numbers | st.lists(texts), "'a'", allow_none=True),
    of("dict", fields.Dict, st.dictionaries(texts, numbers, max_size=2) | texts, "{}"),
    of(
        "Mode", fields.Enum, st.sampled_from(["fast", "EXACT", 1]), "Mode.FAST",
        enum=Mode, by_value=fields.String,
    ),
    of(
        "Level", fields.Enum, st.sampled_from([1, "2", 3, "LOW"]), "Level.LOW",
        enum=Level, by_value=fields.Integer,
    ),
    of(
        "Literal['s', 'l']", fields.Str, st.sampled_from(["s", "l", "x"]), "'s'",
        validate=validate.OneOf(["s", "l"]),
    ),
    of("Literal[1, 2]", fields.Int, numbers, "2", validate=validate.OneOf([1, 2])),
    of(
        "Query", fields.Nested,
        st.dictionaries(st.sampled_from(["text", "counts", "x"]), texts | st.lists(numbers)),
        nested=Schema.from_dict(
            {
                "text": fields.Str(validate=validate.Length(min=1)),
                "counts": fields.List(fields.Int()),
            },
            name="Query",
        ),
    ),
]  # fmt: skip


@st.composite
def with_range(draw: st.DrawFn) -> Type:
    """A number with limits, in one of the ways to write them."""
    kind, cls = draw(st.sampled_from([("float", fields.Float), ("int", fields.Int)]))
    low = draw(st.integers(-2, 4))
    high = low + draw(st.integers(1, 6))
    inclusive = draw(st.booleans())
    form = draw(
        st.sampled_from(
            [
                f"validate.Range({low}, {high}, max_inclusive={inclusive})",
                f"at.Ge({low}), at.{'Le' if inclusive else 'Lt'}({high})",
                f"at.Interval(ge={low}, {'le' if inclusive else 'lt'}={high})",
            ]
        )
    )
    check = validate.Range(low, high, max_inclusive=inclusive)
    return of(f"Annotated[{kind}, {form}]", cls, numbers, str(low), validate=check)


@st.composite
def with_length(draw: st.DrawFn) -> Type:
    low = draw(st.integers(1, 2))
    high = low + draw(st.integers(0, 2))
    form = draw(
        st.sampled_from(
            [
                f"validate.Length(min={low}, max={high})",
                f"at.MinLen({low}), at.MaxLen({high})",
                f"at.Len({low}, {high})",
            ]
        )
    )
    check = validate.Length(min=low, max=high)
    return of(f"Annotated[str, {form}]", fields.Str, texts, repr("a" * low), validate=check)


OWN = of(
    "Annotated[str, fields.Email(metadata={'title': 'Address'})]",
    fields.Email,
    st.sampled_from(["a@example.org", "a"]),
    "'a@example.org'",
    metadata={"title": "Address"},
)

simple = st.sampled_from([*SCALARS, OWN]) | with_range() | with_length()


def collections(inner: st.SearchStrategy[Type]) -> st.SearchStrategy[Type]:
    def list_of(one: Type) -> Type:
        values = st.lists(one.values, max_size=3) | one.values
        return Type(f"list[{one.hint}]", lambda o: fields.List(one.make({}), **o), values, ("[]",))

    def dict_of(one: Type) -> Type:
        values = st.dictionaries(texts, one.values, max_size=2) | one.values
        return Type(
            f"dict[str, {one.hint}]",
            lambda o: fields.Dict(keys=fields.Str(), values=one.make({}), **o),
            values,
            ("{}",),
        )

    def tuple_of(two: tuple[Type, Type]) -> Type:
        first, second = two
        values = st.tuples(first.values, second.values).map(list) | st.lists(first.values)
        return Type(
            f"tuple[{first.hint}, {second.hint}]",
            lambda o: fields.Tuple((first.make({}), second.make({})), **o),
            values,
        )

    return inner.map(list_of) | inner.map(dict_of) | st.tuples(inner, inner).map(tuple_of)


types = st.recursive(simple, collections, max_leaves=3)


@dataclass
class Signature:
    """The source of a function, the equal fields, and values for its arguments."""

    code: str
    declared: dict[str, fields.Field]
    values: dict[str, st.SearchStrategy[Any]]


@st.composite
def signatures(draw: st.DrawFn) -> Signature:
    parameters, described, declared, values = [], {}, {}, {}
    for name in draw(st.sampled_from([["a"], ["a", "b"], ["a", "b", "c"]])):
        one = draw(types)
        options: Options = {}
        hint = one.hint
        if draw(st.booleans()):
            options["allow_none"] = True
            hint = draw(st.sampled_from([f"Optional[{hint}]", f"{hint} | None"]))
            if not isinstance(eval(one.hint, NAMES), type):
                hint = f"Optional[{one.hint}]"  # Annotated has no | in Python 3.10
        text = draw(st.sampled_from(["", "The first word", "Scores above 0.5; see: docs"]))
        if text:
            described[name] = text
        default = draw(st.sampled_from([None, "None", *one.defaults]))
        if default is None:
            options["required"] = True
            parameters.append(f"{name}: {hint}")
        else:
            options["load_default"] = eval(default, dict(NAMES))
            if default == "None":
                options["allow_none"] = True
            parameters.append(f"{name}: {hint} = {default}")
        made = one.make(options)
        if text:
            made.metadata = {**made.metadata, "description": text}
        declared[name] = made
        values[name] = one.values
    head = draw(st.sampled_from(["", "from __future__ import annotations\n"]))
    keyword = draw(st.sampled_from(["def", "async def"]))
    docstring = draw(st.sampled_from([_google, _numpy, _sphinx]))(described)
    code = f"{head}{keyword} predict(*, {', '.join(parameters)}):\n{docstring}    return 1\n"
    return Signature(code, declared, values)


def _google(texts: dict[str, str]) -> str:
    lines = "".join(f"        {name}: {text}\n" for name, text in texts.items())
    return f'    """Predict.\n\n    Args:\n{lines}    """\n' if texts else ""


def _numpy(texts: dict[str, str]) -> str:
    lines = "".join(f"    {name} : float\n        {text}\n" for name, text in texts.items())
    head = "    Parameters\n    ----------\n"
    return f'    """Predict.\n\n{head}{lines}    """\n' if texts else ""


def _sphinx(texts: dict[str, str]) -> str:
    lines = "".join(f"    :param {name}: {text}\n" for name, text in texts.items())
    return f'    """Predict.\n\n{lines}    """\n' if texts else ""


def derived(signature: Signature) -> Arguments:
    names = dict(NAMES)
    exec(compile(signature.code, "<made>", "exec", dont_inherit=True), names)
    notes: list[str] = []
    model = ModelWrapper("made", SimpleNamespace(predict=names["predict"]))
    made = Arguments(declared_fields(model, "predict", notes))
    assert notes == []
    return made


def outcome(arguments: Arguments, call: Call) -> Any:
    """Return the loaded arguments with their types, or the messages of the refusal."""
    try:
        loaded, media_type = arguments.load(call)
    except InvalidArgumentsError as error:
        return error.status, error.messages
    return repr(sorted(loaded.items())), media_type


def in_query(values: dict[str, Any]) -> Call:
    pairs = [
        (name, item)
        for name, value in values.items()
        for item in (value if isinstance(value, list) else [value])
    ]
    return Call(query=urlencode(pairs))


@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(data=st.data())
def test_hints_are_as_good_as_fields(data: st.DataObject) -> None:
    signature = data.draw(signatures())
    ours, theirs = derived(signature), Arguments(signature.declared)
    assert describe_function(ours, None) == describe_function(theirs, None), signature.code
    assert describe_interface(ours, ours, None) == describe_interface(theirs, theirs, None)
    for _ in range(3):
        values = data.draw(st.fixed_dictionaries({}, optional=signature.values))
        if data.draw(st.integers(0, 9)) == 0:
            values["a"] = None
        body = Call(content_type=JSON, body=json.dumps(values).encode())
        assert outcome(ours, body) == outcome(theirs, body), signature.code
        query = in_query(values)
        assert outcome(ours, query) == outcome(theirs, query), signature.code
