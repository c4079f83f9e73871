"""Prints to stdout and stderr, in `predict` and on import."""

import logging
import os
import sys
from typing import Any

from webargs import fields

print("printed at import")


def get_metadata() -> dict[str, Any]:
    print("printed by get_metadata")
    return {"name": "printing"}


def get_predict_args() -> dict[str, Any]:
    return {"text": fields.Str(missing="x"), "megabytes": fields.Int(missing=0)}


def predict(**kwargs: Any) -> Any:
    for _ in range(kwargs["megabytes"]):
        print("z" * 999_999)
    print("printed by predict:", kwargs["text"])
    print("printed to stderr:", kwargs["text"], file=sys.stderr)
    os.write(1, b"written to descriptor 1: " + kwargs["text"].encode() + b"\n")
    logging.getLogger("zoo").warning("logged by predict: %s", kwargs["text"])
    return "printed"
