"""Predicts with the weights that it has loaded; a test can hold the loading, or make it fail.

All files are in the working directory. While the file `held` exists, each process that warms the
model appends a line to the file `warming`, and waits until the file `go-<number of that line>`
exists. While the file `broken` exists, warming fails.
"""

import os
import time
from pathlib import Path
from typing import Any

from webargs import fields

GATE_SECONDS = 60.0
WEIGHTS = Path("weights")

_weights = "none"
_times = {"warm_began": 0.0, "warm_ended": 0.0}


def warm() -> None:
    global _weights
    _times["warm_began"] = time.monotonic()
    if Path("broken").exists():
        raise ValueError("the weights are broken")
    _weights = WEIGHTS.read_text() if WEIGHTS.exists() else "none"
    if Path("held").exists():
        with open("warming", "a") as file:
            file.write(f"{os.getpid()}\n")
        number = len(Path("warming").read_text().splitlines())
        wait_for(Path(f"go-{number}"))
    _times["warm_ended"] = time.monotonic()


def wait_for(path: Path) -> None:
    until = time.monotonic() + GATE_SECONDS
    while not path.exists():
        if time.monotonic() > until:
            raise TimeoutError(f"nobody has made {path}")
        time.sleep(0.005)


def predict() -> dict[str, Any]:
    return {"weights": _weights, "pid": os.getpid()}


def get_train_args() -> dict[str, Any]:
    return {
        "text": fields.Str(load_default="learned"),
        "then": fields.Str(load_default=""),
        "gate": fields.Str(load_default=""),
    }


def train(text: str, then: str, gate: str) -> dict[str, float]:
    """Write the weights, and create the file `then` if it is given."""
    entered = time.monotonic()
    if gate:
        wait_for(Path(gate))
    WEIGHTS.write_text(text)
    if then:
        Path(then).touch()
    return {**_times, "entered": entered, "left": time.monotonic()}
