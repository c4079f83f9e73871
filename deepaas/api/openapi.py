"""The description of the interface in OpenAPI 3.1, made from the routes and the models' neutral
descriptions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

from aiohttp import web

import deepaas
from deepaas.api import operation_parts, record_operations
from deepaas.api.app import App
from deepaas.api.definition_names import OPENAPI, add_definitions, renamed
from deepaas.api.documents import (
    TAGS,
    document_response,
    is_public,
    shown_to,
    tags_in,
    text_of_model,
)
from deepaas.api.openapi_headers import add_headers, add_links, components
from deepaas.api.openapi_parts import (
    content_of,
    parameters_of,
    request_body,
    schema_of,
    translated,
    with_components,
)
from deepaas.api.operation_parts import Json
from deepaas.http.forwarded import UNKNOWN, PublicAddress
from deepaas.http.request import Request
from deepaas.http.routing import Route

_SCHEME = "token"
_SECURITY: Json = {
    _SCHEME: {"type": "http", "scheme": "bearer", "description": "The token of a client"}
}

OPERATION_IDS = {
    "GET /": "list_versions",
    "GET /v2/": "show_version",
    "GET /v2/health/live": "check_live",
    "GET /v2/health/ready": "check_ready",
    "GET /v2/debug/": "show_output",
    "GET /v2/models/": "list_models",
    "GET /swagger.json": "describe_in_swagger",
    "GET /openapi.json": "describe_in_openapi",
    "GET /metrics": "show_metrics",
    "GET /api": "show_page",
    "GET /ui": "find_page",
    "GET /static/swagger/{asset}": "get_file_of_page",
    "GET {model}/": "show",
    "GET {model}/ready": "check_ready",
    "GET {model}/examples/{path*}": "get_example_file",
    "POST {model}/reload": "reload",
    "POST {model}/predict/": "predict",
    "GET {model}/jobs/": "list_predictions",
    "GET {model}/jobs/{uuid}": "show_prediction",
    "DELETE {model}/jobs/{uuid}": "cancel_prediction",
    "GET {model}/jobs/{uuid}/logs": "get_prediction_logs",
    "GET {model}/jobs/{uuid}/artifacts/": "list_prediction_artifacts",
    "GET {model}/jobs/{uuid}/artifacts/{path*}": "get_prediction_artifact",
    "GET {model}/jobs/{uuid}/result": "get_prediction_result",
    "POST {model}/train/": "train",
    "GET {model}/train/": "list_trainings",
    "GET {model}/train/{uuid}": "show_training",
    "DELETE {model}/train/{uuid}": "cancel_training",
    "GET {model}/train/{uuid}/logs": "get_training_logs",
    "GET {model}/train/{uuid}/artifacts/": "list_training_artifacts",
    "GET {model}/train/{uuid}/artifacts/{path*}": "get_training_artifact",
}
"""The id of each operation. The id of a model's operation ends with the model's name.

Generated clients have methods with these names, so they must not change.
"""


async def show(request: Request, app: App) -> web.StreamResponse:
    described = describe(app, *shown_to(request, app), request.public_address)
    return document_response(request, described)


def describe(
    app: App,
    routes: Iterable[Route],
    models: Iterable[str],
    address: PublicAddress = UNKNOWN,
) -> Json:
    """Return the description of these routes, with the current state of these models.

    The operations of the models come first. Clients find the paths below `address`.
    """
    names = list(models)
    document = _Document(app)
    for route in sorted(routes, key=_rank):
        document.add(route)
    used = tags_in(document.paths)
    tags = [
        {"name": name, "description": text_of_model(app, name)} for name in names if name in used
    ]
    tags += [{"name": tag, "description": text} for tag, text in TAGS.items() if tag in used]
    add_links(document.paths)
    parts: Json = {"schemas": document.schemas, **components(schema_of)}
    if app.settings.authenticator is not None:
        parts["securitySchemes"] = _SECURITY
    return {
        "openapi": "3.1.0",
        "info": {
            "title": ", ".join(names) or "DEEP as a Service API endpoint",
            "version": deepaas.__version__,
            "description": f"Models served here: {', '.join(names) or 'none that you may use'}",
        },
        "servers": [{"url": address.base_url}],
        "tags": tags,
        "paths": document.paths,
        "components": parts,
    }


def _rank(route: Route) -> int:
    """Return 0 for the functions of models, 1 for their other routes, 2 for all others."""
    if not route.model:
        return 2
    is_function = route.method == "POST" and route.path.endswith(("/predict/", "/train/"))
    return 0 if is_function else 1


class _Document:
    """The paths and schemas of the description while it is made."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._ids: set[str] = set()
        self._renamings: dict[str, dict[str, str]] = {}
        self.paths: Json = {}
        self.schemas: Json = schema_of(operation_parts.DEFINITIONS | record_operations.DEFINITIONS)

    def add(self, route: Route) -> None:
        """Add the operation of the route, unless it is not offered now."""
        of_swagger: Json = {}
        operation = route.operation(of_swagger)
        if operation is None:
            return
        function = operation.get("function")
        if function:
            if function != "result":  # its arguments are those of the neutral description
                operation["parameters"] = []
        elif of_swagger:  # definitions of a plug-in
            self.schemas |= schema_of(of_swagger)
        signs_in = self._app.settings.authenticator is not None and not is_public(route)
        operation_parts.add_errors(route.method, operation["responses"], signs_in=signs_in)
        made = translated(operation)
        made = {"operationId": self._id_of(route), **made}
        made["tags"] = [route.model] if route.model else made.get("tags", [])
        if function:
            self._add_function(made, route.model, function)
        if signs_in:
            made["security"] = [{_SCHEME: []}]
        timing = self._app.settings.server_timing
        add_headers(made, route, schema_of, function=function or "", times=timing)
        path = self._app.settings.base_path + route.path.replace("*}", "}")
        self.paths.setdefault(path, {})[route.method.lower()] = made

    def _add_function(self, made: Json, model: str, function: str) -> None:
        """Add the arguments and the result of a function from the model's description."""
        interface = self._app.pools[model].description["interface"]
        renaming = self._renaming_of(model, interface)
        functions = renamed(with_components(interface["functions"]), renaming, OPENAPI)
        if function in ("predict", "train"):
            arguments = (
                functions.get(function, {}).get("arguments", []),
                interface["functions"].get(function, {}).get("examples", []),
            )
            if parameters := parameters_of(*arguments):
                made["parameters"] = parameters
            if body := request_body(*arguments):
                made["requestBody"] = body
        if function in ("predict", "result"):
            envelope = {"$ref": f"{OPENAPI}Prediction"}
            made["responses"]["200"]["content"] = content_of(functions["predict"], envelope)

    def _renaming_of(self, model: str, interface: Json) -> dict[str, str]:
        if model not in self._renamings:
            nested = with_components(interface["schemas"])
            self._renamings[model] = add_definitions(nested, self.schemas, OPENAPI)
        return self._renamings[model]

    def _id_of(self, route: Route) -> str:
        """Return the id of the operation, which no other operation has."""
        wanted = operation_id(route)
        found, number = wanted, 1
        while found in self._ids:
            number += 1
            found = f"{wanted}_{number}"
        self._ids.add(found)
        return found


def operation_id(route: Route) -> str:
    """Return the id of the route's operation; that of a plug-in consists of method and path."""
    path = route.path
    if route.model:
        path = path.replace(f"/v2/models/{quote(route.model, safe='')}", "{model}", 1)
    name = OPERATION_IDS.get(f"{route.method} {path}") or f"{route.method.lower()}_{path}"
    return _identifier(f"{name}_{route.model}" if route.model else name)


def _identifier(text: str) -> str:
    return re.sub(r"_*[^0-9A-Za-z_]+_*", "_", text).strip("_")
