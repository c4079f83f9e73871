"""A model that fills the disk with artifacts without end, even before `train` is called."""

import pathlib
import threading
from typing import Any

from webargs import fields

from deepaas import training

BLOCK = bytes(4096)


def _fill_for_ever(path: Any, is_full: threading.Event) -> None:
    with path.open("ab", 0) as file:
        while True:
            try:
                file.write(BLOCK)
            except OSError:  # noqa: PERF203
                is_full.set()


def get_train_args() -> dict[str, Any]:
    return {"unused": fields.Str(missing="")}


def warm() -> None:
    directory = training.directory()
    if directory == pathlib.Path.cwd():  # a worker for predictions
        return
    is_full = threading.Event()
    fills = threading.Thread(
        target=_fill_for_ever, args=(directory / "large", is_full), daemon=True
    )
    fills.start()
    is_full.wait()


def predict() -> str:
    return "predicted"


def train(unused: str) -> None:
    threading.Event().wait()
