"""The errors that a client raises. The text of each says what to change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MAX_DEPTH = 50
"""How deeply the messages about an argument are nested at most; deeper ones are not shown."""


class ClientError(Exception):
    """A request has not succeeded."""


class NotConnectedError(ClientError):
    """The server cannot be reached, did not answer in time, or gave no usable HTTP response."""


class UnsuitableArgumentError(ClientError):
    """An argument cannot be sent; nothing was sent."""


class RefusedError(ClientError):
    """The server has answered with an error.

    `status` is that of HTTP, or 0 for an error within a stream. `code` is the code that
    docs/errors.md explains, or "". `arguments` maps the names of arguments to their messages if
    the arguments are not valid.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str = "",
        request_id: str = "",
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.request_id = request_id
        self.arguments = arguments

    def as_json(self) -> dict[str, Any]:
        """Return the error as plain data, without the keys that it lacks."""
        plain = {
            "status": self.status,
            "message": self.message,
            "code": self.code,
            "request_id": self.request_id,
            "arguments": dict(self.arguments) if self.arguments is not None else None,
        }
        return {key: value for key, value in plain.items() if value not in ("", None, 0)}


def refusal(status: int, body: bytes, request_id: str = "") -> RefusedError:
    """Return the error that the body of a response with a status from 400 on describes."""
    text = body.decode(errors="replace").strip()
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        shown = text if len(text) <= 500 else text[:500] + "…"
        return RefusedError(status, shown or f"HTTP status {status}", request_id=request_id)
    message, code = said.get("message"), said.get("code")
    if isinstance(message, str) and isinstance(code, str):
        return RefusedError(
            status, message, code=code, request_id=str(said.get("request_id") or request_id)
        )
    if status == 422:
        lines = [f"{name}: {line}" for name, found in said.items() for line in messages_in(found)]
        return RefusedError(status, "; ".join(lines), request_id=request_id, arguments=said)
    lines = [f"{name}: {line}" for name, found in said.items() for line in messages_in(found)]
    return RefusedError(status, "; ".join(lines) or text, request_id=request_id)


def messages_in(found: Any, depth: int = 0) -> list[str]:
    """Return the messages about an argument as lines; a part of it stands before its message."""
    if depth > MAX_DEPTH:
        return ["…"]
    if isinstance(found, Mapping):
        return [
            f"{key}: {line}"
            for key, value in found.items()
            for line in messages_in(value, depth + 1)
        ]
    if isinstance(found, list):
        return [line for one in found for line in messages_in(one, depth + 1)]
    return [str(found)]
