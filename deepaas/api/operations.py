"""The descriptions of the routes in Swagger 2.0, except those about records.

A function returns the description of a route now, or None if the route is not offered now. It may
add definitions to its argument. The key `function` of a description is for OpenAPI 3.1, where
arguments and results come from the model's neutral description.
"""

from __future__ import annotations

from collections.abc import Mapping

from deepaas.api.app import ApiSettings
from deepaas.api.definition_names import add_definitions, renamed
from deepaas.api.operation_parts import (
    JSON_TYPE,
    OF_THE_MODEL,
    STRING,
    Json,
    list_of,
    operation,
    ref,
    response,
    text,
)
from deepaas.api.record_operations import UUID
from deepaas.model.v2.media import ANY, JSON
from deepaas.serving.pool import Pool
from deepaas.streams import EVENTS, NDJSON

_IN = {"query": "query", "form": "formData", "headers": "header"}

_RESPOND_ASYNC = (
    "With the header `Prefer: respond-async`, the server answers 202 at once and makes the "
    "prediction later. Then the header `Callback-URL` may name an address to which the server "
    "sends each change of status. The header `X-Request-Timeout` says how many seconds the client "
    "waits."
)
_CALLBACK = (
    "The header `Callback-URL` may name an address to which the server sends each change of status."
)
_OF_A_BODY = "400 403 408 413 415 422 503 504 507"
"""The error statuses of a request with arguments."""

_OBJECT: Json = {"type": "object", "additionalProperties": True}
_UNCHANGED: Json = {"304": {"description": "The client has this description already"}}

_NO_ARGUMENTS: Json = {"arguments": [], "definitions": {}}


def never(definitions: Json) -> Json | None:
    """Describe a route that clients do not use."""
    return None


def versions(definitions: Json) -> Json | None:
    return operation("versions", "The versions of this interface", response("Versions"))


def version(definitions: Json) -> Json | None:
    return operation("versions", "Version 2 of this interface", response("Version"))


def models(definitions: Json) -> Json | None:
    return operation("models", "The models that are served", response("Models"))


def live(definitions: Json) -> Json | None:
    return operation("health", "Whether the server answers", response("Liveness"))


def ready(definitions: Json) -> Json | None:
    return operation(
        "health",
        "Whether every model can answer now",
        response("Readiness", "Every model can answer"),
        others={"503": response("Readiness", "A model cannot answer; the reason is given")},
    )


def metrics(definitions: Json) -> Json | None:
    return operation(
        "health",
        "The metrics of the server for Prometheus",
        response(STRING, "The metrics, in the text format of Prometheus or in OpenMetrics"),
        produces=["text/plain", "application/openmetrics-text"],
    )


def debug(definitions: Json) -> Json | None:
    return operation(
        "debug",
        "The latest output of the server and its workers",
        response(STRING, "The output"),
        others={"204": {"description": "The output is not shown on this server"}},
        produces=["text/plain"],
    )


def description(definitions: Json) -> Json | None:
    return operation(
        "documentation",
        "This description",
        response(_OBJECT, "The description in Swagger 2.0"),
        others=_UNCHANGED,
    )


def openapi(definitions: Json) -> Json | None:
    return operation(
        "documentation",
        "The description of this interface in OpenAPI 3.1",
        response(_OBJECT, "The description"),
        others=_UNCHANGED,
    )


def page(definitions: Json) -> Json | None:
    return operation(
        "documentation",
        "The page for trying the interface in a browser",
        response({"type": "file"}, "The page"),
        produces=["text/html"],
    )


def redirect(definitions: Json) -> Json | None:
    made = operation("documentation", "The former address of the page", {}, produces=["text/plain"])
    made["responses"]["302"] = {"description": "The header Location has the address of the page"}
    del made["responses"]["200"]
    return made


def asset(definitions: Json) -> Json | None:
    made = operation(
        "documentation",
        "A file of the page",
        response({"type": "file"}, "The file"),
        "404",
        {
            "206": response({"type": "file"}, "The part that the header Range asks for"),
            "304": {"description": "The file has not changed"},
            "412": response("Failure", "The file has changed"),
            "416": response("Failure", "The file does not have the wanted bytes"),
        },
        produces=[ANY],
    )
    name: Json = {**STRING, "in": "path", "name": "asset", "required": True}
    return made | {"parameters": [name]}


class OfModel:
    """The descriptions of the routes of one model, as its functions and the settings allow."""

    def __init__(self, settings: ApiSettings, pool: Pool) -> None:
        self._settings = settings
        self._pool = pool

    def _has(self, function: str) -> bool:
        offered = {"predict": self._settings.predict, "train": self._settings.train}
        return offered[function] and function in self._pool.description.get("has", ())

    def metadata(self, definitions: Json) -> Json | None:
        return operation("models", f"The metadata of {self._pool.name}", response("ModelMeta"))

    def ready(self, definitions: Json) -> Json | None:
        not_ready = response("ModelReadiness", "The model cannot answer; the reason is given")
        return operation(
            "health",
            f"Whether {self._pool.name} can answer now",
            response("ModelReadiness", "The model can answer"),
            others={"503": not_ready},
        )

    def example(self, definitions: Json) -> Json | None:
        if not self._pool.description.get("example_files"):
            return None
        made = operation(
            "models",
            f"A file of an example of {self._pool.name}",
            response({"type": "file"}, "The file"),
            "404",
            produces=[ANY],
        )
        path: Json = {
            **text("The path of the file, as the example has it"),
            "in": "path",
            "name": "path",
            "required": True,
        }
        return made | {"parameters": [path]}

    def reload(self, definitions: Json) -> Json | None:
        if not self._settings.admin:
            return None
        return operation(
            "models",
            f"Reload {self._pool.name}: replace its workers by new ones",
            response("Reloaded"),
            "403 503",
            others={"409": response("Failure", "The model is being reloaded already")},
        )

    def predict(self, definitions: Json) -> Json | None:
        return _predict(self._pool, definitions) if self._has("predict") else None

    def result(self, definitions: Json) -> Json | None:
        """Describe the result of an asynchronous prediction, which is that of `predict`."""
        if not self._has("predict"):
            return None
        predict = _predict(self._pool, definitions)
        made = operation(
            "models",
            "The response of an asynchronous prediction",
            predict["responses"]["200"],
            "507",
            {
                "404": response(
                    {}, "The server has no such record or result, or the model answers 404"
                ),
                "409": response("Failure", "The prediction has not ended, or was cancelled"),
                **OF_THE_MODEL,
            },
            predict["produces"],
        )
        return made | {"parameters": [UUID], "function": "result"}

    def train(self, definitions: Json) -> Json | None:
        return _train(self._pool, definitions) if self._has("train") else None


def _predict(pool: Pool, definitions: Json) -> Json:
    function = pool.description["predict"]
    renaming = add_definitions(function["definitions"], definitions)
    later = "The prediction is made later; the header Location has the address of its record"
    made = operation(
        "models",
        f"Make a prediction with {pool.name}",
        response(_result(pool, renaming), "The result"),
        _OF_A_BODY,
        {"202": response("Training", later), **OF_THE_MODEL},
        _produced(pool),
    )
    parameters = _parameters(renamed(function["arguments"], renaming))
    made |= {"description": _RESPOND_ASYNC, "parameters": parameters, "function": "predict"}
    made |= _examples(pool, "predict")
    _add_consumes(made)
    return made


def _train(pool: Pool, definitions: Json) -> Json:
    function = pool.description.get("train", _NO_ARGUMENTS)
    renaming = add_definitions(function["definitions"], definitions)
    made = operation(
        "models",
        f"Train {pool.name}",
        response("Training", "The training has begun, or is queued"),
        _OF_A_BODY,
        OF_THE_MODEL,
    )
    parameters = _parameters(renamed(function["arguments"], renaming))
    made |= {"description": _CALLBACK, "parameters": parameters, "function": "train"}
    made |= _examples(pool, "train")
    _add_consumes(made)
    return made


def _examples(pool: Pool, function: str) -> Json:
    """Return the examples as an extension, which clients that do not know it ignore."""
    described = pool.description["interface"]["functions"].get(function, {})
    examples = described.get("examples")
    return {"x-examples": examples} if examples else {}


def _produced(pool: Pool) -> list[str]:
    """Return the media types of the responses of predict."""
    function = pool.description["predict"]
    if function["media_types"]:
        return [*function["media_types"], ANY]
    # If a stream fails before it begins, or is made later, the response is JSON.
    produced = [NDJSON, EVENTS, JSON] if pool.description["yields"] else JSON_TYPE
    takes_any = any(argument["name"] == "accept" for argument in function["arguments"])
    return [*produced, ANY] if takes_any else produced


def _result(pool: Pool, renaming: Mapping[str, str]) -> Json:
    """Return the schema of the responses of predict: that of its JSON, if it can return JSON."""
    function = pool.description["predict"]
    if function["media_types"] and JSON not in function["media_types"]:
        return {"type": "file"}
    if pool.description["yields"]:
        return text("The items; each is a line of JSON, or an event with JSON")
    if function["result"] is None:
        return ref("Prediction")
    name = renaming.get(function["result"], function["result"])
    return list_of(name) if function["result_is_list"] else ref(name)


def _add_consumes(made: Json) -> None:
    if any(parameter["in"] == "formData" for parameter in made["parameters"]):
        made["consumes"] = ["multipart/form-data"]


def _parameters(arguments: list[Json]) -> list[Json]:
    parameters = []
    in_body: Json = {}
    for argument in arguments:
        name, prop = argument["name"], argument["property"]
        if argument["location"] == "json":
            if not in_body:  # in Swagger 2.0 the whole body is one parameter
                in_body = {"type": "object", "properties": {}}
                parameters.append(
                    {"in": "body", "name": "body", "required": False, "schema": in_body}
                )
            in_body["properties"][name] = prop
            if argument["required"]:
                in_body.setdefault("required", []).append(name)
            continue
        place = "formData" if argument["file"] else _IN[argument["location"]]
        parameter = {"in": place, "name": name, "required": argument["required"]}
        if argument["multiple"]:
            parameter["collectionFormat"] = "multi"
        parameters.append(parameter | prop)
    return parameters
