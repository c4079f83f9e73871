"""Plain values take a fast path; its results must equal those of marshmallow."""

from __future__ import annotations

import copy
import enum
from collections.abc import Callable
from typing import Any

import marshmallow
import pytest
import webargs
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from marshmallow import Schema, ValidationError, validate

from deepaas.model.v2.arguments import Arguments
from deepaas.model.v2.exchange import Call
from tests.conftest import short_and_long

fields = webargs.fields
LIBRARIES = [webargs.fields, marshmallow.fields]

Recipe = Callable[[], Any]
"""Creates a new field, the same at every call."""


class OddList(fields.List):
    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        return {"odd": super()._deserialize(value, attr, data, **kwargs)}


class OddFloat(fields.Float):
    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        if value == 1:
            raise ValidationError("One is odd.")
        number: Any = super()._deserialize(value, attr, data, **kwargs)
        return -number


class OddInteger(fields.Integer):
    def _validated(self, value: Any) -> Any:
        return str(super()._validated(value))


class FloatOfItsOwn(float):
    pass


class IntegerOfItsOwn(enum.IntEnum):
    ONE = 1


def refuse_long_sums(value: Any) -> None:
    if len(str(value)) > 12:
        raise ValidationError({"sum": ["Too long."]})


# --- fields ----------------------------------------------------------------------------------

_scalar_validators = st.sampled_from(
    [
        None,
        None,
        validate.Range(min=0, max=10),
        [validate.OneOf([0, 1, 2.5])],
        [],
    ]
)
_list_validators = st.sampled_from(
    [
        None,
        None,
        validate.Length(min=1, max=3),
        [validate.Length(max=2), validate.ContainsOnly([0, 1, 1.5])],
        validate.ContainsOnly([0, 1]),
        refuse_long_sums,
    ]
)


def _given(**strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for keyword arguments, each of which may be left out."""
    return st.fixed_dictionaries({}, optional=strategies)


def _recipe(kind: Any, options: dict[str, Any]) -> Recipe:
    return lambda: kind(**copy.deepcopy(options))


_booleans = st.booleans()
_numbers: st.SearchStrategy[Recipe] = st.one_of(
    st.builds(
        _recipe,
        st.sampled_from([*(library.Float for library in LIBRARIES), OddFloat]),
        _given(
            allow_nan=_booleans,
            as_string=_booleans,
            allow_none=_booleans,
            validate=_scalar_validators,
            load_default=st.just(1.5),
        ),
    ),
    st.builds(
        _recipe,
        st.sampled_from([*(library.Integer for library in LIBRARIES), OddInteger]),
        _given(
            strict=_booleans,
            as_string=_booleans,
            allow_none=_booleans,
            validate=_scalar_validators,
            required=_booleans,
        ),
    ),
)
_classes: list[Recipe] = [lambda: fields.Float, lambda: fields.Int]
_others: list[Recipe] = [fields.Str, fields.Bool, fields.Decimal]
_scalars = _numbers | st.sampled_from([*_classes, *_others])


def _list_recipe(kind: Any, inner: Recipe, options: dict[str, Any]) -> Recipe:
    return lambda: kind(inner(), **copy.deepcopy(options))


def _lists_of(inner: st.SearchStrategy[Recipe]) -> st.SearchStrategy[Recipe]:
    options = st.one_of(
        _given(validate=_list_validators, allow_none=_booleans, load_default=st.just([1.0])),
        _given(validate=_list_validators, required=_booleans, data_key=st.just("wire")),
    )
    kinds = st.sampled_from([*(library.List for library in LIBRARIES), OddList])
    return st.builds(_list_recipe, kinds, inner, options)


_lists = _lists_of(_scalars)
lists_of_numbers = _lists_of(_numbers)
list_fields = st.one_of(_lists, _lists, _lists_of(_lists), _lists_of(_lists_of(_lists)))

# --- values ----------------------------------------------------------------------------------

_floats = st.floats() | st.sampled_from([-0.0, 1.0, 1e308, float("nan"), float("inf")])
_integers = st.integers() | st.integers(-2, 12) | st.integers(2**60, 2**1100)
_anything = st.one_of(
    _floats,
    _integers,
    st.booleans(),
    st.none(),
    st.text(max_size=3),
    st.sampled_from(["1", "1.5", "nan", "1e999", FloatOfItsOwn(1.5), IntegerOfItsOwn.ONE, b"1"]),
)


def _collections_of(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(items, max_size=5)
    return lists | lists | lists.map(tuple)


_finite = st.floats(allow_nan=False, allow_infinity=False)
_flat = st.one_of(*map(_collections_of, (_finite, _floats, _integers, st.booleans(), _anything)))
values = st.one_of(
    _flat,
    _flat,
    _collections_of(_flat),
    _collections_of(_collections_of(_flat)),
    _collections_of(_anything | _flat),
    _anything,
    st.dictionaries(st.text(max_size=1), _finite, max_size=2),
    st.just(marshmallow.missing),
)


numbers = st.one_of(
    st.lists(_finite, max_size=4), st.lists(_floats, max_size=4), st.lists(_integers, max_size=4)
)


def exact(value: Any) -> Any:
    """Return the value with the types of all its parts, so that 1 is not 1.0 and nan equals nan."""
    if isinstance(value, dict):
        return dict, [(exact(key), exact(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [exact(item) for item in value]
    return type(value), repr(value)


def outcome(schema: Schema, name: str, value: Any) -> Any:
    """Return the value that the schema loads, or the reason why it loads none."""
    data = {} if value is marshmallow.missing else {name: value}
    try:
        return "loaded", exact(schema.load(data))
    except ValidationError as error:
        return "refused", exact(error.messages), exact(error.valid_data)
    except Exception as error:
        return "raised", type(error), str(error)


def schema_of(field: Any) -> Schema:
    """Return the schema that loads requests, including its fast path."""
    return Arguments({"x": field})._schema


def assert_equal(recipe: Recipe, value: Any) -> None:
    """Fail if the fast path and marshmallow treat the value differently."""
    plain = Schema.from_dict({"x": recipe()})()
    name = plain.fields["x"].data_key or "x"
    before = exact(value)
    assert outcome(schema_of(recipe()), name, value) == outcome(plain, name, value)
    assert exact(value) == before


few_or_many = pytest.mark.parametrize("examples", short_and_long([100], [1000]))


@few_or_many
def test_answer_is_that_of_marshmallow(examples: int) -> None:
    settings(max_examples=examples)(given(list_fields, values)(assert_equal))()


@few_or_many
def test_answer_is_that_of_marshmallow_for_lists_of_numbers(examples: int) -> None:
    settings(max_examples=examples)(given(lists_of_numbers, numbers)(assert_equal))()


# --- several arguments -----------------------------------------------------------------------


class OddText(fields.String):
    def deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        return [super().deserialize(value, *args, **kwargs)]


_texts: st.SearchStrategy[Recipe] = st.one_of(
    st.builds(
        _recipe,
        st.sampled_from([fields.Str, marshmallow.fields.Str, OddText]),
        _given(
            required=_booleans,
            allow_none=_booleans,
            validate=st.sampled_from([validate.Length(max=2), [validate.OneOf(["", "1"])]]),
        ),
    ),
    st.builds(
        _recipe,
        st.just(fields.Bool),
        _given(
            truthy=st.sampled_from([{"yes"}, {True, "yes"}, {1}, {False}, set()]),
            falsy=st.sampled_from([{"no"}, {False, "no"}, {0}, {True}]),
            load_default=st.just(True),
        ),
    ),
    st.builds(
        _recipe,
        st.sampled_from([fields.Str, fields.Float, fields.Int]),
        _given(
            data_key=st.sampled_from(["wire", "a", ""]),
            attribute=st.sampled_from(["inside", "b", "in.side"]),
            load_only=_booleans,
            dump_only=_booleans,
            load_default=st.sampled_from([None, 1, marshmallow.missing]),
        ),
    ),
)
_names = st.sampled_from(["a", "b", "wire", "in.side"])
_declared = st.dictionaries(_names, _numbers | _texts | _texts | _lists, min_size=1, max_size=3)
_sent = st.dictionaries(st.sampled_from(["a", "b", "wire", "in.side", ""]), _anything | _flat)


def made_of(schema: Schema, gathered: dict[str, Any]) -> Any:
    """Return the loaded arguments in sorted order, or None if the schema refuses them."""
    try:
        return exact(sorted(schema.load(gathered).items()))
    except ValidationError:
        return None
    except Exception as error:
        return type(error), str(error)


def simply(arguments: Arguments, gathered: dict[str, Any]) -> Any:
    """Return the result of the fast path, or None if it leaves the arguments to the schema."""
    try:
        loaded = arguments._load_simply(gathered)
    except Exception as error:
        return type(error), str(error)
    return None if loaded is None else exact(sorted(loaded.items()))


@few_or_many
def test_arguments_are_those_of_marshmallow(examples: int) -> None:
    settings(max_examples=examples)(given(_declared, _sent)(assert_equal_arguments))()


def assert_equal_arguments(declared: dict[str, Recipe], sent: Any) -> None:
    try:
        plain = Schema.from_dict({name: recipe() for name, recipe in declared.items()})()
    except ValueError:  # two arguments have the same name
        reject()
    arguments = Arguments({name: recipe() for name, recipe in declared.items()})
    gathered = {one.name: sent[one.name] for one in arguments._arguments if one.name in sent}
    assert simply(arguments, gathered) in (None, made_of(plain, gathered))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (fields.Float(), 1.5),
        (fields.Int(required=True), 1),
        (fields.Str(allow_none=True), "abc"),
        (fields.Bool(data_key="wire"), False),
        (fields.Int(load_default=3), marshmallow.missing),
        (fields.Float(validate=validate.Range(min=0)), 2),
        (fields.Nested(Schema.from_dict({"x": fields.Int()})), {"x": 1}),
    ],
)
def test_schema_is_not_asked_about_valid_values(field: Any, value: Any) -> None:
    arguments = Arguments({"x": field, "y": fields.Str(load_default="y")})
    name = field.data_key or "x"
    gathered = {} if value is marshmallow.missing else {name: value}
    expected = arguments._schema.load(gathered)
    assert exact(arguments._load_simply(gathered)) == exact(expected)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (fields.Float(), float("nan")),
        (fields.Float(), float("-inf")),
        (fields.Bool(truthy={"yes"}), True),
        (fields.Bool(falsy={"no"}), False),
        (fields.Str(validate=validate.Length(max=2)), "abc"),
        (fields.Int(required=True), marshmallow.missing),
        (fields.Str(), None),
        (fields.Int(strict=True), 1.5),
    ],
)
def test_schema_says_what_is_wrong(field: Any, value: Any) -> None:
    arguments = Arguments({"x": field})
    gathered = {} if value is marshmallow.missing else {"x": value}
    with pytest.raises(ValidationError):
        arguments._schema.load(gathered)
    assert arguments._load_simply(gathered) is None


def _negative(data: Any, **kwargs: Any) -> Any:
    return {"x": -data["x"]}


@pytest.mark.parametrize("kind", [marshmallow.pre_load, marshmallow.post_load])
def test_schema_of_the_author_is_always_asked(kind: Any) -> None:
    hook = kind(lambda self, data, **kwargs: _negative(data))
    author = type("Author", (Schema,), {"x": fields.Int(), "hook": hook})
    call = Call(content_type="application/json", body=b'{"x": 5}')
    assert Arguments(author).load(call)[0] == {"x": -5}
    assert Arguments(author()).load(call)[0] == {"x": -5}


# --- where the fast path is taken ------------------------------------------------------------


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list of the numbers that marshmallow has validated one by one."""
    seen: list[Any] = []
    original = marshmallow.fields.Number._validated

    def spy(self: Any, value: Any) -> Any:
        seen.append(value)
        return original(self, value)

    monkeypatch.setattr(marshmallow.fields.Number, "_validated", spy)
    return seen


def load(field: Any, value: Any) -> Any:
    loaded: Any = schema_of(field).load({"x": value})
    return loaded["x"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (fields.List(fields.Float()), [1.5, -0.0]),
        (fields.List(fields.Float), [1.5]),
        (fields.List(fields.Float()), [1e308, 1e308]),
        (fields.List(marshmallow.fields.Float(allow_nan=True)), [1.5]),
        (fields.List(fields.Float(allow_none=True, as_string=True)), [1.5]),
        (fields.List(fields.Float(), validate=validate.Length(max=3)), [1.5]),
        (fields.List(fields.Float(), required=True, allow_none=True), [1.5]),
        (fields.List(fields.Int()), [1, 2**80]),
        (fields.List(fields.Int(strict=True)), [1]),
        (fields.List(fields.List(fields.Float())), [[1.5], [2.5]]),
        (fields.List(fields.List(fields.List(fields.Int()))), [[[1]], []]),
    ],
)
def test_plain_list_of_numbers_is_not_looked_at_one_by_one(
    looked_at: list[Any], field: Any, value: Any
) -> None:
    assert exact(load(field, value)) == exact(value)
    assert looked_at == []


@pytest.mark.parametrize(
    ("field", "value", "loaded"),
    [
        (fields.List(fields.Float()), [1.5, 1], [1.5, 1.0]),
        (fields.List(fields.Float()), [1, 2], [1.0, 2.0]),
        (fields.List(fields.Float()), ["1.5"], [1.5]),
        (fields.List(fields.Float()), (1.5,), [1.5]),
        (fields.List(fields.Float()), [FloatOfItsOwn(1.5)], [1.5]),
        (fields.List(fields.Float(validate=validate.Range(min=0))), [1.5], [1.5]),
        (fields.List(fields.Float(allow_nan=True)), [1.5, float("inf")], [1.5, float("inf")]),
        (fields.List(fields.Int()), [1.5], [1]),
        (fields.List(fields.Int()), [1, "2"], [1, 2]),
        (fields.List(fields.Int()), [IntegerOfItsOwn.ONE], [1]),
        (fields.List(OddFloat()), [2.5], [-2.5]),
        (fields.List(OddInteger()), [2], ["2"]),
        (OddList(fields.Float()), [2.5], {"odd": [2.5]}),
        (fields.List(OddList(fields.Int())), [[2]], [{"odd": [2]}]),
    ],
)
def test_all_else_is_left_to_marshmallow(
    looked_at: list[Any], field: Any, value: Any, loaded: Any
) -> None:
    assert exact(load(field, value)) == exact(loaded)
    assert len(looked_at) > 0


@pytest.mark.parametrize("value", [[True], [1.5, True], [float("nan")], [None], [1.5, None]])
def test_what_only_looks_like_a_number_is_refused(value: list[Any]) -> None:
    with pytest.raises(ValidationError):
        load(fields.List(fields.Float()), value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (fields.List(fields.Float()), [1.5]),
        (fields.List(fields.Int()), [1]),
        (fields.List(fields.List(fields.Int())), [[1]]),
    ],
)
def test_change_of_the_result_does_not_reach_the_request(field: Any, value: list[Any]) -> None:
    before = copy.deepcopy(value)
    loaded = load(field, value)
    if isinstance(loaded[0], list):
        loaded[0].append(7)
    loaded.append(7)
    assert value == before


def test_the_declared_field_stays_as_it_was() -> None:
    declared = fields.List(fields.List(fields.Float()))
    inner = declared.inner
    Arguments({"x": declared})
    assert type(declared) is fields.List
    assert declared.inner is inner
    assert type(inner) is fields.List


def test_schema_class_of_the_model_stays_as_it_was() -> None:
    declared = Schema.from_dict({"x": fields.List(fields.Float())})
    Arguments(declared)
    assert type(declared().load_fields["x"]) is fields.List


def test_schema_instance_of_the_model_keeps_its_fields() -> None:
    declared = Schema.from_dict({"x": fields.List(fields.List(fields.Float()))})()
    field = declared.fields["x"]
    assert isinstance(field, fields.List)
    inner = field.inner
    Arguments(declared)
    assert declared.fields["x"] is field
    assert field.inner is inner
    assert (type(field), type(inner)) == (fields.List, fields.List)
