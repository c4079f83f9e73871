"""Runs many calls at a time, each until its gate exists, and records the end of each.

The journal is that of `gated`, with another event for a cancelled call.
"""

import asyncio
import os
import pathlib
import time
from typing import Any

from webargs import fields
from zoo.gated import GATE_SECONDS, note  # type: ignore[import-not-found]

max_concurrency = 8


def get_predict_args() -> dict[str, Any]:
    return {
        "journal": fields.Str(missing=""),
        "number": fields.Int(missing=0),
        "gate": fields.Str(missing=""),
        "seconds": fields.Float(missing=0.0),
    }


def _is_shut(directory: str, gate: str) -> bool:
    return bool(gate) and not pathlib.Path(directory, gate).exists()


async def predict(**kwargs: Any) -> Any:
    directory, number = kwargs["journal"], kwargs["number"]
    note(directory, "begin", number)
    try:
        until = time.monotonic() + GATE_SECONDS
        while _is_shut(directory, kwargs["gate"]):
            if time.monotonic() > until:
                raise TimeoutError("nobody has opened the gate")
            await asyncio.sleep(0.005)
        await asyncio.sleep(kwargs["seconds"])
    except asyncio.CancelledError:
        note(directory, "cancelled", number)
        raise
    note(directory, "end", number)
    return {"pid": os.getpid(), "number": number}
