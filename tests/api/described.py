"""Compares the responses of a server with its API description."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import jsonschema

from deepaas.api.operation_parts import DEFINITIONS
from deepaas.api.record_operations import DEFINITIONS as OF_RECORDS
from tests.support import Server

Json = dict[str, Any]

OPEN = {"ModelMeta"}
"""Definitions of objects that may have additional properties."""

CLOSED = (set(DEFINITIONS) | set(OF_RECORDS)) - OPEN
NAMES = {"properties", "definitions"}
"""Keywords whose members are names of properties or definitions, and not keywords of a schema."""


@dataclass
class Described:
    """A server and its API description; `base` is the base path."""

    server: Server
    base: str = ""
    document: Json = field(init=False)
    openapi: Json = field(init=False)
    succeeded: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        response = self.server.get(f"{self.base}/swagger.json")
        assert response.status_code == 200, response.text
        self.document = response.json()
        self.openapi = self.server.get(f"{self.base}/openapi.json").json()

    def operations(self) -> set[tuple[str, str]]:
        """Return the methods and paths of the description."""
        return {(method, path) for path, one in self.document["paths"].items() for method in one}

    def ask(
        self,
        method: str,
        path: str,
        status: int,
        *,
        place: Mapping[str, str] | None = None,
        chosen: bool = False,
        **kwargs: Any,
    ) -> httpx.Response:
        """Send a request; check its status, and check that the description covers the response.

        `place` has the values of the path's parameters. A status that is `chosen` by the model may
        be described as default.
        """
        target = path
        for name, value in (place or {}).items():
            target = target.replace(f"{{{name}}}", value)
        response = self.server.request(method.upper(), target, **kwargs)
        assert response.status_code == status, f"{method} {target}: {response.text[:500]}"
        content_type = response.headers.get("Content-Type", "")
        self.check(method, path, status, content_type, response.content, chosen=chosen)
        self._check_by_openapi(method, path, response)
        if status < 300:
            self.succeeded.add((method, path))
        return response

    def _check_by_openapi(self, method: str, path: str, response: httpx.Response) -> None:
        """Check that the description in OpenAPI 3.1 has this status, media type and body."""
        responses = self.openapi["paths"][path][method]["responses"]
        where = f"{method} {path} {response.status_code} in OpenAPI"
        described = responses.get(str(response.status_code)) or responses.get("default")
        assert described, f"{where} is not described"
        if "$ref" in described:
            name = described["$ref"].rpartition("/")[2]
            described = self.openapi["components"]["responses"][name]
        if str(response.status_code) in responses:  # otherwise the model chooses the headers
            self._check_headers(where, described["headers"], response)
        if not response.content:
            return
        content = described.get("content", {})
        media_type = response.headers["Content-Type"].partition(";")[0]
        ranges = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
        found = next((content[one] for one in ranges if one in content), None)
        assert found is not None, f"{where}: {media_type} is not one of {[*content]}"
        if media_type == "application/json":
            schema = {**found["schema"], "components": self.openapi["components"]}
            errors = jsonschema.Draft202012Validator(schema).iter_errors(response.json())
            assert [error.message for error in errors] == [], where

    def _check_headers(self, where: str, described: Json, response: httpx.Response) -> None:
        """Check that the description of the response has its headers, and no other required one."""
        headers = self.openapi["components"]["headers"]
        sent = {name for name in headers if name in response.headers}
        assert sent <= set(described), where
        required = {name for name in described if headers[name]["required"]}
        assert required <= sent, where
        for name in sent:
            value = response.headers[name]
            assert headers[name]["schema"]["type"] == "string" or int(value) >= 0, where

    def check(
        self,
        method: str,
        path: str,
        status: int,
        content_type: str,
        body: bytes,
        *,
        chosen: bool = False,
    ) -> None:
        """Check that the description of the operation covers this response."""
        operation = self.document["paths"][path][method]
        responses = operation["responses"]
        where = f"{method} {path} {status}"
        assert str(status) in responses or chosen, f"{where} is not described"
        response = responses.get(str(status)) or responses["default"]
        media_type = content_type.partition(";")[0]
        if chosen and status < 400:
            assert not body or media_type == "text/plain", f"{where}: {content_type}"
            return  # as the text of the default response says
        if status >= 400:
            assert media_type in ("application/json", "text/plain"), f"{where}: {content_type}"
        elif body:
            produced = operation["produces"]
            assert media_type in produced or "*/*" in produced, f"{where}: {content_type}"
        schema = response.get("schema")
        if schema is None:
            assert not body, f"{where} is described without a body"
        elif media_type == "application/json":
            self._validate(where, schema, json.loads(body))
        elif schema.get("type") == "string" or not schema:
            self._validate(where, schema, body.decode())
        else:
            # Swagger 2.0 has one schema per response: the schema of the JSON response.
            is_other = status < 400 and "*/*" in operation["produces"]
            assert is_other or schema.get("type") == "file", f"{where}: {content_type}"

    def _validate(self, where: str, schema: Json, instance: Any) -> None:
        errors = [error.message for error in self.validator(schema).iter_errors(instance)]
        assert not errors, f"{where}: {errors}\n{instance!r:.1000}"

    def validator(self, schema: Json) -> jsonschema.Draft4Validator:
        """Return a validator for a schema of the description."""
        definitions = {
            name: _closed(one) if name in CLOSED else one
            for name, one in self.document["definitions"].items()
        }
        whole = {"definitions": definitions, "allOf": [schema]}
        translated = _translated(whole)
        jsonschema.Draft4Validator.check_schema(translated)
        checker = jsonschema.Draft4Validator.FORMAT_CHECKER
        return jsonschema.Draft4Validator(translated, format_checker=checker)


def _closed(schema: Json) -> Json:
    """Return the schema, closed to properties that it does not name."""
    return {"additionalProperties": False, **schema} if "properties" in schema else schema


def _translated(schema: Any, *, of_names: bool = False) -> Any:
    """Translate a schema of Swagger 2.0 to JSON Schema, where null is a type."""
    if isinstance(schema, list):
        return [_translated(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if of_names:
        return {name: _translated(one) for name, one in schema.items()}
    made = {
        key: item if key in ("enum", "default") else _translated(item, of_names=key in NAMES)
        for key, item in schema.items()
        if key != "x-nullable"
    }
    return {"anyOf": [{"type": "null"}, made]} if schema.get("x-nullable") is True else made
