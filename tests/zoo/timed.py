"""Trains until the file `gate` exists."""

import pathlib
import time
from typing import Any

from webargs import fields

GATE_SECONDS = 120.0


def get_train_args() -> dict[str, Any]:
    return {"place": fields.Str(missing="")}


def predict() -> str:
    return "predicted"


def train(place: str) -> str:
    directory = pathlib.Path(place)
    if place:
        (directory / "begun").touch()
    for _ in range(int(GATE_SECONDS / 0.02)):
        if not place or (directory / "gate").exists():
            return "trained"
        time.sleep(0.02)
    raise TimeoutError("nobody has opened the gate")
