"""The part of the description that is about records: trainings and asynchronous predictions."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

_JSON_TYPE = ["application/json"]
_STRING: Json = {"type": "string"}
_TIME: Json = {"type": "string", "format": "date-time", "x-nullable": True}
_WHOLE: Json = {"type": "integer", "x-nullable": True}
_LINKS: Json = {"type": "array", "items": {"$ref": "#/definitions/Location"}}
_STATUSES = ["queued", "running", "done", "error", "cancelled"]

DEFINITIONS: Json = {
    "Training": {
        "type": "object",
        "properties": {
            "uuid": {**_STRING, "description": "Its identifier"},
            "date": {**_STRING, "format": "date-time", "description": "When it was asked for"},
            "status": {**_STRING, "enum": _STATUSES},
            "message": {**_STRING, "description": "What there is to say of the status"},
            "args": {"type": "object", "description": "The arguments, without secrets"},
            "result": {
                "type": "object",
                "description": "There when it is done",
                "properties": {
                    "output": {"description": "What the model returned"},
                    "finish_date": _TIME,
                    "duration": _STRING,
                },
            },
            "model": _STRING,
            "attempt": {"type": "integer"},
            "progress": {
                "type": "number",
                "minimum": 0,
                "maximum": 1,
                "x-nullable": True,
                "description": "As the model has reported it",
            },
            "start_date": _TIME,
            "finish_date": _TIME,
            "duration": {**_STRING, "x-nullable": True},
            "exit_code": _WHOLE,
            "signal": {**_WHOLE, "description": "The one that ended its process"},
            "metrics": {"type": "array", "items": {"type": "object"}},
            "artifacts": {"type": "array", "items": {"$ref": "#/definitions/Artifact"}},
            "links": _LINKS,
        },
        "required": ["date", "status", "uuid"],
    },
    "TrainingList": {"type": "array", "items": {"$ref": "#/definitions/Training"}},
    "Artifact": {
        "type": "object",
        "properties": {
            "path": _STRING,
            "size": {"type": "integer", "description": "Bytes"},
            "modified": {"type": "string", "format": "date-time"},
            "href": _STRING,
        },
    },
    "ArtifactList": {
        "type": "object",
        "properties": {
            "artifacts": {"type": "array", "items": {"$ref": "#/definitions/Artifact"}},
            "truncated": {"type": "boolean", "description": "Whether there are more"},
        },
    },
}

_UUID = _STRING | {"in": "path", "name": "uuid", "required": True}
_PATH = _STRING | {"in": "path", "name": "path", "required": True}


def _in_query(name: str, kind: str, description: str, **more: Any) -> Json:
    return {
        "in": "query",
        "name": name,
        "required": False,
        "type": kind,
        "description": description,
        **more,
    }


def _operation(summary: str, *parameters: Json, answer: str = "", produces: str = "") -> Json:
    responses: Json = {"200": {"description": ""}, "404": {"description": "There is none"}}
    if answer:
        responses["200"]["schema"] = {"$ref": f"#/definitions/{answer}"}
    return {
        "tags": ["models"],
        "summary": summary,
        "produces": [produces] if produces else _JSON_TYPE,
        "parameters": list(parameters),
        "responses": responses,
    }


def describe(path: str, what: str) -> Json:
    """The operations on the records at `path`, which has no final slash; `what` they are."""
    status = _in_query(
        *("status", "array", "Those that have one of these statuses"),
        items={"type": "string", "enum": _STATUSES},
        collectionFormat="multi",
    )
    limit = _in_query("limit", "integer", "So many at the most: the newest", minimum=1)
    follow = _in_query("follow", "boolean", f"Also what comes, until the {what} has ended")
    offset = _in_query("offset", "integer", "How many bytes to leave out", minimum=0)
    one = f"{path}/{{uuid}}"
    show = _operation(f"One {what}, with its metrics", _UUID, answer="Training")
    cancel = _operation(
        f"Cancel one {what}; remove the record of one that has ended", _UUID, answer="Training"
    )
    listing = _operation(f"The {what}s", limit, status, answer="TrainingList")
    logs = _operation(f"The output of one {what}", _UUID, offset, follow, produces="text/plain")
    logs["produces"].append("text/event-stream")
    files = _operation(f"The files of one {what}", _UUID, answer="ArtifactList")
    file = _operation(f"A file of one {what}", _UUID, _PATH, produces="*/*")
    return {
        f"{path}/": {"get": listing},
        one: {"get": show, "delete": cancel},
        f"{one}/logs": {"get": logs},
        f"{one}/artifacts/": {"get": files},
        f"{one}/artifacts/{{path}}": {"get": file},
    }


def describe_result(path: str) -> Json:
    """The operation on the result of an asynchronous prediction whose record is at `path`."""
    operation = _operation("The answer of an asynchronous prediction", _UUID, produces="*/*")
    operation["responses"]["409"] = {"description": "It has not ended, or was cancelled"}
    return {f"{path}/result": {"get": operation}}
