"""Models that return their input in different ways, and record the start and end of each call.

`echo` predicts and trains, `items` streams. A record is a line in the file with the name of the
call, in the directory `ledger`.
"""

import hashlib
import os
import pathlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from webargs import fields, validate

MEDIA_TYPES = ["application/json", "application/octet-stream"]


def _note(call: dict[str, Any], word: str) -> None:
    if call["ledger"]:
        with open(os.path.join(call["ledger"], call["id"]), "a") as file:
            file.write(f"{word}\n")


def _work(call: dict[str, Any]) -> None:
    _note(call, "begin")
    if call["do"] == "child":
        subprocess.Popen(["sleep", "1000"], start_new_session=True, stdout=subprocess.DEVNULL)
    time.sleep(call["seconds"])
    _note(call, "end")


def _arguments() -> dict[str, Any]:
    return {
        "id": fields.Str(load_default=""),
        "do": fields.Str(load_default=""),
        "seconds": fields.Float(load_default=0.0),
        "ledger": fields.Str(load_default=""),
        "size": fields.Int(load_default=0),
        "text": fields.Str(load_default=""),
        "data": fields.Field(metadata={"type": "file", "location": "form"}),
    }


class Echo:
    def get_predict_args(self) -> dict[str, Any]:
        return {**_arguments(), "accept": fields.Str(validate=validate.OneOf(MEDIA_TYPES))}

    def predict(self, **call: Any) -> Any:
        _work(call)
        if call["do"] == "file":
            file = tempfile.TemporaryFile()  # noqa: SIM115
            file.write(f"{call['id']} ".encode() * call["size"])
            return file
        return _given(call)

    def get_train_args(self) -> dict[str, Any]:
        return _arguments()

    def train(self, **call: Any) -> Any:
        print(f"training {call['id']}", flush=True)
        _work(call)
        return _given(call)


class Items:
    def get_predict_args(self) -> dict[str, Any]:
        return _arguments()

    def predict(self, **call: Any) -> Iterator[Any]:
        for number in range(call["size"]):
            time.sleep(call["seconds"])
            yield [number, call["id"]]


def _given(call: dict[str, Any]) -> dict[str, Any]:
    given = {"id": call["id"], "text": call["text"]}
    if call.get("data") is not None:
        content = pathlib.Path(call["data"].filename).read_bytes()
        given["digest"] = hashlib.sha256(content).hexdigest()
    return given


echo = Echo()
items = Items()
