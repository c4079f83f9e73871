"""Servers do what their descriptions say; see `tests.fuzz.conformance`, which takes long."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from marshmallow import fields

from deepaas.model.v2.arguments import InvalidArgumentsError
from deepaas.model.v2.json_schema import Schemas
from tests.fuzz.conformance import SUBJECTS, Subject, check
from tests.fuzz.conformance_hooks import takes
from tests.model.v2.calls import by_json, load

SHORT = Subject(
    {
        "nested": "zoo.kinds:Nested",
        "refusing": "zoo.kinds:Refusing",
        "streaming": "zoo.kinds:Streaming",
        "files": "zoo.files",
        "trained": "zoo.leaves",
    },
    paths="^(?!.*/(nested|refusing|streaming|files)/(jobs|ready|$))(?!.*/static/)",
)


def test_server_does_what_its_description_says() -> None:
    report = check(SHORT, examples=2, seed=1, phases=("coverage", "fuzzing"))
    assert report.is_clean, report.output
    assert report.operations > 20


def test_clients_that_sign_in_get_what_the_description_says() -> None:
    report = check(SUBJECTS["signed in"], examples=2, seed=1, phases=("coverage", "stateful"))
    assert report.is_clean, report.output
    assert report.cases > 100


def test_a_fault_of_a_server_is_found() -> None:
    """The model returns a value that violates its own schema unless it gets a label."""
    subject = Subject({"labels": "zoo.schema_class"}, paths="/predict/$")
    report = check(subject, examples=1, seed=1, phases=("coverage",))
    assert "ServerError" in str(report.failures)


@pytest.mark.parametrize(
    ("field", "others", "wrong"),
    [
        (fields.Int(), ["3", " 3 ", 3.7], ["3.7", "x", "", True, None, []]),
        (fields.Float(), ["3.5", "1e3"], ["nan", "x", "", True, None]),
        (fields.Decimal(), ["3.5"], ["x", "", None]),
        (fields.Bool(), ["true", "off", "yes", 1, 0], ["maybe", 2, None]),
        (fields.List(fields.Int()), [3, "3", ["3"]], ["x", ["x"], None, [None]]),
        (fields.TimeDelta(), ["3", 3.7, True], ["x", None]),
        (fields.Dict(), [], [1, [], None]),
        (fields.Str(), [], [1, True, None, []]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, fields.Field) else "",
)
def test_fields_take_other_forms_of_a_value(
    field: Any, others: list[Any], wrong: list[Any]
) -> None:
    """A schema shows the usual form only; existing clients send the others, too."""
    schema = Schemas().of_field(field)
    if isinstance(field, fields.TimeDelta):
        schema["description"] = "A number of seconds"
    for is_taken, values in ((True, others), (False, wrong)):
        for value in values:
            assert not jsonschema.Draft202012Validator(schema).is_valid(value), value
            assert takes({"components": {}}, schema, value) is is_taken, value
            assert loads(field, value) is is_taken, value


def loads(field: Any, value: Any) -> bool:
    try:
        load({"a": field}, by_json({"a": value}))
    except InvalidArgumentsError:
        return False
    return True
