"""What the operations of the description are made of: the definitions that they share, and the
answers that they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]

JSON_TYPE = ["application/json"]
STRING: Json = {"type": "string"}


def ref(definition: str) -> Json:
    return {"$ref": f"#/definitions/{definition}"}


def list_of(definition: str) -> Json:
    return {"type": "array", "items": ref(definition)}


def obj(required: str, properties: Json, description: str = "") -> Json:
    """The schema of an object; `required` has the names of the properties that it always has."""
    made: Json = {"type": "object", "properties": properties}
    if required:
        made["required"] = required.split()
    return made | ({"description": description} if description else {})


def text(description: str, **more: Any) -> Json:
    return {"type": "string", "description": description, **more}


def anything(description: str) -> Json:
    """The schema of a value that may have any type."""
    return {"description": description, "x-nullable": True}


_MESSAGES: Json = {"type": "array", "items": STRING}
_NULL = {"x-nullable": True}

DEFINITIONS: Json = {
    "Location": obj(
        "href rel",
        {
            "rel": STRING,
            "href": text("A path on this server"),
            "type": text("The media type of what is there"),
        },
    ),
    "Failure": obj(
        "code message",
        {
            "message": text("What went wrong, in one line"),
            "code": text("The kind of failure, for programs"),
            "phase": text("Only with the code model_starting: what the model does"),
        },
    ),
    "BadRequest": obj(
        "",
        {
            "message": STRING,
            "code": STRING,
            "json": _MESSAGES,
            "form": _MESSAGES,
            "charset": _MESSAGES,
        },
        "A failure; if the body cannot be read, the messages about its JSON, form or charset",
    ),
    "InvalidArguments": {
        "type": "object",
        "description": "The messages by argument: a list, or for an argument that has parts an "
        "object with the messages of each part. A failure, if the model itself answers 422",
        "additionalProperties": {},
    },
    "InvalidQuery": {
        "type": "object",
        "description": "The messages by parameter",
        "additionalProperties": _MESSAGES,
    },
    "Version": obj(
        "id links version",
        {"version": STRING, "id": STRING, "type": STRING, "links": list_of("Location")},
    ),
    "Versions": obj(
        "links versions", {"versions": list_of("Version"), "links": list_of("Location")}
    ),
    # A model's own metadata may have any key and any type, so that no type is promised here.
    "ModelMeta": obj(
        "id name",
        {
            "id": anything("Model identifier"),
            "name": anything("Model name"),
            "description": anything("What the model does"),
            "author": anything("Who made the model"),
            "version": anything("Model version"),
            "url": anything("Where more is said about the model"),
            "license": anything("Model license"),
            "links": anything("Usually a list of locations"),
            "problem": anything("Why the model cannot answer now"),
            "metadata_problem": anything("Why get_metadata failed"),
        },
        "What the model says about itself; the values are usually texts",
    ),
    "Models": obj("models", {"models": list_of("ModelMeta")}),
    "Liveness": obj("status", {"status": {"type": "string", "enum": ["live"]}}),
    "ModelReadiness": obj(
        "metadata_problem phase pids problem ready reload_problem",
        {
            "name": text("Only if one model was asked for"),
            "ready": {"type": "boolean", "description": "Whether the model can answer now"},
            "phase": text("What a model does that is still loading, such as warming", **_NULL),
            "problem": text("Why the model cannot answer", **_NULL),
            "reload_problem": text("Why the last reload failed", **_NULL),
            "metadata_problem": text("Why get_metadata failed", **_NULL),
            "pids": {
                "type": "array",
                "items": {"type": "integer"},
                "description": "The processes of the workers that are ready",
            },
        },
    ),
    "Readiness": obj(
        "models status",
        {
            "status": {"type": "string", "enum": ["ready", "not ready"]},
            "models": {"type": "object", "additionalProperties": ref("ModelReadiness")},
        },
    ),
    "Reloaded": obj(
        "seconds status workers",
        {
            "status": {"type": "string", "enum": ["reloaded"]},
            "workers": {"type": "integer", "description": "How many workers are ready"},
            "seconds": {"type": "number", "description": "How long the reload took"},
        },
    ),
    "Prediction": obj(
        "predictions status",
        {"status": text("OK"), "predictions": anything("What the model returned")},
    ),
}


def response(schema: Json | str, description: str = "") -> Json:
    """An answer; a text as schema is the name of a definition."""
    return {
        "description": description,
        "schema": ref(schema) if isinstance(schema, str) else schema,
    }


ERRORS: Json = {
    "400": response("BadRequest", "The request is malformed, or the model refuses its input"),
    "403": response(
        "Failure",
        "A browser sends the request for another web site, or this server does not call the "
        "address in the header Callback-URL",
    ),
    "404": response(STRING, "The server has no such record, or no such file"),
    "408": response("Failure", "The request body did not come in time"),
    "413": response("Failure", "The request body is larger than this server accepts"),
    "415": response("Failure", "The server does not know the encoding of the request body"),
    "421": response("Failure", "The Host header is not a name of this server"),
    "422": response("InvalidArguments", "The arguments are invalid, for the reasons given"),
    "431": response("Failure", "The request line and the headers are too large together"),
    "500": response("Failure", "The server, the model or its process failed"),
    "503": response("Failure", "Too many requests wait, or the model cannot answer now"),
    "504": response("Failure", "The prediction, or the check of its arguments, takes too long"),
    "507": response("Failure", "The server has no room for records, or keeps none"),
}
"""The answers that say what went wrong, by their status."""

OF_EVERY_REQUEST = ("421", "431", "500")
"""The statuses of ERRORS that any request may be answered with."""

OF_THE_MODEL: Json = {
    "default": response(
        "Failure", "A status that the model chooses; the body is a text if the status is below 400"
    )
}


def operation(
    tag: str,
    summary: str,
    answer: Json,
    errors: str = "",
    others: Json | None = None,
    produces: Sequence[str] = JSON_TYPE,
) -> Json:
    """An operation that answers 200 with `answer`, or one of the statuses in `errors`.

    `others` are further answers by status.
    """
    statuses = [*errors.split(), *OF_EVERY_REQUEST]
    return {
        "tags": [tag],
        "summary": summary,
        "produces": [*produces],
        "responses": {"200": answer, **{one: ERRORS[one] for one in statuses}, **(others or {})},
    }
