"""A model that hangs in `predict`, in `warm` or on import, with or without the GIL."""

import ctypes
import os
import pathlib
import time
from typing import Any

from webargs import fields

SECONDS = 60


def _hang(where: str) -> None:
    if os.environ.get("ZOO_HANG") == where:
        pathlib.Path(os.environ["ZOO_NOTE"]).write_text(str(os.getpid()))
        time.sleep(SECONDS)


_hang("import")


def warm() -> None:
    _hang("warm")


def get_predict_args() -> dict[str, Any]:
    return {"how": fields.Str(missing="not"), "note": fields.Str(missing="")}


def predict(**kwargs: Any) -> Any:
    if kwargs["note"]:
        pathlib.Path(kwargs["note"]).write_text(str(os.getpid()))
    if kwargs["how"] == "sleep":
        time.sleep(SECONDS)
    elif kwargs["how"] == "gil":
        ctypes.PyDLL(None).sleep(SECONDS)
    return os.getpid()
