"""Leaves processes without a parent, as shells and some libraries do."""

import os
import time
from typing import Any

from webargs import fields


def get_predict_args() -> dict[str, Any]:
    return {"do": fields.Str(load_default="orphan"), "code": fields.Int(load_default=0)}


def _leave_orphan() -> None:
    """Leave a process that exits shortly after its parent."""
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            time.sleep(0.2)
        os._exit(0)
    os.waitpid(child, 0)


def predict(do: str, code: int) -> Any:
    if do == "exit":
        os._exit(code)
    _leave_orphan()
    return os.getpid()
