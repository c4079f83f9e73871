"""Arguments that are derived from type hints.

`test_hints_property.py` compares them with fields that are written by hand.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional, TypedDict

import annotated_types as at
import numpy as np
import numpy.typing as npt
import pydantic
import pytest
from marshmallow import Schema, ValidationError, fields, validate

from deepaas.exceptions import ModelMistakeError
from deepaas.file_part import FilePart
from deepaas.model.v2.arguments import Arguments
from deepaas.model.v2.declarations import declared_fields
from deepaas.model.v2.docstrings import texts_of
from deepaas.model.v2.exchange import Call
from deepaas.model.v2.json_schema import Schemas, notes_of
from deepaas.model.v2.result_hints import schema_of_result
from deepaas.model.v2.validation import validate as validated
from deepaas.model.v2.wrapper import ModelWrapper, UploadedFile
from tests.model.v2.calls import by_json, by_parts, load, refusal

HEAD = """\
import functools
from typing import *
import numpy as np
import numpy.typing as npt
import annotated_types as at
import pydantic
from pathlib import Path
from marshmallow import fields, validate
from deepaas.model.v2.wrapper import UploadedFile
"""


class Model:
    """A model whose `predict` is any callable."""

    def __init__(self, predict: Any = None, **functions: Any) -> None:
        if predict is not None:
            self.predict = predict
        vars(self).update(functions)


def hinted(function: Any, name: str = "predict", notes: list[str] | None = None) -> Any:
    model = ModelWrapper("made", Model(**{name: function}))
    return declared_fields(model, name, notes)


def for_hint(hint: Any, **default: Any) -> Any:
    """Return the fields of a function with one parameter, x, with this type hint."""

    def predict(x): ...  # type: ignore[no-untyped-def]

    predict.__annotations__["x"] = hint
    if default:
        predict.__defaults__ = (default["default"],)
    return hinted(predict)


def mistake(hint: Any, **default: Any) -> str:
    """Return what is said about a parameter with this type hint, without the place."""
    with pytest.raises(ModelMistakeError) as raised:
        for_hint(hint, **default)
    return raised.value.lines[0].partition("of predict ")[2]


def note(hint: Any, default: Any) -> str:
    """Return what is said about a parameter that is not offered."""

    def predict(x=default): ...  # type: ignore[no-untyped-def]

    predict.__annotations__["x"] = hint
    notes: list[str] = []
    assert hinted(predict, notes=notes) == {}
    (line,) = notes
    return line.partition("because it ")[2]


# --- objects


@dataclasses.dataclass
class Box:
    """A box.

    Attributes:
        left: In pixels
    """

    left: int
    inner: Box | None = None
    labels: list[str] = dataclasses.field(default_factory=list)
    area: float = dataclasses.field(init=False, default=0)

    def __post_init__(self) -> None:
        if self.left < 0:
            raise ValueError("left must not be negative")


class Point(NamedTuple):
    x: float
    y: float = 0.0


class Size(TypedDict):
    width: int


class Options(Size, total=False):
    name: str


class Item(pydantic.BaseModel):
    count: int = pydantic.Field(ge=0, description="How many")
    tags: list[str] = []
    parent: Optional[Item] = None  # noqa: UP045
    kind: Annotated[str, pydantic.Field(alias="type")] = "a"


def test_dataclass_is_made_from_an_object() -> None:
    sent = {"left": 1, "inner": {"left": 2, "labels": ["a"]}}
    assert load(for_hint(Box), by_json({"x": sent})) == {"x": Box(1, Box(2, None, ["a"]))}


@pytest.mark.parametrize(
    ("sent", "messages"),
    [
        ({}, {"left": ["Missing data for required field."]}),
        (
            {"left": "a", "rihgt": 1},
            {"left": ["Not a valid integer."], "rihgt": ["Unknown field."]},
        ),
        ({"left": 1, "inner": {"left": "a"}}, {"inner": {"left": ["Not a valid integer."]}}),
        ({"left": -1}, {"_schema": ["left must not be negative"]}),
        (3, {"_schema": ["Invalid input type."]}),
    ],
)
def test_mistakes_in_a_dataclass_stand_beside_the_value(sent: Any, messages: Any) -> None:
    assert refusal(for_hint(Box), by_json({"x": sent})) == (422, {"x": messages})


def test_named_tuple_and_typed_dict_are_made_from_objects() -> None:
    assert load(for_hint(Point), by_json({"x": {"x": 1}})) == {"x": Point(1.0, 0.0)}
    assert load(for_hint(Options), by_json({"x": {"width": 1}})) == {"x": {"width": 1}}
    assert refusal(for_hint(Options), by_json({"x": {}}))[0] == 422


def test_pydantic_model_is_validated_by_pydantic() -> None:
    sent = {"count": 1, "parent": {"count": 2}, "type": "b"}
    loaded = load(for_hint(Item), by_json({"x": sent}))
    assert loaded == {"x": Item.model_validate(sent)}


@pytest.mark.parametrize(
    ("sent", "messages"),
    [
        ({"count": -1}, {"count": ["Input should be greater than or equal to 0"]}),
        (
            {"count": 1, "tags": ["a", 1], "parent": {}},
            {
                "tags": {1: ["Input should be a valid string"]},
                "parent": {"count": ["Field required"]},
            },
        ),
    ],
)
def test_mistakes_in_a_pydantic_model_have_the_form_of_marshmallow(
    sent: Any, messages: Any
) -> None:
    assert refusal(for_hint(Item), by_json({"x": sent})) == (422, {"x": messages})


def test_objects_are_described() -> None:
    schemas = Schemas()
    for hint in (Box, Item):
        schemas.of_field(for_hint(hint)["x"])
    box, item = schemas.nested["Box"], schemas.nested["Item"]
    assert box["required"] == ["left"]
    assert box["properties"]["left"]["description"] == "In pixels"
    assert set(box["properties"]) == {"left", "inner", "labels"}
    assert item["properties"]["count"] == {
        "type": "integer",
        "minimum": 0,
        "description": "How many",
    }
    assert "type" in item["properties"]
    assert "additionalProperties" not in item


# --- collections, arrays


def test_collections_have_the_types_of_the_hints() -> None:
    def predict(a: set[str], b: frozenset[int], c: tuple[float, ...], d: tuple[int, str]) -> None:
        pass

    sent = {"a": ["x", "x"], "b": [1], "c": [1], "d": [1, "a"]}
    loaded = load(hinted(predict), by_json(sent))
    assert repr(loaded) == repr({"a": {"x"}, "b": frozenset({1}), "c": (1.0,), "d": (1, "a")})


Rows = np.ndarray[tuple[int, int], np.dtype[np.int8]]


def test_set_of_objects_is_refused() -> None:
    assert refusal(for_hint(set[dict[str, int]]), by_json({"x": [{}]})) == (
        422,
        {"x": ["A set cannot have lists or objects in it."]},
    )


@pytest.mark.parametrize(
    ("hint", "sent", "expected"),
    [
        (np.ndarray, [[1, 2], [3, 4]], np.array([[1, 2], [3, 4]])),
        (npt.NDArray[np.float32], [1, 2.5], np.array([1, 2.5], np.float32)),
        (npt.NDArray[np.float64], ["1", "2.5"], np.array([1, 2.5])),
        (npt.NDArray[np.bool_], [True, False], np.array([True, False])),
        (npt.NDArray[np.int64], [1.0, 2], np.array([1, 2])),
        (npt.NDArray[np.float32], [], np.array([], np.float32)),
        (Rows, [[1, -128]], np.array([[1, -128]], np.int8)),
    ],
)
def test_nested_lists_become_arrays(hint: Any, sent: Any, expected: Any) -> None:
    loaded = load(for_hint(hint), by_json({"x": sent}))["x"]
    assert loaded.dtype == expected.dtype
    assert loaded.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("hint", "sent", "message"),
    [
        (np.ndarray, [[1, 2], [3]], "unequal lengths, from 1 to 2"),
        (np.ndarray, [1, [2]], "both numbers and lists"),
        (np.ndarray, ["a"], "nested lists of numbers only"),
        (np.ndarray, [None], "nested lists of numbers only"),
        (np.ndarray, [{"a": 1}], "nested lists of numbers only"),
        (np.ndarray, b'{"x": [NaN]}', "NaN"),
        (npt.NDArray[np.float32], [1e300], "at most 3.4"),
        (npt.NDArray[np.int64], [1.5], "whole numbers"),
        (npt.NDArray[np.int64], [2**70], "nested lists of numbers only"),
        (npt.NDArray[np.bool_], [1], "true and false"),
        (Rows, [[400]], "from -128 to 127"),
        (Rows, [1], "Must have 2 axes, but has 1, with the shape (1,)"),
        (np.ndarray, json.loads("[" * 100 + "]" * 100), "numbers"),
    ],
)
def test_mistakes_in_arrays_are_told(hint: Any, sent: Any, message: str) -> None:
    call = by_json(sent if isinstance(sent, bytes) else {"x": sent})
    _, messages = refusal(for_hint(hint), call)
    assert message in messages["x"][0]


def test_array_is_described_with_its_axes() -> None:
    schema = Schemas().of_field(for_hint(Rows)["x"])
    assert schema == {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}}
    (note,) = notes_of(for_hint(Rows)["x"])
    assert note.startswith("Nested lists of numbers that fit in int8; ")


# --- files


def part(path: Path, content: bytes, filename: str = "a.txt") -> FilePart:
    path.write_bytes(content)
    return FilePart(str(path), "text/plain", filename)


def test_files_come_as_paths_contents_and_lists(tmp_path: Path) -> None:
    def predict(a: UploadedFile, b: Path, c: bytes, d: list[Path], e: tuple[UploadedFile, ...]):  # type: ignore[no-untyped-def]
        pass

    parts = [(name, part(tmp_path / name, name.encode())) for name in "abcde"]
    loaded = load(hinted(predict), by_parts(*parts))
    assert isinstance(loaded["a"], UploadedFile)
    assert loaded["b"] == tmp_path / "b"
    assert loaded["c"] == b"c"
    assert loaded["d"] == [tmp_path / "d"]
    assert [one.filename for one in loaded["e"]] == [str(tmp_path / "e")]


@pytest.mark.parametrize("hint", [UploadedFile, Path, bytes, list[Path], tuple[bytes, ...]])
def test_text_is_no_file(hint: Any) -> None:
    _, messages = refusal(for_hint(hint), by_parts(("x", "/etc/passwd")))
    assert "Send it as a part of a multipart form" in json.dumps(messages)


def test_file_that_was_not_chosen_is_absent(tmp_path: Path) -> None:
    empty = by_parts(("x", part(tmp_path / "x", b"", "")))
    assert refusal(for_hint(UploadedFile), empty)[1] == {"x": ["Missing data for required field."]}
    assert load(for_hint(UploadedFile | None), empty) == {"x": None}
    assert load(for_hint(Path, default=None), empty) == {"x": None}
    assert load(for_hint(list[Path]), empty) == {"x": []}


def test_records_show_no_path_and_no_contents(tmp_path: Path) -> None:
    def predict(a: Path, b: bytes, c: list[Path], secret: Secret): ...  # type: ignore[no-untyped-def]

    parts = [(name, part(tmp_path / f"{name}.txt", b"123")) for name in "abc"]
    call = by_parts(*parts, ("secret", "s"))
    body = validated(Arguments(hinted(predict)), call).body.partition(b"\n")[0]
    args = json.loads(body)["args"]
    assert args == {"a": "a.txt", "b": "(3 bytes)", "c": ["c.txt"], "secret": "********"}


Secret = Annotated[str, fields.Str(load_only=True)]


# --- constraints


@pytest.mark.parametrize(
    ("hint", "valid", "invalid"),
    [
        (Annotated[int, at.Gt(0)], 1, 0),
        (Annotated[int, at.MultipleOf(5)], 10, 11),
        (Annotated[float, at.MultipleOf(0.1)], 0.3, 0.35),
        (at.LowerCase[str], "a", "A"),
        (Annotated[float, at.Predicate(lambda x: x < 2)], 1, 3),
        (Annotated[str, at.Len(2, 2)], "ab", "a"),
        (Annotated[list[int], at.MinLen(1)], [1], []),
        (list[Annotated[int, validate.Range(min=1)]], [1], [0]),
        (Annotated[int | None, validate.Range(min=1)], None, 0),
        (Annotated[int, pydantic.Field(ge=2, description="d")], 2, 1),
        (Annotated[str, validate.Regexp("a+")], "a", "b"),
        (Annotated[str, validate.And(validate.Length(1), validate.NoneOf(["x"]))], "a", "x"),
        (Annotated[NewType("Score", float), at.Le(1)], 1, 2),
        (int | float, 1.5, "a"),
        (Literal["a", None], None, "b"),
    ],
)
def test_constraints(hint: Any, valid: Any, invalid: Any) -> None:
    declared = for_hint(hint)
    assert load(declared, by_json({"x": valid}))["x"] == valid
    assert refusal(declared, by_json({"x": invalid}))[0] == 422


def test_functions_are_constraints() -> None:
    def is_even(value: int) -> None:
        if value % 2:
            raise ValidationError("Must be even.")

    declared = for_hint(Annotated[int, is_even])
    assert refusal(declared, by_json({"x": 1})) == (422, {"x": ["Must be even."]})


def test_texts_in_annotated_are_descriptions() -> None:
    assert for_hint(Annotated[int, "How many"])["x"].metadata["description"] == "How many"


def test_own_field_is_used_with_the_default_of_the_parameter() -> None:
    class Doubled(fields.Int):
        def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
            return 2 * super()._deserialize(value, *args, **kwargs)  # type: ignore[operator]

    own = Doubled(data_key="wire", metadata={"title": "T"})
    declared = for_hint(Annotated[int, own], default=3)
    assert type(declared["x"]) is Doubled
    assert load(declared, by_json({})) == {"x": 3}
    assert load(declared, by_json({"wire": 2})) == {"x": 4}
    assert for_hint(Annotated[int, own])["x"].required
    assert not own.required


# --- mistakes

MISTAKES: list[tuple[Any, str]] = [
    (complex, "has the type complex, which no value of a request can have; "),
    (Callable[[int], int], "has the type collections.abc.Callable"),
    ([int], "has the type hint [<class 'int'>], which cannot be read"),
    (3, "has the type 3, which no value of a request can have"),
    (int | str, "has several types, int | str; "),
    (Literal["a", 1], "lists choices of different types; "),
    (dict[str, UploadedFile], "has a file inside of another value; "),
    (list[list[UploadedFile]], "has files in a list in a list; "),
    (npt.NDArray[np.str_], "has an array of <U0, which JSON cannot hold; "),
    (Annotated[str, at.Ge(1)], "has a constraint on its range, but a text has no order; "),
    (Annotated[int, validate.Length(1)], "has a constraint on its length, but a number has none"),
    (Annotated[int, validate.Range(min="a")], "has the limit 'a', which is not a number; "),
    (Annotated[int, validate.OneOf(["a"])], "has the choice 'a', which is not a number; "),
    (Annotated[int, validate.Email()], "has the constraint Email, which only a text can meet; "),
    (Annotated[int, at.Ge(2), at.Le(1)], "has limits of its range that exclude every value"),
    (Annotated[int, at.Ge(2), at.Gt(1)], "has a second limit, Gt(gt=1); "),
    (Annotated[str, at.MinLen(2), at.MaxLen(1)], "has limits of its length that exclude every"),
    (Annotated[Literal[1, 2], at.Ge(3)], "has constraints that none of its choices meets"),
    (Annotated[int, validate.Range], "has the class validate.Range; write validate.Range()"),
    (
        Annotated[str, at.MultipleOf(2)],
        "has the constraint MultipleOf, which only a number can meet; ",
    ),
]


@pytest.mark.parametrize(("hint", "text"), MISTAKES)
def test_hints_that_cannot_be_used_are_told(hint: Any, text: str) -> None:
    assert mistake(hint).startswith(text)


@pytest.mark.parametrize(
    ("hint", "default"),
    [
        (int, 0.5),
        (int, "1"),
        (str, 1),
        (bool, 1),
        (Literal["a"], "b"),
        (UploadedFile, "a.png"),
        (Annotated[str, at.MinLen(1)], ""),
        (list[int], ["a"]),
        (Box, {"left": 1}),
    ],
)
def test_default_that_the_hint_does_not_allow_is_told(hint: Any, default: Any) -> None:
    assert note(hint, default).startswith("does not allow its own default ")


@pytest.mark.parametrize(
    ("hint", "default"),
    [
        (float, 1),
        (float, float("inf")),
        (list[int], ()),
        (Any, len),
        (Box, Box(1)),
        (Point, Point(1)),
        (Item, Item(count=1)),
        (npt.NDArray[np.float32], np.zeros(2)),
        (set[str], frozenset({"a"})),
        (dict[str, int], {"a": 1}),
    ],
)
def test_default_is_passed_as_it_is(hint: Any, default: Any) -> None:
    assert load(for_hint(hint, default=default), by_json({}))["x"] is default


def test_member_of_a_class_with_an_unusable_hint_is_named() -> None:
    @dataclasses.dataclass
    class Wrong:
        value: complex

    assert mistake(Wrong).startswith("has 'value' in Wrong, whose type hint has the type complex")


# --- functions


@pytest.fixture
def load_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Write code to `made.py`, from its line 10, and import the file as a module."""
    monkeypatch.chdir(tmp_path)

    def load_module(code: str, head: str = HEAD) -> ModuleType:
        path = tmp_path / "made.py"
        path.write_text(head + code)
        spec = importlib.util.spec_from_file_location("made", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "made", module)
        spec.loader.exec_module(module)
        return module

    return load_module


def test_kinds_of_functions() -> None:
    def plain(x: float, y: int = 1) -> None: ...
    async def awaited(x: float, *, y: int = 1) -> None: ...
    def yielding(x: float, y: int = 1, **kwargs: Any) -> Iterator[int]:
        yield 1

    @functools.wraps(plain)
    def decorated(*args: Any, **kwargs: Any) -> None:
        return plain(*args, **kwargs)

    class Called:
        def __call__(self, x: float, y: int = 1) -> None: ...

        def method(self, x: float, y: int = 1) -> None: ...

        @staticmethod
        def static(x: float, y: int = 1) -> None: ...

    def three(weights: list[float], x: float, y: int = 1) -> None: ...

    functions = [plain, awaited, yielding, decorated, Called(), Called().method, Called.static]
    for function in [*functions, functools.partial(three, [1.0])]:
        declared = hinted(function)
        assert list(declared) == ["x", "y"]
        assert declared["x"].required
        assert declared["y"].load_default == 1


def test_decorator_may_give_arguments_itself() -> None:
    def predict(weights: object, x: float, other: complex) -> None: ...

    @functools.wraps(predict)
    def only_x(x: float) -> None:
        return predict(1, x, 1j)

    @functools.wraps(predict)
    def with_any(**kwargs: Any) -> None:
        return predict(other=1j, **kwargs)

    assert list(hinted(only_x)) == ["x"]
    assert list(hinted(with_any)) == ["weights", "x"]


def test_name_of_the_arguments_of_a_decorator_is_no_argument() -> None:
    def predict(kwargs):  # type: ignore[no-untyped-def]
        return kwargs

    @functools.wraps(predict)
    def all_in_one(**kwargs: Any) -> Any:
        return predict(kwargs)  # type: ignore[no-untyped-call]

    assert hinted(all_in_one) == {}


def test_parameters_that_are_not_offered() -> None:
    def predict(x: float = 1, _cache: dict = {}, size=3, /, *rest: int, **kwargs: int): ...  # type: ignore[no-untyped-def, type-arg] # noqa: B006

    notes: list[str] = []
    assert hinted(predict, notes=notes) == {}
    assert notes == []

    def other(_cache: dict = {}, size=3): ...  # type: ignore[no-untyped-def, type-arg] # noqa: B006

    assert hinted(other, notes=notes) == {}
    (line,) = notes
    assert line.endswith("'size' of predict is not offered, because it has no type hint; "
                         "write size: int = 3")  # fmt: skip


def test_declared_fields_win() -> None:
    def predict(x: complex) -> None: ...

    model = Model(predict, get_predict_args=lambda: {"x": fields.Int()})
    assert type(declared_fields(ModelWrapper("made", model), "predict")["x"]) is fields.Int


def test_function_without_a_signature_has_no_arguments() -> None:
    assert hinted(print) == {}

    def predict(x: float) -> None: ...

    predict.__wrapped__ = predict  # type: ignore[attr-defined]
    assert hinted(predict) == {}
    assert hinted(max) == {}


def test_train_is_read_in_the_same_way() -> None:
    def train(epochs: Annotated[int, at.Ge(1)] = 2) -> None: ...

    declared = hinted(train, "train")
    assert declared["epochs"].load_default == 2


def test_texts_of_hints_are_resolved_in_the_module(load_module: Callable[..., ModuleType]) -> None:
    head = "from __future__ import annotations\n" + HEAD
    module = load_module(
        "class Model:\n    class Mode(TypedDict):\n        x: int\n"
        "    def predict(self, mode: Mode, x: 'Annotated[int, at.Ge(0)]' = 1): pass\n",
        head,
    )
    declared = declared_fields(ModelWrapper("made", module.Model()), "predict")
    assert type(declared["mode"]) is fields.Nested
    assert type(declared["x"]) is fields.Integer


def test_mistake_has_the_line_of_its_parameter(load_module: Callable[..., ModuleType]) -> None:
    module = load_module("def predict(\n    a: int,\n    b: complex,\n    c: Nope,\n): pass\n",
                         "from __future__ import annotations\n")  # fmt: skip
    with pytest.raises(ModelMistakeError) as raised:
        declared_fields(ModelWrapper("made", module), "predict")
    first, second = raised.value.lines
    assert first.startswith("made.py:4: the argument 'b' of predict has the type complex")
    assert second.startswith("made.py:5: the argument 'c' of predict has the type hint Nope, in ")


def test_accept_is_never_missing() -> None:
    declared = hinted(_accepts)
    arguments = Arguments(declared)
    assert not declared["accept"].required
    assert arguments.media_types == ["image/png", "application/json"]
    assert arguments.load(Call()) == ({"accept": "image/png"}, "image/png")


def _accepts(accept: Literal["image/png", "application/json"]) -> None: ...


def test_batch_takes_the_keys_of_a_typed_dict() -> None:
    def predict_batch(batch: list[Options]) -> list[int]:
        return []

    declared = declared_fields(ModelWrapper("made", Model(predict_batch=predict_batch)), "predict")
    assert (declared["width"].required, declared["name"].required) == (True, False)
    assert load(declared, by_json({"width": 1})) == {"width": 1}


def test_batch_without_a_typed_dict_takes_the_hints_of_predict() -> None:
    def predict(x: float) -> None: ...
    def predict_batch(batch: list[dict[str, Any]]) -> list[Any]:
        return []

    model = Model(predict, predict_batch=predict_batch)
    assert list(declared_fields(ModelWrapper("made", model), "predict")) == ["x"]


# --- texts


@pytest.mark.parametrize(
    "docstring",
    [
        "Do.\n\nArgs:\n    x (float): The width,\n        in metres\n    y: The height\n",
        "Do.\n\nParameters\n----------\n"
        "x : float\n    The width,\n    in metres\ny\n    The height\n",
        "Do.\n\n:param x: The width,\n    in metres\n:param float y: The height\n",
    ],
)
def test_docstrings_give_texts(docstring: str) -> None:
    def predict(x: float, y: float): ...  # type: ignore[no-untyped-def]

    predict.__doc__ = docstring
    declared = hinted(predict)
    assert declared["x"].metadata["description"] == "The width, in metres"
    assert declared["y"].metadata["description"] == "The height"


@pytest.mark.parametrize("text", [None, "", "One line", 3, "Args:\n", "\n:param\n", "\0\n" * 9])
def test_odd_docstrings_give_none(text: Any) -> None:
    def predict() -> None: ...

    predict.__doc__ = text
    assert texts_of(predict) == {}


# --- results


def result(annotation: Any, **kwargs: bool) -> tuple[Any, Any]:
    def predict(): ...  # type: ignore[no-untyped-def]

    predict.__annotations__["return"] = annotation
    schemas = Schemas()
    model = ModelWrapper("made", Model(predict, predict_batch=predict))
    how = {"streams": False, "batches": False, **kwargs}
    return schema_of_result(model, schemas, **how), schemas.nested


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (float, {"type": "number"}),
        (None, {"type": "null"}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (int | bytes, {}),
        (bytes, {}),
        (list[str], {"type": "array", "items": {"type": "string"}}),
        (dict[str, bool], {"type": "object", "additionalProperties": {"type": "boolean"}}),
        (npt.NDArray[np.float32], {"type": "array"}),
        (np.float32, {"type": "number"}),
        (Literal["a", "b"], {"enum": ["a", "b"]}),
        (Annotated[float, "A score"], {"type": "number", "description": "A score"}),
        ("Nope", {}),
        (Any, {}),
        (
            Point,
            {
                "type": "array",
                "prefixItems": [{"type": "number"}] * 2,
                "minItems": 2,
                "maxItems": 2,
            },
        ),
    ],
)
def test_return_annotation_describes_the_result(annotation: Any, schema: Any) -> None:
    assert result(annotation)[0] == schema


def test_classes_describe_the_result() -> None:
    schema, nested = result(dict[str, Box])
    assert schema == {"type": "object", "additionalProperties": {"$ref": "#/$defs/Box"}}
    assert nested["Box"]["required"] == ["area", "inner", "labels", "left"]
    schema, nested = result(list[Item])
    assert schema["items"]["$ref"] == "#/$defs/Item"
    assert nested["Item"]["properties"]["count"]["type"] == "integer"


def test_references_of_a_discriminator_follow_the_names_of_the_classes() -> None:
    def answer() -> Any:
        create: Any = pydantic.create_model
        cat: Any = create("Cat", kind=(Literal["cat"], ...))
        dog: Any = create("Dog", kind=(Literal["dog"], ...))
        pet: Any = Annotated[cat | dog, pydantic.Field(discriminator="kind")]
        return create("Answer", pet=(pet, ...))

    both: Any = tuple
    schema, nested = result(both[answer(), answer()])
    seen = set()
    for one in schema["prefixItems"]:
        pet = nested[one["$ref"].removeprefix("#/$defs/")]["properties"]["pet"]
        references = {reference["$ref"] for reference in pet["oneOf"]}
        assert {*pet["discriminator"]["mapping"].values()} == references
        seen |= references
    assert len(seen) == 4


def test_items_of_streams_and_batches_are_described() -> None:
    assert result(Iterator[int], streams=True)[0] == {"type": "integer"}
    assert result(list[int], batches=True)[0] == {"type": "integer"}
    assert result(int, batches=True)[0] == {}


def test_schema_class_is_no_type_hint() -> None:
    assert mistake(Schema).startswith("has the type Schema")
