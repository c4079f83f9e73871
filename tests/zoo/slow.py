"""Warms for ZOO_SECONDS, and then writes the time to the file that ZOO_NOTE names."""

import os
import pathlib
import time
from typing import Any


def warm() -> None:
    time.sleep(float(os.environ["ZOO_SECONDS"]))
    pathlib.Path(os.environ["ZOO_NOTE"]).write_text(str(time.monotonic()))


def predict(**kwargs: Any) -> Any:
    return "predicted"
