"""Trains as existing models do: with webargs only, and with a global that `warm` has set."""

import os
import time
from typing import Any

from webargs import fields

state: dict[str, int] = {}


def warm() -> None:
    state["warmed"] = state.get("warmed", 0) + 1


def predict() -> dict[str, int]:
    return dict(state)


def get_train_args() -> dict[str, Any]:
    return {
        "epochs": fields.Int(missing=2, description="How often"),
        "rate": fields.Float(required=False),
        "do": fields.Str(missing="return", enum=["return", "raise", "http", "object", "wait"]),
        "labels": fields.List(fields.Str(), missing=["a", "b"]),
        "data": fields.Field(required=False, type="file", location="form"),
    }


def train(**kwargs: Any) -> Any:
    match kwargs["do"]:
        case "raise":
            raise ValueError("it does not converge")
        case "http":
            from aiohttp import web  # not at the top: this import takes longer than all others

            raise web.HTTPBadRequest(reason="no such data")
        case "object":
            return object()
        case "wait":
            time.sleep(20)
        case "kill":
            os._exit(3)
    return {
        "arguments": sorted(kwargs),
        "epochs": kwargs["epochs"],
        "warmed": state.get("warmed", 0),
        "content": _content(kwargs.get("data")),
    }


def _content(upload: Any) -> str | None:
    if upload is None:
        return None
    with open(upload.filename) as file:
        return file.read()
