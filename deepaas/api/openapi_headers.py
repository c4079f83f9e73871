"""The headers, shared error responses and links of the description in OpenAPI 3.1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deepaas.api.callbacks import MAX_URL
from deepaas.api.operation_parts import ERRORS, Json
from deepaas.http.routing import Route
from deepaas.model.v2.media import JSON

_OF_HEADERS = "#/components/headers/"
_OF_PARAMETERS = "#/components/parameters/"
_OF_RESPONSES = "#/components/responses/"

_TEXT: Json = {"type": "string"}
_WHOLE: Json = {"type": "integer", "minimum": 0}


def _header(description: str, schema: Json = _TEXT, *, required: bool = False) -> Json:
    return {"description": description, "required": required, "schema": schema}


_PORT = "[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"
_GROUP = "[0-9A-Fa-f]{1,4}"
_IPV6 = "|".join(
    [
        f"({_GROUP}:){{7}}{_GROUP}",
        *(f"({_GROUP}:){{1,{7 - after}}}(:{_GROUP}){{1,{after}}}" for after in range(1, 7)),
        f"({_GROUP}:){{1,7}}:",
        f":(:{_GROUP}){{1,7}}",
        "::",
    ]
)

HEADERS: Json = {
    "X-Request-ID": _header(
        "The id of the request, also in the log of the server: the client's own, or a new one",
        required=True,
    ),
    "Warning": _header("299 and a text that names the arguments that the server ignores"),
    "Server-Timing": _header("The parts of the time that the prediction took, in milliseconds"),
    "Content-Disposition": _header("`attachment`, with the name of the file"),
    "Location": _header("The address of the resource on this server", required=True),
    "Preference-Applied": _header("`respond-async`", required=True),
    "Retry-After": _header("After how many seconds to send the request again", _WHOLE),
    "WWW-Authenticate": _header("How a client signs in, and why the server refuses it"),
    "Accept-Encoding": _header("The encodings of a request body that the server knows"),
    "ETag": _header("The version of the document, for If-None-Match", required=True),
    "X-Log-Offset": _header("The offset of the first byte of the body", _WHOLE, required=True),
    "Content-Range": _header("Which bytes of the file these are, or how many it has"),
}
"""The headers of responses, by name, on which clients rely."""

REQUEST_HEADERS: Json = {
    "X-Request-ID": (
        "An id for this request: 1 to 128 letters, digits and `._~:/+=@-`. Otherwise the server "
        "makes one",
        _TEXT,
    ),
    "X-Request-Timeout": (
        "How many seconds the client waits for the prediction",
        {"type": "number", "exclusiveMinimum": 0},
    ),
    "Prefer": (
        "With `respond-async` the prediction is made later, and the response is 202",
        {**_TEXT, "examples": ["respond-async"]},
    ),
    "Callback-URL": (
        "The address to which the server sends each change of status. An empty text means that "
        "there is no address",
        {
            **_TEXT,
            "maxLength": MAX_URL,
            "pattern": rf"^([Hh][Tt][Tt][Pp][Ss]?://([A-Za-z0-9._-]+|\[({_IPV6})\])"
            rf"(:({_PORT}))?([/?#][!-~]*)?)?$",
        },
    ),
    "Last-Event-ID": ("The id of the last event that the client has got", _TEXT),
    "If-None-Match": ("The ETag of the document that the client has", _TEXT),
}

_RESPONSE_HEADERS = {
    "401": ["WWW-Authenticate"],
    "403": ["WWW-Authenticate"],
    "415": ["Accept-Encoding"],
    "503": ["Retry-After"],
}
"""The headers of error responses by status, besides X-Request-ID."""

_SHARED = {
    "400": "BadRequest",
    "401": "NotSignedIn",
    "403": "NotAllowed",
    "421": "ForeignHost",
    "431": "HeadTooLarge",
    "500": "ServerError",
}
"""The names of the error responses that are the same in all operations."""

_OF_MODELS = ("400", "500")
"""The statuses of _SHARED that a model's function causes, too: then they have more headers."""


def components(schema_of: Any) -> Json:
    """Return the components that operations refer to. `schema_of` translates a schema."""
    parameters = {
        name: {
            "in": "header",
            "name": name,
            "required": False,
            "description": description,
            "schema": schema,
        }
        for name, (description, schema) in REQUEST_HEADERS.items()
    }
    responses = {name: _error(status, schema_of) for status, name in _SHARED.items()}
    return {"headers": HEADERS, "parameters": parameters, "responses": responses}


def _error(status: str, schema_of: Any) -> Json:
    error = ERRORS[status]
    content = {JSON: {"schema": schema_of(error["schema"])}}
    made: Json = {"description": error["description"], "content": content}
    made["headers"] = _references("X-Request-ID", *_RESPONSE_HEADERS.get(status, ()))
    return made


def _references(*names: str) -> Json:
    return {name: {"$ref": _OF_HEADERS + name} for name in names}


def add_headers(
    made: Json, route: Route, schema_of: Any, *, function: str = "", times: bool = False
) -> None:
    """Refer to the shared errors, and add the headers of the request and the responses.

    `function` is the model's function that the operation belongs to: "predict", "train", "result"
    or "". With `times`, the responses to predictions have the header Server-Timing.
    """
    responses = made["responses"]
    for status, name in _SHARED.items():
        if status in responses and _is_usual(responses[status], status, schema_of):
            is_of_model = function in ("predict", "train") and status in _OF_MODELS
            usual = _error(status, schema_of) if is_of_model else {"$ref": _OF_RESPONSES + name}
            responses[status] = usual
    for status, one in responses.items():
        if "$ref" not in one:
            headers = ["X-Request-ID", *_RESPONSE_HEADERS.get(status, ())]
            headers += _headers_of(status, route, function, times)
            one["headers"] = _references(*headers) | one.get("headers", {})
    made["responses"] = dict(sorted(responses.items()))
    _add_parameters(made, _request_headers_of(route, function))


def _is_usual(response: Json, status: str, schema_of: Any) -> bool:
    """Return whether the response is the usual error with that status."""
    usual = _error(status, schema_of)
    return all(response.get(key) == usual[key] for key in ("description", "content"))


def _headers_of(status: str, route: Route, function: str, times: bool) -> list[str]:
    """Return the headers of the responses with this status that only some routes have."""
    end = route.path.rpartition("/")[2]
    found: list[str] = []
    if function in ("predict", "train"):
        found.append("Warning")
    if function == "predict" and times:
        found.append("Server-Timing")
    match status:
        case "200" if function in ("predict", "result"):
            found += ["Content-Disposition"]
        case "202":
            found += ["Location", "Preference-Applied"]
        case "302":
            found += ["Location"]
        case "200" | "304" if end in ("swagger.json", "openapi.json"):
            found += ["ETag"]
        case "206" | "416":
            found += ["Content-Range"]
        case "200" if end == "logs":
            found += ["X-Log-Offset"]
        case "200" if end == "{path*}":
            found += ["Content-Disposition"]
    return found


def _request_headers_of(route: Route, function: str) -> list[str]:
    # openapi-python-client makes a function that raises NameError for an operation that requires
    # one of several bodies and has no optional parameter: X-Request-ID prevents this, too.
    if function == "predict":
        return ["Prefer", "X-Request-Timeout", "Callback-URL", "X-Request-ID"]
    if function == "train":
        return ["Callback-URL", "X-Request-ID"]
    end = route.path.rpartition("/")[2]
    if end in ("swagger.json", "openapi.json"):
        return ["If-None-Match"]
    return ["Last-Event-ID"] if end == "logs" else []


def _add_parameters(made: Json, names: Sequence[str]) -> None:
    """Add the headers of the request, unless an argument of the model has the same name."""
    parameters = made.get("parameters", [])
    taken = {one["name"].lower() for one in parameters if one.get("in") == "header"}
    added = [{"$ref": _OF_PARAMETERS + name} for name in names if name.lower() not in taken]
    if parameters or added:
        made["parameters"] = [*parameters, *added]


def add_links(paths: Mapping[str, Json]) -> None:
    """Add links from each response with a new record to the operations on that record.

    A list of files has a link to the first.
    """
    for path, operations in paths.items():
        file = f"{path}{{path}}"
        if path.endswith("/artifacts/") and file in paths:
            parameters = {"uuid": "$request.path.uuid", "path": "$response.body#/artifacts/0/path"}
            link = _link(file, "get") | {"parameters": parameters}
            operations["get"]["responses"]["200"]["links"] = {"first_file": link}
        post = operations.get("post", {})
        for ending, status, segment in (("/predict/", "202", "/jobs/"), ("/train/", "200", None)):
            response = post.get("responses", {}).get(status)
            if not path.endswith(ending) or response is None:
                continue
            records = path.removesuffix(ending) + (segment or ending)
            links = {
                name: _link(below, method)
                for name, below, method in _targets(records + "{uuid}")
                if method in paths.get(below, {})
            }
            if links:
                response["links"] = links


def _targets(record: str) -> list[tuple[str, str, str]]:
    """Return the name, the path and the method of each operation on a record."""
    return [
        ("record", record, "get"),
        ("cancel", record, "delete"),
        ("logs", f"{record}/logs", "get"),
        ("artifacts", f"{record}/artifacts/", "get"),
        ("result", f"{record}/result", "get"),
    ]


def _link(path: str, method: str) -> Json:
    escaped = path.replace("~", "~0").replace("/", "~1")
    return {
        "operationRef": f"#/paths/{escaped}/{method}",
        "parameters": {"uuid": "$response.body#/uuid"},
    }
