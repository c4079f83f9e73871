"""The definitions of several models stay apart, and equal ones are shared."""

from __future__ import annotations

from typing import Any

import pytest

from deepaas.api.definition_names import add_definitions, references

Json = dict[str, Any]


def form(**properties: Any) -> Json:
    return {"type": "object", "properties": properties}


def ref(name: str) -> Json:
    return {"$ref": f"#/definitions/{name}"}


NUMBER, TEXT = {"type": "integer"}, {"type": "string"}
OUTER = form(inner=ref("Inner"))


def test_new_definitions_keep_their_names() -> None:
    definitions: Json = {"Taken": form()}
    assert add_definitions({"Own": form(a=NUMBER)}, definitions) == {}
    assert definitions == {"Taken": form(), "Own": form(a=NUMBER)}


def test_equal_definitions_are_shared() -> None:
    definitions: Json = {}
    for _ in range(2):
        assert add_definitions({"Outer": OUTER, "Inner": form(a=NUMBER)}, definitions) == {}
    assert set(definitions) == {"Outer", "Inner"}


def test_name_that_is_taken_by_another_gets_a_number() -> None:
    definitions: Json = {"Own": form(a=NUMBER)}
    assert add_definitions({"Own": form(a=TEXT)}, definitions) == {"Own": "Own1"}
    assert add_definitions({"Own": form(b=TEXT)}, definitions) == {"Own": "Own2"}
    assert add_definitions({"Own": form(a=TEXT)}, definitions) == {"Own": "Own1"}
    assert definitions == {"Own": form(a=NUMBER), "Own1": form(a=TEXT), "Own2": form(b=TEXT)}


def test_definition_that_refers_to_a_renamed_one_is_renamed_too() -> None:
    """The texts of both outer definitions are equal, but they refer to different inner ones."""
    definitions: Json = {}
    first = {"Outer": OUTER, "Inner": form(a=NUMBER), "Other": form()}
    second = {"Outer": OUTER, "Inner": form(a=TEXT), "Other": form()}
    assert add_definitions(first, definitions) == {}
    assert add_definitions(second, definitions) == {"Outer": "Outer1", "Inner": "Inner1"}
    assert definitions["Outer"] == OUTER
    assert definitions["Outer1"] == form(inner=ref("Inner1"))
    assert set(definitions) == {"Outer", "Inner", "Outer1", "Inner1", "Other"}


def test_definition_that_refers_to_itself_is_renamed_within() -> None:
    definitions: Json = {"Tree": form(a=NUMBER)}
    tree = form(children={"type": "array", "items": ref("Tree")})
    for _ in range(2):
        assert add_definitions({"Tree": tree}, definitions) == {"Tree": "Tree1"}
    assert references(definitions["Tree1"]) == {"Tree1"}


def test_new_name_is_none_that_the_model_has_itself() -> None:
    definitions: Json = {"A": form(a=NUMBER)}
    new = {"A": form(a=TEXT), "A1": form(a=TEXT)}
    assert add_definitions(new, definitions) == {"A": "A2"}
    assert definitions == {"A": form(a=NUMBER), "A1": form(a=TEXT), "A2": form(a=TEXT)}


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (ref("A"), {"A"}),
        ({"allOf": [ref("A"), {"x": ref("B")}]}, {"A", "B"}),
        ({"properties": {"$ref": TEXT}}, set()),
        ({"$ref": "elsewhere.json"}, set()),
    ],
)
def test_references_are_found(value: Json, found: set[str]) -> None:
    assert references(value) == found
