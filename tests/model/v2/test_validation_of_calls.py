"""Validated arguments: shown without secrets and file paths, and pickled for the function."""

from __future__ import annotations

import datetime
import enum
import pickle
import threading
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import INCLUDE, Schema, fields, post_load, pre_load, validates_schema

from deepaas import exact_json
from deepaas.file_part import FilePart
from deepaas.model.v2.arguments import Arguments, InvalidArgumentsError
from deepaas.model.v2.exchange import Call, Reply
from deepaas.model.v2.validation import (
    MASK,
    MAX_PICKLED,
    MAX_SHOWN,
    arguments_shown,
    holds_secrets,
    validate,
)
from deepaas.model.v2.wrapper import UploadedFile

SECRET = "open sesame"


def call(**arguments: Any) -> Call:
    return Call("", "application/json", body=orjson.dumps(arguments))


def body_of(reply: Reply) -> tuple[dict[str, Any], bytes]:
    """Return the arguments that are shown, and the pickled arguments."""
    assert (reply.status, reply.headers, reply.fd) == (200, None, -1)
    line, newline, pickled = reply.body.partition(b"\n")
    assert newline == b"\n"
    return exact_json.loads(line)["args"], pickled


def shown(declared: Any, **arguments: Any) -> dict[str, Any]:
    """Return how the arguments of a client are shown; check that the secret is not shown."""
    reply = validate(Arguments(declared), call(**arguments))
    args, _ = body_of(reply)
    assert SECRET.encode() not in reply.body.partition(b"\n")[0]
    return args


def shown_of(value: Any) -> Any:
    """Return how a value that a field has made is shown; check that it is valid JSON."""
    shown = arguments_shown(Schema(), {"value": value})
    assert exact_json.loads(exact_json.dumps({"trainings": [{"args": shown}]}))
    return shown["value"]


def secret() -> fields.Str:
    return fields.Str(load_only=True)


def password() -> fields.Str:
    return fields.Str(metadata={"format": "password"})


# --- the reply


def test_arguments_are_shown_and_pickled() -> None:
    declared = {"epochs": fields.Int(load_default=2), "day": fields.Date()}
    args, pickled = body_of(validate(Arguments(declared), call(day="2026-01-02")))
    assert args == {"epochs": 2, "day": "2026-01-02"}
    assert pickle.loads(pickled) == {"epochs": 2, "day": datetime.date(2026, 1, 2)}


def test_line_of_json_has_no_line_break() -> None:
    args, pickled = body_of(validate(Arguments({"text": fields.Str()}), call(text="a\nb")))
    assert args == {"text": "a\nb"}
    assert pickle.loads(pickled) == {"text": "a\nb"}


def test_pickle_has_the_secret() -> None:
    _, pickled = body_of(validate(Arguments({"key": secret()}), call(key=SECRET)))
    assert pickle.loads(pickled) == {"key": SECRET}


def test_invalid_arguments_are_an_error() -> None:
    with pytest.raises(InvalidArgumentsError, match="Not a valid integer"):
        validate(Arguments({"epochs": fields.Int()}), call(epochs="x"))


class Object(fields.Field):
    """A field that turns any value into the object `made`."""

    def __init__(self, made: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.made = made

    def _deserialize(self, *args: Any, **kwargs: Any) -> Any:
        return self.made


class Unpicklable:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


@pytest.mark.parametrize(
    "value",
    [
        lambda: None,
        threading.Lock(),
        Unpicklable(ValueError("no")),
        Unpicklable(SystemExit(3)),
        Unpicklable(KeyboardInterrupt()),
        [Unpicklable(ValueError("no"))],
    ],
)
def test_what_cannot_be_pickled_is_shown_alone(value: Any) -> None:
    declared = {"value": Object(value), "epochs": fields.Int()}
    args, pickled = body_of(validate(Arguments(declared), call(value=1, epochs=3)))
    assert args["epochs"] == 3
    assert "value" in args
    assert pickled == b""


def test_arguments_too_large_to_pickle_are_shown_alone() -> None:
    declared = {"value": Object(bytes(MAX_PICKLED)), "epochs": fields.Int()}
    args, pickled = body_of(validate(Arguments(declared), call(value=1, epochs=3)))
    assert args["epochs"] == 3
    assert pickled == b""


def test_schema_that_makes_no_arguments_is_an_error() -> None:
    class Made(Schema):
        @post_load
        def make(self, data: Any, **kwargs: Any) -> Any:
            return 3

    with pytest.raises(TypeError):
        validate(Arguments(Made), call())


# --- files


def test_file_is_shown_by_its_names() -> None:
    declared = {"data": fields.Raw(metadata={"type": "file", "location": "form"})}
    form: list[tuple[str, str | FilePart]] = [("data", FilePart("/place/1", "text/csv", "a.csv"))]
    args, pickled = body_of(validate(Arguments(declared), Call(form=form)))
    assert args == {"data": ["data", "text/csv", "a.csv"]}
    assert pickle.loads(pickled) == {"data": UploadedFile("data", "/place/1", "text/csv", "a.csv")}


FILE = UploadedFile("data", "/place/1", "text/csv", "a.csv")


@pytest.mark.parametrize(
    "value",
    [
        FILE,
        [FILE, 1],
        (FILE,),
        {FILE},
        {"a": {"b": [FILE]}},
        OrderedDict(a=FILE),
        {1: FILE},
        {frozenset(): FILE},
    ],
)
def test_place_of_a_file_is_not_shown(value: Any) -> None:
    text = str(shown_of(value))
    assert "a.csv" in text
    assert "/place" not in text


# --- values of all kinds


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (float("nan"), None),
        (2**70, 2**70),
        ([{"id": 2**64 + 1}], [{"id": 2**64 + 1}]),
        ("a\udc80", "a\\udc80"),
        (b"ab", "b'ab'"),
        ((1, (2, 3)), [1, [2, 3]]),
        ({1: {None: 2}}, {"1": {"null": 2}}),
        (Colour.RED, "red"),
        (uuid.UUID(int=1), str(uuid.UUID(int=1))),
        (datetime.timedelta(seconds=1), "0:00:01"),
        (np.float32(0.5), 0.5),
        (np.arange(3), [0, 1, 2]),
    ],
)
def test_value_is_shown_in_plain_json(value: Any, expected: Any) -> None:
    assert shown_of(value) == expected


class Odd:
    """An object that raises an error whenever it is converted."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def __str__(self) -> str:
        raise self.error

    __repr__ = __str__

    def tolist(self) -> Any:
        raise self.error


class OddList(list[Any]):
    def __iter__(self) -> Any:
        raise ValueError("not now")


class OddDict(dict[str, Any]):
    def items(self) -> Any:
        raise ValueError("not now")


@pytest.mark.parametrize("error", [ValueError, RecursionError, SystemExit, KeyboardInterrupt])
def test_object_without_a_text_is_shown_by_its_type(error: type[BaseException]) -> None:
    assert shown_of(Odd(error)) == "<Odd>"


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_object_without_a_text_does_not_hide_its_neighbours(error: type[BaseException]) -> None:
    args = arguments_shown(Schema(), {"odd": [Odd(error)], "even": [2]})
    assert set(args) == {"odd", "even"}
    assert args["even"] == [2]


@pytest.mark.parametrize("value", [OddList([1]), OddDict(a=1)])
def test_container_that_raises_does_no_harm(value: Any) -> None:
    shown_of(value)


def test_value_that_contains_itself_is_shown_by_its_type() -> None:
    value: list[Any] = []
    value.append(value)
    assert shown_of(value) == "<list>"


@pytest.mark.parametrize("depth", [*range(235, 260), 900, 100_000])
def test_deep_value_is_shown_somehow(depth: int) -> None:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    shown_of(value)


def test_deep_value_of_a_client_is_no_error() -> None:
    for depth in range(235, 260):
        body = b'{"value": ' + b"[" * depth + b"]" * depth + b"}"
        arguments = Arguments({"value": fields.Raw()})
        body_of(validate(arguments, Call("", "application/json", body=body)))


@pytest.mark.parametrize("value", ["x" * MAX_SHOWN, ["ä" * 1000] * 100, {"a": list(range(50_000))}])
def test_too_large_value_is_shown_by_its_size(value: Any) -> None:
    assert shown_of(value) == f"… ({len(orjson.dumps(value))} bytes)"


def test_largest_value_is_shown() -> None:
    value = "x" * (MAX_SHOWN - 2)
    assert shown_of(value) == value


def test_name_that_is_no_unicode_is_shown() -> None:
    assert arguments_shown(Schema(), {"a\udc80": 1}) == {"a\\udc80": 1}


# --- secrets


@pytest.mark.parametrize("field", [secret(), password()])
def test_secret_is_masked(field: fields.Field) -> None:
    declared = {"key": field, "user": fields.Str()}
    assert shown(declared, key=SECRET, user="ali") == {"key": MASK, "user": "ali"}


def test_default_of_a_secret_is_masked() -> None:
    assert shown({"key": fields.Str(load_only=True, load_default=SECRET)}) == {"key": MASK}


def test_secret_that_was_not_given_is_not_shown() -> None:
    assert shown({"key": secret()}) == {}


def test_secret_that_is_none_is_shown_as_such() -> None:
    assert shown({"key": fields.Str(load_only=True, allow_none=True)}, key=None) == {"key": None}


def test_secret_of_another_name_is_masked() -> None:
    declared = {
        "key": fields.Str(load_only=True, data_key="api-key"),
        "token": fields.Str(load_only=True, attribute="inside"),
    }
    found = shown(declared, **{"api-key": SECRET, "token": SECRET})
    assert found == {"key": MASK, "inside": MASK}


def test_secret_with_a_dotted_place_is_masked() -> None:
    declared = {"key": fields.Str(load_only=True, attribute="a.b"), "user": fields.Str()}
    assert shown(declared, key=SECRET, user="ali") == {"a": MASK, "user": "ali"}


def test_secret_that_the_schema_says_is_masked() -> None:
    class Train(Schema):
        class Meta:
            load_only = ("key",)

        key = fields.Str()
        user = fields.Str()

    assert shown(Train, key=SECRET, user="ali") == {"key": MASK, "user": "ali"}
    only = Train(load_only=("user",))
    assert shown(only, key="k", user=SECRET)["user"] == MASK


def test_secret_in_a_nested_schema_is_masked() -> None:
    login = Schema.from_dict({"user": fields.Str(), "key": secret()})
    declared = {"login": fields.Nested(login), "epochs": fields.Int()}
    found = shown(declared, login={"user": "ali", "key": SECRET}, epochs=1)
    assert found == {"login": {"user": "ali", "key": MASK}, "epochs": 1}


def test_nested_schema_that_is_a_secret_is_masked_whole() -> None:
    login = Schema.from_dict({"user": fields.Str()})
    found = shown({"login": fields.Nested(login, load_only=True)}, login={"user": SECRET})
    assert found == {"login": MASK}


def test_secrets_in_many_nested_are_masked() -> None:
    login = Schema.from_dict({"user": fields.Str(), "key": password()})
    given = [{"user": "ali", "key": SECRET}, {"key": SECRET}]
    expected = [{"user": "ali", "key": MASK}, {"key": MASK}]
    assert shown({"logins": fields.Nested(login, many=True)}, logins=given) == {"logins": expected}
    in_list = {"logins": fields.List(fields.Nested(login))}
    assert shown(in_list, logins=given) == {"logins": expected}


def test_plucked_secret_is_masked() -> None:
    login = Schema.from_dict({"key": secret()})
    assert shown({"login": fields.Pluck(login, "key")}, login=SECRET) == {"login": {"key": MASK}}


def test_what_a_nested_schema_does_not_know_is_masked_beside_secrets() -> None:
    login = Schema.from_dict({"user": fields.Str(), "key": secret()})
    found = shown(
        {"login": fields.Nested(login, unknown=INCLUDE)}, login={"user": "ali", "kye": SECRET}
    )
    assert found == {"login": {"user": "ali", "kye": MASK}}


def test_secrets_in_a_list_are_masked() -> None:
    assert shown({"keys": fields.List(secret())}, keys=[SECRET] * 2) == {"keys": [MASK, MASK]}
    nested = {"keys": fields.List(fields.List(password()))}
    assert shown(nested, keys=[[SECRET], []]) == {"keys": [[MASK], []]}


def test_list_of_secret_numbers_is_masked() -> None:
    """Lists of numbers are loaded on a fast path."""
    pins = {"pins": fields.List(fields.Int(metadata={"format": "password"}))}
    assert shown(pins, pins=[1, 2]) == {"pins": [MASK, MASK]}
    whole = {"pins": fields.List(fields.Int(), load_only=True)}
    assert shown(whole, pins=[1, 2]) == {"pins": MASK}


def test_secrets_in_a_tuple_are_masked() -> None:
    declared = {"login": fields.Tuple((fields.Str(), secret()))}
    assert shown(declared, login=["ali", SECRET]) == {"login": ["ali", MASK]}


def test_secret_values_of_a_dictionary_are_masked() -> None:
    declared = {"keys": fields.Dict(keys=fields.Str(), values=secret())}
    assert shown(declared, keys={"a": SECRET}) == {"keys": {"a": MASK}}


def test_secret_keys_of_a_dictionary_hide_it() -> None:
    declared = {"keys": fields.Dict(keys=secret(), values=fields.Int())}
    assert shown(declared, keys={SECRET: 1}) == {"keys": MASK}


def test_dictionary_of_anything_is_shown() -> None:
    assert shown({"options": fields.Dict()}, options={"a": [1]}) == {"options": {"a": [1]}}


class Tree(Schema):
    name = fields.Str()
    key = fields.Str(load_only=True)
    children = fields.List(fields.Nested(lambda: Tree()))


class PlainTree(Schema):
    name = fields.Str()
    child = fields.Nested(lambda: PlainTree())
    children = fields.Dict(values=fields.Nested(lambda: PlainTree()))


def test_secrets_in_a_schema_that_contains_itself_are_masked() -> None:
    leaf = {"name": "leaf", "key": SECRET}
    given = {"name": "top", "children": [{"name": "middle", "children": [leaf]}]}
    masked = {"name": "leaf", "key": MASK}
    expected = {"name": "top", "children": [{"name": "middle", "children": [masked]}]}
    assert shown({"tree": fields.Nested(Tree)}, tree=given) == {"tree": expected}
    assert shown(Tree, **given) == expected


def test_schema_that_contains_itself_without_secrets_is_shown() -> None:
    given = {"name": "top", "child": {"name": "leaf"}, "children": {"a": {"name": "b"}}}
    assert shown({"tree": fields.Nested(PlainTree)}, tree=given) == {"tree": given}


def test_secret_further_down_than_the_schema_repeats_is_masked() -> None:
    class Outer(Schema):
        same = fields.Nested(lambda: Outer(exclude=("deep",)))
        deep = fields.Nested(lambda: Tree(only=("key",)))

    assert holds_secrets(fields.Nested(Outer))
    found = shown(Outer, same={"same": {}}, deep={"key": SECRET})
    assert found == {"same": {"same": {}}, "deep": {"key": MASK}}


def test_what_a_hook_makes_of_a_schema_with_secrets_is_masked() -> None:
    class Login(Schema):
        user = fields.Str()
        key = secret()

        @post_load
        def make(self, data: dict[str, Any], **kwargs: Any) -> Any:
            return f"{data['user']}:{data['key']}"

    declared = {"login": fields.Nested(Login)}
    assert shown(declared, login={"user": "ali", "key": SECRET}) == {"login": MASK}


def test_whatever_hooks_have_had_in_hand_is_masked_beside_secrets() -> None:
    class After(Schema):
        url = fields.Str()
        key = secret()

        @post_load
        def make(self, data: dict[str, Any], **kwargs: Any) -> Any:
            return {"url": f"https://{data['key']}@there", "new": data["key"]}

    class Before(Schema):
        url = fields.Str()
        key = secret()

        @pre_load
        def move(self, data: dict[str, Any], **kwargs: Any) -> Any:
            return {"url": f"https://{data['key']}@there"}

    assert shown(After, url="there", key=SECRET) == {"url": MASK, "new": MASK}
    assert shown(Before, key=SECRET) == {"url": MASK}
    declared = {"login": fields.Nested(After), "user": fields.Str()}
    found = shown(declared, login={"key": SECRET}, user="ali")
    assert found == {"login": {"url": MASK, "new": MASK}, "user": "ali"}


def test_hook_that_only_looks_hides_nothing_more() -> None:
    class Train(Schema):
        user = fields.Str()
        key = secret()

        @validates_schema
        def look(self, data: dict[str, Any], **kwargs: Any) -> None:
            assert data["key"] == SECRET

    assert shown(Train, user="ali", key=SECRET) == {"user": "ali", "key": MASK}


def test_hook_of_a_schema_without_secrets_hides_nothing() -> None:
    class Train(Schema):
        a = fields.Int()

        @post_load
        def make(self, data: dict[str, Any], **kwargs: Any) -> Any:
            return {**data, "b": 2}

    assert shown(Train, a=1) == {"a": 1, "b": 2}


def test_all_is_masked_when_it_cannot_be_told_what_is_secret() -> None:
    class Broken(Schema):
        tree = fields.Nested("NoSuchSchema")

    assert arguments_shown(Broken(), {"tree": {"key": SECRET}, "a": 1}) == {"tree": MASK, "a": MASK}


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_metadata_that_cannot_be_read_hides_all(error: type[BaseException]) -> None:
    class Odd(dict[str, Any]):
        def get(self, *args: Any) -> Any:
            raise error

    field = fields.Str()
    field.metadata = Odd()
    schema = Schema.from_dict({"a": field})()
    schema.load_fields["a"].metadata = Odd()
    assert arguments_shown(schema, {"a": SECRET}) == {"a": MASK}


@pytest.mark.parametrize(
    ("field", "holds"),
    [
        (fields.Str(), False),
        (secret(), True),
        (password(), True),
        (fields.Str(metadata={"format": "date"}), False),
        (fields.List(fields.Int()), False),
        (fields.List(secret()), True),
        (fields.Tuple((fields.Str(), fields.List(secret()))), True),
        (fields.Dict(), False),
        (fields.Dict(keys=secret()), True),
        (fields.Dict(values=fields.Nested(Tree)), True),
        (fields.Nested(PlainTree), False),
        (fields.Nested(Tree, exclude=("key",)), True),  # nested trees still have the key
        (fields.Nested(Tree, only=("name",)), False),
    ],
)
def test_field_holds_secrets(field: fields.Field, holds: bool) -> None:
    assert holds_secrets(field) is holds


# --- arbitrary values


_plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.none(), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), _plain, max_size=4))
def test_whatever_the_values_they_are_shown(values: Mapping[str, Any]) -> None:
    found = arguments_shown(Schema(), values)
    assert len(found) == len(values)
    assert exact_json.loads(exact_json.dumps(found)) == found


@given(_plain)
def test_whatever_comes_for_a_schema_with_secrets_the_secret_is_not_shown(value: Any) -> None:
    login = Schema.from_dict({"user": fields.Str(), "key": secret()})
    schema = Schema.from_dict({"login": fields.Nested(login), "keys": fields.List(secret())})()
    values = {"login": {"key": [SECRET, value], "user": "ali"}, "keys": [value, SECRET], "x": value}
    found = arguments_shown(schema, values)
    assert SECRET not in str(found)
    assert found["login"]["user"] == "ali"
