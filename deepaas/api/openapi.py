"""The description of the interface, from what the workers say of their models: Swagger 2.0."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

import deepaas
from deepaas.api import openapi_records
from deepaas.api.answers import json_answer
from deepaas.api.app import App
from deepaas.model.v2.streams import EVENTS, NDJSON
from deepaas.serving.pool import Pool

Json = dict[str, Any]

_IN = {"query": "query", "form": "formData", "headers": "header"}
_JSON_TYPE = ["application/json"]

_STRING = {"type": "string"}
_LOCATION = {
    "type": "object",
    "properties": {"rel": _STRING, "href": {"type": "string", "format": "url"}, "type": _STRING},
    "required": ["href", "rel", "type"],
}
_COMMON: Json = {
    "Location": _LOCATION,
    "Failure": {
        "type": "object",
        "properties": {
            "message": {"type": "string", "description": "What went wrong, in one line"},
            "code": {"type": "string", "description": "The kind of failure, for programs"},
        },
        "required": ["message"],
    },
    "Version": {
        "type": "object",
        "properties": {
            "version": _STRING,
            "id": _STRING,
            "type": _STRING,
            "links": {"type": "array", "items": {"$ref": "#/definitions/Location"}},
        },
        "required": ["id", "version"],
    },
    "Versions": {
        "type": "object",
        "properties": {
            "versions": {"type": "array", "items": {"$ref": "#/definitions/Version"}},
            "links": {"type": "array", "items": {"$ref": "#/definitions/Location"}},
        },
    },
    "ModelMeta": {
        "type": "object",
        "properties": {
            "id": {"type": "string", "description": "Model identifier"},
            "name": {"type": "string", "description": "Model name"},
            "description": {"type": "string", "description": "What the model does"},
            "links": {"type": "array", "items": {"$ref": "#/definitions/Location"}},
        },
        "required": ["id", "name"],
    },
    "Models": {
        "type": "object",
        "properties": {"models": {"type": "array", "items": {"$ref": "#/definitions/ModelMeta"}}},
    },
    "Prediction": {
        "type": "object",
        "properties": {
            "status": {"type": "string", "description": "OK"},
            "predictions": {"description": "What the model returned"},
        },
        "required": ["predictions", "status"],
    },
    **openapi_records.DEFINITIONS,
}


async def swagger(request: web.BaseRequest, app: App) -> web.Response:
    return json_answer(describe(app))


def describe(app: App) -> Json:
    """The whole description, of the models as they are now."""
    base = app.settings.base_path
    definitions = json.loads(json.dumps(_COMMON))
    paths: Json = {
        f"{base}/": {"get": _get("versions", "The versions of this interface", "Versions")},
        f"{base}/v2/": {"get": _get("versions", "Version 2 of this interface", "Version")},
        f"{base}/v2/debug/": {"get": _debug()},
        f"{base}/v2/models/": {"get": _get("models", "The models that are served", "Models")},
    }
    for pool in app.pools.values():
        path = f"{base}/v2/models/{pool.name}/"
        paths[path] = {"get": _get("models", f"What {pool.name} is", "ModelMeta")}
        predict = pool.description.get("predict")
        if predict and app.settings.predict:
            operation = _predict(pool.name, predict, definitions)
            if pool.description["yields"] and not predict["media_types"]:
                operation["produces"] = [NDJSON, EVENTS]
            paths[f"{path}predict/"] = {"post": operation}
        paths |= _of_records(path, pool, app, definitions)
    return {
        "swagger": "2.0",
        "info": {
            "title": "DEEP as a Service API endpoint",
            "version": deepaas.__version__,
            "description": f"Models served here: {', '.join(app.pools)}",
        },
        "paths": paths,
        "definitions": definitions,
    }


def _get(tag: str, summary: str, answer: str) -> Json:
    return {
        "tags": [tag],
        "summary": summary,
        "produces": _JSON_TYPE,
        "responses": {"200": _response(answer)},
    }


def _debug() -> Json:
    return {
        "tags": ["debug"],
        "summary": "The newest output of the server and its workers",
        "produces": ["text/plain"],
        "responses": {
            "200": {"description": "The output"},
            "204": {"description": "It is not shown on this server"},
        },
    }


def _response(definition: str, description: str = "") -> Json:
    return {"description": description, "schema": {"$ref": f"#/definitions/{definition}"}}


def _of_records(path: str, pool: Pool, app: App, definitions: Json) -> Json:
    """The paths of trainings and of asynchronous predictions."""
    described = {}
    train = pool.description.get("train")
    if app.settings.train and train:
        described = openapi_records.describe(f"{path}train", "training")
        renamed = _add_definitions(train["definitions"], definitions)
        operation: Json = {
            "tags": ["models"],
            "summary": f"Train {pool.name}",
            "produces": _JSON_TYPE,
            "parameters": _parameters(_renamed(train["arguments"], renamed)),
            "responses": {
                "200": _response("Training", "It has begun, or waits for its turn"),
                "422": {"description": "Arguments that are not what they should be"},
                "503": _response("Failure", "Too many trainings wait"),
                "507": _response("Failure", "There is no room for its record"),
            },
        }
        _add_consumes(operation)
        described[f"{path}train/"]["post"] = operation
    if app.settings.predict and "predict" in pool.description.get("has", []):
        described |= openapi_records.describe(f"{path}jobs", "asynchronous prediction")
        described |= openapi_records.describe_result(f"{path}jobs/{{uuid}}")
    return described


def _add_consumes(operation: Json) -> None:
    if any(parameter["in"] == "formData" for parameter in operation["parameters"]):
        operation["consumes"] = ["multipart/form-data"]


def _predict(name: str, function: Json, definitions: Json) -> Json:
    renamed = _add_definitions(function["definitions"], definitions)
    result: str = function["result"] or "Prediction"
    operation: Json = {
        "tags": ["models"],
        "summary": f"Make a prediction with {name}",
        "produces": [*function["media_types"], "*/*"] if function["media_types"] else _JSON_TYPE,
        "parameters": _parameters(_renamed(function["arguments"], renamed)),
        "responses": {
            "200": _response(renamed.get(result, result)),
            "400": _response("Failure", "The model refuses the input"),
            "422": {"description": "Arguments that are not what they should be, with the reasons"},
            "503": _response("Failure", "Too many requests wait, or the model cannot answer now"),
            "504": _response("Failure", "The prediction takes too long"),
        },
    }
    _add_consumes(operation)
    return operation


def _parameters(arguments: list[Json]) -> list[Json]:
    parameters = []
    in_body: Json = {}
    for argument in arguments:
        name, prop = argument["name"], argument["property"]
        if argument["location"] == "json":
            if not in_body:  # Swagger 2.0 has one parameter for all of the body
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


def _add_definitions(new: Mapping[str, Any], definitions: Json) -> dict[str, str]:
    """Add a model's definitions; those whose name is taken by another get a new one.

    Returns the new names by the old.
    """
    renamed = {}
    for name, definition in new.items():
        free, number = name, 0
        while free in definitions and definitions[free] != definition:
            number += 1
            free = f"{name}{number}"
        if free != name:
            renamed[name] = free
        definitions[free] = definition
    for name in new:
        final = renamed.get(name, name)
        definitions[final] = _renamed(definitions[final], renamed)
    return renamed


def _renamed(value: Any, renamed: Mapping[str, str]) -> Any:
    """The same with every reference to a renamed definition mended."""
    if not renamed:
        return value
    if isinstance(value, dict):
        return {
            key: f"#/definitions/{renamed.get(item.rpartition('/')[2], item.rpartition('/')[2])}"
            if key == "$ref"
            else _renamed(item, renamed)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_renamed(item, renamed) for item in value]
    return value
