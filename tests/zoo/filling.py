"""A model whose training fills the disk with artifacts; it still predicts."""

import contextlib
import pathlib
from typing import Any

from webargs import fields

from deepaas import training

BLOCK = bytes(4096)


def get_train_args() -> dict[str, Any]:
    return {
        "how": fields.Str(missing="once"),
        "note": fields.Str(missing=""),
        "name": fields.Str(missing="large"),
    }


def predict() -> str:
    return "predicted"


def train(how: str, note: str, name: str) -> str:
    path = training.directory() / name
    with path.open("ab", 0) as file:
        if how == "for ever":
            _fill_for_ever(file, pathlib.Path(note))
        while True:
            file.write(BLOCK)


def _fill_for_ever(file: Any, note: pathlib.Path) -> None:
    """Write a block whenever there is space, and ignore all errors."""
    while True:
        with contextlib.suppress(OSError):
            file.write(BLOCK)
            continue
        note.touch()
