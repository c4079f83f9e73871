"""Runs calls in batches, each batch until the gate of its first member exists, and records it.

The journal is that of `gated`, with lines for every member of a batch.
"""

import os
import pathlib
import time
from typing import Any

from webargs import fields
from zoo.gated import GATE_SECONDS, note  # type: ignore[import-not-found]

max_batch_size = 4
max_batch_wait_ms = 50


def get_predict_args() -> dict[str, Any]:
    return {
        "journal": fields.Str(missing=""),
        "number": fields.Int(missing=0),
        "gate": fields.Str(missing=""),
    }


def predict_batch(batch: list[dict[str, Any]]) -> list[Any]:
    for one in batch:
        note(one["journal"], "begin", one["number"])
    first = batch[0]
    path = pathlib.Path(first["journal"], first["gate"])
    until = time.monotonic() + GATE_SECONDS
    while first["gate"] and not path.exists():
        if time.monotonic() > until:
            raise TimeoutError("nobody has opened the gate")
        time.sleep(0.005)
    for one in batch:
        note(one["journal"], "end", one["number"])
    return [{"pid": os.getpid(), "number": one["number"], "size": len(batch)} for one in batch]
