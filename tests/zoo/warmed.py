"""Returns the value that `warm` has set in the module; it can take long or exit the process."""

import os
import pathlib
import time
from typing import Any

from webargs import fields

STATE: dict[str, Any] = {"warmed": 0}


def warm() -> None:
    STATE["warmed"] += 1
    STATE["in"] = os.getpid()
    STATE["directory"] = os.getcwd()
    STATE["variable"] = os.environ.get("ZOO_VARIABLE")


def get_predict_args() -> dict[str, Any]:
    return {
        "seconds": fields.Float(missing=0.0),
        "exit": fields.Bool(missing=False),
        "note": fields.Str(),
        "gate": fields.Str(),
    }


def predict(**kwargs: Any) -> Any:
    if "note" in kwargs:
        pathlib.Path(kwargs["note"]).touch()
    if kwargs["exit"]:
        os._exit(3)
    time.sleep(kwargs["seconds"])
    while "gate" in kwargs and not os.path.exists(kwargs["gate"]):
        time.sleep(0.005)
    return {
        **STATE,
        "pid": os.getpid(),
        "predict directory": os.getcwd(),
        "predict variable": os.environ.get("ZOO_VARIABLE"),
    }
