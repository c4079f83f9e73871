"""Raises the requested exception, which may be malformed."""
# mypy: disable-error-code="arg-type, call-arg"

import sys
from typing import Any

import marshmallow
from aiohttp import web
from webargs import fields
from werkzeug import exceptions


class OwnError(Exception):
    """An exception that the module defines and that pickle cannot restore."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"own error {first} {second}")


def get_predict_args() -> dict[str, Any]:
    return {"kind": fields.Str(missing="none"), "text": fields.Str(missing="it went wrong")}


def _raise(error: BaseException) -> Any:
    raise error


KINDS: dict[str, Any] = {
    "none": lambda text: text,
    "aiohttp-reason": lambda text: _raise(web.HTTPBadRequest(reason=text)),
    "aiohttp-bare": lambda text: _raise(web.HTTPBadRequest()),
    "aiohttp-text": lambda text: _raise(web.HTTPBadRequest(text=text)),
    "aiohttp-both": lambda text: _raise(web.HTTPBadRequest(reason=text, text="the text")),
    "aiohttp-exception": lambda text: _raise(web.HTTPBadRequest(reason=ValueError(text))),
    "aiohttp-positional": lambda text: _raise(web.HTTPBadRequest(text)),
    "aiohttp-base": lambda text: _raise(web.HTTPException(reason=text)),
    "aiohttp-404": lambda text: _raise(web.HTTPNotFound(reason=text)),
    "aiohttp-422": lambda text: _raise(web.HTTPUnprocessableEntity(reason=text)),
    "aiohttp-500": lambda text: _raise(web.HTTPInternalServerError(reason=text)),
    "aiohttp-503": lambda text: _raise(web.HTTPServiceUnavailable(reason=text)),
    "aiohttp-200": lambda text: _raise(web.HTTPOk(text=text)),
    "aiohttp-201": lambda text: _raise(web.HTTPCreated(headers={"Location": "/new"})),
    "aiohttp-204": lambda text: _raise(web.HTTPNoContent()),
    "aiohttp-302": lambda text: _raise(web.HTTPFound("/elsewhere")),
    "aiohttp-304": lambda text: _raise(web.HTTPNotModified()),
    "aiohttp-405": lambda text: _raise(web.HTTPMethodNotAllowed("POST", ["GET"])),
    "aiohttp-headers": lambda text: _raise(web.HTTPConflict(headers={"X-Model": "own"})),
    "aiohttp-chained": lambda text: _chained(text),
    "werkzeug": lambda text: _raise(exceptions.BadRequest(text)),
    "werkzeug-bare": lambda text: _raise(exceptions.NotFound()),
    "werkzeug-503": lambda text: _raise(exceptions.ServiceUnavailable(text)),
    "value": lambda text: _raise(ValueError(text)),
    "no-text": lambda text: _raise(ValueError()),
    "key": lambda text: {}[text],
    "own": lambda text: _raise(OwnError(1, 2)),
    "marshmallow": lambda text: _raise(marshmallow.ValidationError({"kind": [text]})),
    "exit": lambda text: sys.exit(text),
    "keyboard": lambda text: _raise(KeyboardInterrupt()),
    "stop-iteration": lambda text: _raise(StopIteration(text)),
}


def _chained(text: str) -> Any:
    try:
        raise ValueError(text)
    except ValueError as error:
        raise web.HTTPBadRequest(reason=error) from error


def predict(**kwargs: Any) -> Any:
    return KINDS[kwargs["kind"]](kwargs["text"])
