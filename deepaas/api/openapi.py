"""The description of the interface in Swagger 2.0, made from the descriptions of the models."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from aiohttp import web

import deepaas
from deepaas.api import openapi_records
from deepaas.api.app import App
from deepaas.api.openapi_names import add_definitions, renamed
from deepaas.api.openapi_parts import (
    DEFINITIONS,
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
from deepaas.api.responses import json_response
from deepaas.model.v2.media import ANY, JSON
from deepaas.model.v2.streams import EVENTS, NDJSON
from deepaas.serving.pool import Pool

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

_NO_ARGUMENTS: Json = {"arguments": [], "definitions": {}}


async def swagger(request: web.BaseRequest, app: App) -> web.Response:
    return json_response(describe(app))


def describe(app: App) -> Json:
    """Return the whole description, with the current models."""
    base = app.settings.base_path
    definitions: Json = DEFINITIONS | openapi_records.DEFINITIONS
    paths = _of_server(base)
    for pool in app.pools.values():
        paths |= _of_model(f"{base}/v2/models/{quote(pool.name, safe='')}/", pool, app, definitions)
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


def _of_server(base: str) -> Json:
    """Return the paths that do not depend on the models."""
    versions = operation("versions", "The versions of this interface", response("Versions"))
    version = operation("versions", "Version 2 of this interface", response("Version"))
    models = operation("models", "The models that are served", response("Models"))
    live = operation("health", "Whether the server answers", response("Liveness"))
    ready = operation(
        "health",
        "Whether every model can answer now",
        response("Readiness", "Every model can answer"),
        others={"503": response("Readiness", "A model cannot answer; the reason is given")},
    )
    debug = operation(
        "debug",
        "The latest output of the server and its workers",
        response(STRING, "The output"),
        others={"204": {"description": "The output is not shown on this server"}},
        produces=["text/plain"],
    )
    return {
        f"{base}/": {"get": versions},
        f"{base}/v2/": {"get": version},
        f"{base}/v2/health/live": {"get": live},
        f"{base}/v2/health/ready": {"get": ready},
        f"{base}/v2/debug/": {"get": debug},
        f"{base}/v2/models/": {"get": models},
    }


def _of_model(path: str, pool: Pool, app: App, definitions: Json) -> Json:
    """Return the paths of one model, all below `path`, as its functions and the options allow."""
    settings, name = app.settings, pool.name
    has = pool.description.get("has", ())
    ready = operation(
        "health",
        f"Whether {name} can answer now",
        response("ModelReadiness", "The model can answer"),
        others={"503": response("ModelReadiness", "The model cannot answer; the reason is given")},
    )
    described: Json = {
        path: {"get": operation("models", f"The metadata of {name}", response("ModelMeta"))},
        f"{path}ready": {"get": ready},
    }
    if settings.admin:
        described[f"{path}reload"] = {"post": _reload(name)}
    if settings.predict and "predict" in has:
        predict = _predict(pool, definitions)
        described[f"{path}predict/"] = {"post": predict}
        described |= openapi_records.describe(f"{path}jobs", "asynchronous prediction")
        described |= openapi_records.describe_result(f"{path}jobs/{{uuid}}", predict)
    if settings.train and "train" in has:
        described |= openapi_records.describe(f"{path}train", "training")
        described[f"{path}train/"]["post"] = _train(pool, definitions)
    return described


def _reload(name: str) -> Json:
    return operation(
        "models",
        f"Reload {name}: replace its workers by new ones",
        response("Reloaded"),
        "403 503",
        others={"409": response("Failure", "The model is being reloaded already")},
    )


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
    made |= {"description": _RESPOND_ASYNC, "parameters": parameters}
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
    made |= {"description": _CALLBACK, "parameters": parameters}
    _add_consumes(made)
    return made


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
