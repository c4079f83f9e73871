"""Builds calls whose arguments are in different places, and loads them."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from webargs import fields

from deepaas.file_part import FilePart
from deepaas.model.v2.arguments import Arguments, InvalidArgumentsError
from deepaas.model.v2.exchange import Call

JSON = "application/json"
URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"


def load(declared: Any, call: Call) -> dict[str, Any]:
    """Return the keyword arguments that the model's function would get."""
    return Arguments(declared).load(call)[0]


def refusal(declared: Any, call: Call) -> tuple[int, Any]:
    """Return the status and messages with which the call is refused."""
    with pytest.raises(InvalidArgumentsError) as refused:
        Arguments(declared).load(call)
    return refused.value.status, refused.value.messages


def by_query(*pairs: tuple[str, str]) -> Call:
    return Call(query=urlencode(pairs))


def by_form(*pairs: tuple[str, str]) -> Call:
    return Call(content_type=URLENCODED, body=urlencode(pairs).encode())


def by_parts(*parts: tuple[str, str | FilePart]) -> Call:
    return Call(content_type=MULTIPART, form=list(parts))


def by_json(value: Any, content_type: str = JSON) -> Call:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Call(content_type=content_type, body=body)


def file_field(**kwargs: Any) -> Any:
    return fields.Raw(metadata={"type": "file", "location": "form"}, **kwargs)
