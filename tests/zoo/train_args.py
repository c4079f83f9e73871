"""Models with arguments that affect the process that validates them, for three ways of calling.

`does` is one of: "tell" (nothing), "raise", "base", "die", "close" (the sockets),
"begin" (touch `begun` in the directory `place`, then wait for the file `gate` there).
"""

import os
import pathlib
import time
from typing import Any

from webargs import fields, validate

GATE_SECONDS = 120.0
WARMED: list[int] = []


def _wait(place: str, begun: str = "begun") -> None:
    directory = pathlib.Path(place)
    with open(directory / begun, "a") as file:
        file.write(f"{os.getpid()}\n")
    until = time.monotonic() + GATE_SECONDS
    while not (directory / "gate").exists():
        if time.monotonic() > until:
            raise TimeoutError("nobody has opened the gate")
        time.sleep(0.005)


class Does(fields.Field):
    """Becomes the pid of the process that validates it, and whether that process has run `warm`."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> list[int]:
        what, _, place = str(value).partition(" ")
        match what:
            case "raise":
                raise ValueError("the field is broken")
            case "base":
                raise KeyboardInterrupt
            case "die":
                os._exit(3)
            case "close":
                os.closerange(3, 64)
            case "begin":
                _wait(place)
        return [os.getpid(), len(WARMED)]


class _Model:
    max_batch_size = 4

    def warm(self) -> None:
        WARMED.append(os.getpid())

    def get_predict_args(self) -> dict[str, Any]:
        return {"place": fields.Str(load_default=""), "number": fields.Int(load_default=0)}

    def get_train_args(self) -> dict[str, Any]:
        return {
            "does": Does(load_default=lambda: [os.getpid(), len(WARMED)]),
            "epochs": fields.Int(load_default=1, validate=validate.Range(min=1)),
            "text": fields.Str(),
            "numbers": fields.List(fields.Int()),
            "key": fields.Str(load_only=True),
            "data": fields.Raw(metadata={"type": "file", "location": "form"}),
        }

    def train(self, **kwargs: Any) -> Any:
        return sorted(kwargs)


def _work(place: str) -> list[int]:
    if place:
        _wait(place, "working")
    return [os.getpid(), len(WARMED)]


class One(_Model):
    def predict(self, **kwargs: Any) -> Any:
        return _work(kwargs["place"])


class Many(_Model):
    max_concurrency = 1

    async def predict(self, **kwargs: Any) -> Any:
        return _work(kwargs["place"])


class Batch(_Model):
    def predict_batch(self, batch: list[dict[str, Any]]) -> list[Any]:
        place = next((one["place"] for one in batch if one["place"]), "")
        return [_work(place)] * len(batch)


one = One()
many = Many()
batch = Batch()
