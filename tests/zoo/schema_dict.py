"""Has a dict of fields as the schema of its results, and returns the requested value."""

from typing import Any

from webargs import fields

schema = {
    "labels": fields.List(fields.Str(), description="The labels."),
    "score": fields.Float(required=True),
    "day": fields.Date(),
}

KINDS: dict[str, Any] = {
    "good": {"labels": ["a"], "score": "0.5"},
    "date": {"score": 1, "day": "2024-02-29"},
    "missing": {"labels": []},
    "wrong": {"score": "x"},
    "unknown": {"score": 1, "more": 2},
    "none": None,
    "list": [{"score": 1}],
    "empty": {},
}


def get_predict_args() -> dict[str, Any]:
    return {"kind": fields.Str(missing="good")}


def predict(**kwargs: Any) -> Any:
    return KINDS[kwargs["kind"]]
