"""The common parts of the description's operations: definitions and responses."""

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
    """Return the schema of an object; `required` has the names of required properties."""
    made: Json = {"type": "object", "properties": properties}
    if required:
        made["required"] = required.split()
    return made | ({"description": description} if description else {})


def text(description: str, **more: Any) -> Json:
    return {"type": "string", "description": description, **more}


def anything(description: str) -> Json:
    """Return the schema of a value that may have any type."""
    return {"description": description, "x-nullable": True}


_MESSAGES: Json = {"type": "array", "items": STRING}
_NULL = {"x-nullable": True}

DEFINITIONS: Json = {
    "Location": obj(
        "href rel",
        {
            "rel": STRING,
            "href": text("A path on this server"),
            "type": text("The media type of the resource"),
        },
    ),
    "Failure": obj(
        "code message",
        {
            "message": text("The error, in one line"),
            "code": text("The kind of error, for programs"),
            "request_id": text("The id of the request, as in the header X-Request-ID"),
            "phase": text("Only with the code model_starting: the phase of the start"),
        },
    ),
    "BadRequest": obj(
        "",
        {
            "message": STRING,
            "code": STRING,
            "request_id": STRING,
            "json": _MESSAGES,
            "form": _MESSAGES,
            "charset": _MESSAGES,
        },
        "A message, a code and the id of the request, or, if the body cannot be read, messages "
        "about its JSON, form or charset",
    ),
    "InvalidArguments": {
        "type": "object",
        "description": "The messages for each argument: a list, or, for an argument with parts, an "
        "object with the messages for each part. If the model itself answers 422, a message and a "
        "code",
        "additionalProperties": {},
    },
    "InvalidQuery": {
        "type": "object",
        "description": "The messages for each parameter",
        "additionalProperties": _MESSAGES,
    },
    "Version": obj(
        "id links version",
        {"version": STRING, "id": STRING, "type": STRING, "links": list_of("Location")},
    ),
    "Versions": obj(
        "links versions", {"versions": list_of("Version"), "links": list_of("Location")}
    ),
    # The metadata of a model may have any key and any type, so no type is promised here.
    "ModelMeta": obj(
        "id name",
        {
            "id": anything("Model identifier"),
            "name": anything("Model name"),
            "description": anything("Model description"),
            "author": anything("Model author"),
            "version": anything("Model version"),
            "url": anything("The address of a page about the model"),
            "license": anything("Model license"),
            "links": anything("Usually a list of locations"),
            "weights_version": anything("The version of the declared weights"),
            "problem": anything("Why the model cannot answer now"),
            "metadata_problem": anything("Why get_metadata failed"),
        },
        "The metadata of a model; the values are usually texts",
    )
    | {"additionalProperties": True},
    "Models": obj("models", {"models": list_of("ModelMeta")}),
    "Liveness": obj("status", {"status": {"type": "string", "enum": ["live"]}}),
    "ModelReadiness": obj(
        "metadata_problem phase pids problem ready reload_problem",
        {
            "name": text("Only in the response for a single model"),
            "ready": {"type": "boolean", "description": "Whether the model can answer now"},
            "phase": text("The phase of a model that is still loading, such as warming", **_NULL),
            "problem": text("Why the model cannot answer", **_NULL),
            "reload_problem": text("Why the last reload failed", **_NULL),
            "metadata_problem": text("Why get_metadata failed", **_NULL),
            "pids": {
                "type": "array",
                "items": {"type": "integer"},
                "description": "The process IDs of the workers that are ready",
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
            "workers": {"type": "integer", "description": "The number of workers that are ready"},
            "seconds": {"type": "number", "description": "The duration of the reload in seconds"},
        },
    ),
    "Prediction": obj(
        "predictions status",
        {"status": text("OK"), "predictions": anything("The value that the model returned")},
    ),
}


def response(schema: Json | str, description: str = "") -> Json:
    """Return a response. `schema` is a schema, or the name of a definition."""
    return {
        "description": description,
        "schema": ref(schema) if isinstance(schema, str) else schema,
    }


ERRORS: Json = {
    "400": response("BadRequest", "The request is malformed, or the model refuses its input"),
    "401": response("Failure", "The request has no valid token"),
    "403": response(
        "Failure",
        "A browser sent the request for another web site, or this server does not call the "
        "address in the header Callback-URL, or the client may not do this",
    ),
    "404": response(STRING, "The server has no such record, or no such file"),
    "408": response("Failure", "The request body did not arrive in time"),
    "413": response("Failure", "The request body is larger than this server accepts"),
    "415": response("Failure", "The server does not know the encoding of the request body"),
    "421": response("Failure", "The Host header is not a name of this server"),
    "422": response("InvalidArguments", "The arguments are invalid, for the reasons given"),
    "431": response("Failure", "The request line and the headers together are too large"),
    "500": response("Failure", "The server, the model or its process failed"),
    "503": response("Failure", "Too many requests are waiting, or the model cannot answer now"),
    "504": response("Failure", "The prediction, or the check of its arguments, took too long"),
    "507": response("Failure", "The server has no space for records, or keeps no records"),
}
"""The error responses by status."""

OF_EVERY_REQUEST = ("421", "431", "500")
"""The statuses of ERRORS that any request may get."""

_UNSAFE = ("POST", "DELETE", "PUT", "PATCH")


def add_errors(method: str, responses: Json, *, signs_in: bool) -> None:
    """Add the errors that any request with this method may get, unless they are there already.

    `signs_in` is whether the operation requires a sign-in.
    """
    missing = ["400", *OF_EVERY_REQUEST, *(["403"] if method in _UNSAFE else [])]
    if "507" in responses:  # it reads records, which another process may have locked
        missing.append("503")
    if signs_in:
        missing += ["401", "403"]
    for status in missing:
        responses.setdefault(status, ERRORS[status])


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
    """Return an operation with the response `answer` for 200, and the statuses in `errors`.

    `others` has further responses by status.
    """
    statuses = [*errors.split(), *OF_EVERY_REQUEST]
    return {
        "tags": [tag],
        "summary": summary,
        "produces": [*produces],
        "responses": {"200": answer, **{one: ERRORS[one] for one in statuses}, **(others or {})},
    }
