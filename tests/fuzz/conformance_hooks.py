"""What schemathesis has to know about this server; it imports this module (SCHEMATHESIS_HOOKS).

A schema describes the usual form of a value. The fields of a model, which validate the values, also
take some other forms, and existing clients rely on that: docs/description.md lists them. So a
request that violates the schema may be accepted if it is valid in the usual form. Any other one
that is accepted is a failure.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import math
import os
import urllib.parse
import uuid
from collections.abc import Callable
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

import jsonschema
import marshmallow
import requests
import schemathesis
from hypothesis import strategies
from marshmallow import fields
from schemathesis import Case, HookContext, Response
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.openapi.checks import RejectedPositiveData, UseAfterFree

Json = dict[str, Any]

LEAST_SECONDS = 60
"""A shorter X-Request-Timeout ends a prediction with 504, which would be right."""

# Formats of the registry of OpenAPI that schemathesis does not know.
schemathesis.openapi.format(
    "date-time-local", strategies.datetimes().map(lambda moment: moment.isoformat())
)
schemathesis.openapi.format("time-local", strategies.times().map(lambda time: time.isoformat()))


ASYNC_SHARE = 20
"""One in so many predictions that may be made later is: each needs a process of its own."""

_asynchronous = itertools.count()


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: Json) -> None:
    """Change requests whose right response is a failure for schemathesis, or takes too long."""
    headers: Any = case.headers or {}
    with contextlib.suppress(ValueError):
        if 0 < float(headers.get("X-Request-Timeout", "")) < LEAST_SECONDS:
            headers["X-Request-Timeout"] = str(LEAST_SECONDS)
    if headers.get("Prefer") == "respond-async" and next(_asynchronous) % ASYNC_SHARE:
        del headers["Prefer"]
    # Such a response ends with the job, which may be one that waits.
    if case.operation.path.endswith("/logs") and str((case.query or {}).get("follow")) in _TRUE:
        case.query["follow"] = False


_TRUE = ("True", "true", "1", "yes")


@schemathesis.hook
def filter_failure(
    context: HookContext, failure: Failure, case: Case[Any], response: Response
) -> bool:
    """Return whether this is a failure, and not one of the decisions below."""
    reason = reason_for(failure, case, response)
    if reason:
        _note(reason)
    return not reason


def reason_for(failure: Failure, case: Case[Any], response: Response) -> str:
    """Return the decision by which the response is right, or ""."""
    if isinstance(failure, RejectedPositiveData) and _is_refused_by_model(response):
        return "a value that the model refuses, such as a file that is not a picture"
    if isinstance(failure, UseAfterFree) and _is_cancelled(case, response):
        return "a cancelled record, which DELETE keeps: only the next one removes it"
    if not isinstance(failure, AcceptedNegativeData):
        return ""
    if is_valid_in_usual_form(case, response):
        return "another form of a valid value"
    return ""


def _is_refused_by_model(response: Response) -> bool:
    with contextlib.suppress(ValueError, AttributeError):
        return bool(response.json().get("code") == "refused_by_model")
    return False


def _is_cancelled(case: Case[Any], response: Response) -> bool:
    """Return whether the record is there, and was cancelled."""
    uuid = str(case.path_parameters["uuid"])
    beginning, found, _ = str(response.request.url).partition(uuid)
    shown = requests.get(beginning + found, headers=response.request.headers, timeout=60)
    return bool(shown.status_code == 200 and shown.json()["status"] == "cancelled")


def _note(reason: str) -> None:
    path = os.environ.get("CONFORMANCE_NOTES")
    if path:
        with open(path, "a") as file:
            file.write(f"{reason}\n")


# --- the usual form of a request


def is_valid_in_usual_form(case: Case[Any], response: Response) -> bool:
    """Return whether the request that was sent meets the description after the conversions.

    Headers and query parameters that the description does not name are ignored, as HTTP says.
    """
    document = case.operation.schema.raw_schema
    operation = document["paths"][case.operation.path][case.operation.method.lower()]
    request = response.request
    query = urllib.parse.parse_qs(
        urllib.parse.urlsplit(str(request.url)).query, keep_blank_values=True
    )
    for given in operation.get("parameters", []):
        parameter = _resolved(document, given)
        if parameter["in"] == "query":
            texts = query.get(parameter["name"])
        elif parameter["in"] == "header":
            value = request.headers.get(parameter["name"])
            texts = None if value is None else [_text(value)]
        else:
            continue
        if texts is None and parameter["required"]:
            return False
        if texts is not None and not takes(document, parameter["schema"], _of_texts(texts)):
            return False
    return _has_valid_body(document, operation.get("requestBody"), request)


def _has_valid_body(document: Json, described: Json | None, request: Any) -> bool:
    if described is None:
        return True
    body = request.body or b""
    content = body.encode() if isinstance(body, str) else bytes(body)
    media_type, parts = _parts(content, _text(request.headers.get("Content-Type", "")))
    if not content:
        parts = {}
    schema = described["content"].get(media_type, {}).get("schema")
    if parts is None or schema is None:
        return not described["required"]
    # Arguments may stand in any body, so a schema may name more than this form of it has.
    return takes(document, schema, parts)


def _parts(content: bytes, content_type: str) -> tuple[str, Any]:
    """Return the media type and the arguments in a body; None if it cannot be read."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "application/json":
        try:
            return media_type, json.loads(content)
        except ValueError:
            return media_type, None
    if media_type == "application/x-www-form-urlencoded":
        form = urllib.parse.parse_qs(content.decode(), keep_blank_values=True)
        return media_type, {name: _of_texts(texts) for name, texts in form.items()}
    if media_type != "multipart/form-data":
        return media_type, None
    message = BytesParser(policy=HTTP).parsebytes(
        f"Content-Type: {content_type}\r\n\r\n".encode() + content
    )
    found: dict[str, list[Any]] = {}
    for part in message.iter_parts():
        name = str(part.get_param("name", header="content-disposition"))
        payload = part.get_payload(decode=True)
        text = payload.decode(errors="replace") if isinstance(payload, bytes) else ""
        if part.get_content_type() == "application/json" and "Content-Type" in part:
            found.setdefault(name, []).append(json.loads(text))
        else:
            found.setdefault(name, []).append(text)
    return media_type, {name: _of_texts(values) for name, values in found.items()}


def _of_texts(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _resolved(document: Json, schema: Any) -> Any:
    while isinstance(schema, dict) and "$ref" in schema:
        path = schema["$ref"].removeprefix("#/").split("/")
        found: Any = document
        for name in path:
            found = found[name.replace("~1", "/").replace("~0", "~")]
        schema = found
    return schema


# --- the conversions of docs/description.md


class _Refused:
    """Stands for a value that no conversion makes valid; no schema takes it."""


def takes(document: Json, schema: Json, value: Any) -> bool:
    """Return whether the schema takes the value after the conversions."""
    converted = converted_value(document, schema, value)
    whole = {**schema, "components": document["components"]}
    validator = jsonschema.Draft202012Validator(whole)
    return bool(not _has_refused(converted) and validator.is_valid(converted))


def _has_refused(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_refused, value.values()))
    return any(map(_has_refused, value)) if isinstance(value, list) else value is _Refused


def converted_value(document: Json, schema: Any, value: Any) -> Any:
    """Return the value in the usual form, as far as the schema says which that is."""
    schema = _resolved(document, schema)
    for one in schema.get("anyOf", ()):
        if takes(document, one, value):
            return converted_value(document, one, value)
    types = schema.get("type", [])
    types = types if isinstance(types, list) else [types]
    if value is None and "null" in types:
        return None
    for kind in types:
        if kind in _CONVERSIONS:
            return _CONVERSIONS[kind](document, schema, value)
    return value


def _integer(document: Json, schema: Json, value: Any) -> Any:
    """Return the integer: a text of one, or a number without its fraction."""
    if isinstance(value, bool) and "A number of" in schema.get("description", ""):
        return int(value)  # TimeDelta takes booleans, unlike all other numbers
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return value
    try:
        return int(value)
    except (ValueError, OverflowError):
        return _Refused


def _number(document: Json, schema: Json, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        number = float(value)
    except ValueError:
        return _Refused
    return number if math.isfinite(number) else _Refused


def _boolean(document: Json, schema: Json, value: Any) -> Any:
    try:
        return fields.Boolean().deserialize(value)
    except marshmallow.ValidationError:
        return _Refused


def _array(document: Json, schema: Json, value: Any) -> Any:
    """Return the list; a value stands for a list of one."""
    if value is None:
        return value
    values = value if isinstance(value, list) else [value]
    of_places = schema.get("prefixItems", [])
    return [
        converted_value(
            document,
            of_places[place] if place < len(of_places) else schema.get("items", {}),
            one,
        )
        for place, one in enumerate(values)
    ]


def _object(document: Json, schema: Json, value: Any) -> Any:
    if isinstance(value, str):  # a form and a query have texts
        try:
            value = json.loads(value)
        except ValueError:
            return _Refused
    if not isinstance(value, dict):
        return value
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", {})
    return {
        name: converted_value(
            document, properties.get(name, others if isinstance(others, dict) else {}), one
        )
        for name, one in value.items()
    }


def _string(document: Json, schema: Json, value: Any) -> Any:
    load = _FORMATS.get(schema.get("format", ""))
    if load is None or not isinstance(value, str):
        return value
    try:
        load(value)
    except (ValueError, marshmallow.ValidationError):
        return _Refused
    return value


_FORMATS: dict[str, Callable[[str], object]] = {
    "uuid": uuid.UUID,
    "date": datetime.date.fromisoformat,
    "date-time": fields.DateTime().deserialize,
    "date-time-local": fields.NaiveDateTime().deserialize,
    "time-local": fields.Time().deserialize,
    "uri": fields.Url().deserialize,
    "email": fields.Email().deserialize,
    "ipv4": fields.IPv4().deserialize,  # type: ignore[no-untyped-call]
    "ipv6": fields.IPv6().deserialize,  # type: ignore[no-untyped-call]
}

_CONVERSIONS: dict[str, Callable[[Json, Json, Any], Any]] = {
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "array": _array,
    "object": _object,
    "string": _string,
}
