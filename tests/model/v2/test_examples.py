"""The examples that a model declares: which are valid, and how they are described.

tests/cmd/test_mistakes.py tests the line about each mistake with a server.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from marshmallow import Schema, post_load
from webargs import fields, validate

from deepaas.model.v2.arguments import Arguments
from deepaas.model.v2.examples import MAX_BYTES, MAX_EXAMPLES, Examples, read_examples
from deepaas.model.v2.wrapper import ModelWrapper, UploadedFile

FILE = {"file": "in/a.txt", "media_type": "text/plain", "size": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "package" / "in").mkdir(parents=True)
    (tmp_path / "package" / "in" / "a.txt").write_text("a")
    (tmp_path / "outside.txt").write_text("b")
    return tmp_path / "package"


def read(folder: Path, declared: Any, arguments: Any, **attributes: Any) -> Examples:
    """Return the examples of a module in `folder` with these arguments of predict."""
    module = ModuleType("made")
    module.__dict__.update(examples=declared, **attributes)
    wrapper = ModelWrapper("made", module)
    functions = {"predict": Arguments(arguments)}
    return read_examples(wrapper, str(folder / "made.py"), functions, str(folder))


def files(**more: Any) -> fields.Field:
    return fields.Raw(metadata={"type": "file", "location": "form"}, **more)


def test_example_is_shown_as_it_is_sent(folder: Path) -> None:
    declared = {
        "day": fields.Date(),
        "wire": fields.Int(data_key="on-the-wire"),
        "list": fields.List(fields.Float()),
        "nested": fields.Nested({"a": fields.Int()}),
    }
    example = {"day": "2026-01-01", "on-the-wire": "7", "list": (1, 2.5), "nested": {"a": 1}}
    made = read(folder, [example], declared)
    assert made.mistakes == []
    assert made.by_function == {"predict": [example | {"list": [1, 2.5]}]}


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("kind", [str, Path])
def test_file_is_described_without_its_directory(folder: Path, kind: Any, absolute: bool) -> None:
    path = kind(folder / "in" / "a.txt") if absolute else kind("in/a.txt")
    made = read(folder, [{"x": path}], {"x": files(required=True)})
    assert made == Examples({"predict": [{"x": FILE}]}, {"in/a.txt": f"{folder}/in/a.txt"})


def test_several_files_of_one_argument(folder: Path) -> None:
    made = read(folder, [{"x": ["in/a.txt", "in/../in/a.txt"]}], {"x": fields.List(files())})
    assert made.by_function == {"predict": [{"x": [FILE, FILE]}]}


@pytest.mark.parametrize("path", ["../outside.txt", "link.txt", "up/outside.txt", "/etc/passwd"])
def test_file_outside_of_the_directory_is_refused(folder: Path, path: str) -> None:
    (folder / "link.txt").symlink_to("../outside.txt")
    (folder / "up").symlink_to("..")
    made = read(folder, [{"x": path}], {"x": files()})
    assert (made.by_function, made.files) == ({"predict": []}, {})
    assert "outside of the directory of made.py" in made.mistakes[0]
    assert str(folder) not in made.mistakes[0]


@pytest.mark.parametrize("path", ["in", "pipe", "in/b.txt", "in\0"])
def test_only_a_file_that_can_be_read_is_one(folder: Path, path: str) -> None:
    os.mkfifo(folder / "pipe")
    made = read(folder, [{"x": path}], {"x": files()})
    assert made.by_function == {"predict": []}
    assert "no such file" in made.mistakes[0]


def test_module_without_a_file_has_no_files(folder: Path) -> None:
    wrapper = ModelWrapper("made", ModuleType("made"))
    wrapper.model.examples = [{"x": str(folder / "in" / "a.txt")}]  # type: ignore[attr-defined]
    made = read_examples(wrapper, "", {"predict": Arguments({"x": files()})})
    assert made.by_function == {"predict": []}


def _remove(value: Any) -> None:
    os.remove(value.filename)


class Removes(Schema):
    x = files()

    @post_load
    def remove(self, values: dict[str, Any], **_: Any) -> dict[str, Any]:
        _remove(values["x"])
        return values


class RemovingField(fields.Raw):
    def _validate(self, value: Any) -> None:
        _remove(value)


@pytest.mark.parametrize(
    "declared",
    [
        {"x": files(validate=_remove)},
        {"x": RemovingField(metadata={"type": "file"})},
        Removes,
    ],
)
def test_code_of_the_model_gets_a_copy_of_the_file(folder: Path, declared: Any) -> None:
    made = read(folder, [{"x": "in/a.txt"}], declared)
    assert made.mistakes == []
    assert made.by_function == {"predict": [{"x": FILE}]}
    assert (folder / "in" / "a.txt").read_text() == "a"
    assert sorted(path.name for path in folder.iterdir()) == ["in"]


def test_file_is_checked_as_an_upload(folder: Path) -> None:
    shown = ("x", "text/plain", "a.txt")

    def named(value: UploadedFile) -> bool:
        return (value.name, value.content_type, value.original_filename) == shown

    assert read(folder, [{"x": "in/a.txt"}], {"x": files(validate=named)}).mistakes == []


class FileOrUrl(fields.Raw):
    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        assert isinstance(value, UploadedFile) or value.startswith("https:")
        return value


@pytest.mark.parametrize("value", ["https://site.example/a.png", "in/a.txt"])
def test_text_in_a_field_that_takes_texts_is_a_path_if_there_is_such_a_file(
    folder: Path, value: str
) -> None:
    made = read(folder, [{"x": value}], {"x": FileOrUrl(metadata={"type": "file"})})
    assert made.mistakes == []
    assert made.by_function == {"predict": [{"x": FILE if value == "in/a.txt" else value}]}


def test_text_in_the_query_is_no_path(folder: Path) -> None:
    declared = {"x": fields.Raw(metadata={"type": "file", "location": "query"})}
    assert read(folder, [{"x": "in/a.txt"}], declared).by_function == {
        "predict": [{"x": "in/a.txt"}]
    }


def test_secrets_are_not_shown(folder: Path) -> None:
    declared = {"x": fields.Str(load_only=True), "y": fields.Str()}
    made = read(folder, [{"x": "secret", "y": "a"}], declared)
    assert made.by_function == {"predict": [{"y": "a"}]}


def test_invalid_examples_do_not_hide_valid_ones(folder: Path) -> None:
    declared = {"x": fields.Int(required=True, validate=validate.Range(max=1))}
    made = read(folder, [{"x": 2}, {}, {"x": 1}], declared)
    assert made.by_function == {"predict": [{"x": 1}]}
    assert ["x: Must be less" in made.mistakes[0], "x: Missing" in made.mistakes[1]] == [True, True]


@pytest.mark.parametrize("error", [RuntimeError("odd"), SystemExit(1)])
def test_code_of_the_model_may_fail(folder: Path, error: BaseException) -> None:
    def fail(value: Any) -> None:
        raise error

    made = read(folder, [{"x": 1}], {"x": fields.Int(validate=fail)})
    assert made.by_function == {"predict": []}
    assert f"cannot be checked: {type(error).__name__}" in made.mistakes[0]


def test_name_in_python_is_told_as_the_name_on_the_wire(folder: Path) -> None:
    made = read(folder, [{"x": 1}], {"x": fields.Int(data_key="wire")})
    assert made.mistakes == [
        "examples[0] has 'x', which get_predict_args does not declare; write 'wire'"
    ]


def test_examples_together_have_a_largest_size(folder: Path) -> None:
    long = {"x": "a" * (MAX_BYTES // 2)}
    made = read(folder, [long, long, long], {"x": fields.Str()})
    assert made.by_function == {"predict": [long]}
    assert "examples[1] is left out" in made.mistakes[0]
    assert len(made.mistakes) == 1


def test_long_list_is_not_read_to_its_end(folder: Path) -> None:
    many = [{"x": 1}] * (MAX_EXAMPLES + 1)
    made = read(folder, many, {"x": fields.Int()})
    assert len(made.by_function["predict"]) == MAX_EXAMPLES
    assert made.mistakes == ["examples has more than 100 examples; write fewer"]
    assert len(read(folder, many, {}).mistakes) == 5


@pytest.mark.parametrize("value", [None, os, property(lambda self: 1 / 0), list, dict])
def test_other_things_of_this_name_are_no_examples(folder: Path, value: Any) -> None:
    assert read(folder, value, {}) == Examples()


def test_examples_of_a_function_with_faulty_arguments_are_not_read(folder: Path) -> None:
    made = read(folder, [], {}, train=print, train_examples=[{}])
    assert made == Examples({"predict": []})


def test_property_is_not_read() -> None:
    class Model:
        @property
        def examples(self) -> Any:
            raise AssertionError

    assert read_examples(ModelWrapper("m", Model()), "", {"predict": Arguments({})}) == Examples()
