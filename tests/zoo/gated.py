"""Runs one call at a time, each until its gate exists, and records the start and the end.

The records are lines in the file `journal` of the directory that a call names. Each line contains
the event, the number of the call, the process id and the time of a clock that all processes share.
The gate is a file in that directory.
"""

import os
import pathlib
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from webargs import fields, validate

GATE_SECONDS = 120.0
MEDIA_TYPES = ["application/json", "application/octet-stream"]

WARMED: list[int] = []
KEPT: list[bytes] = []


def warm() -> None:
    WARMED.append(os.getpid())


def get_predict_args() -> dict[str, Any]:
    return {
        "journal": fields.Str(missing=""),
        "number": fields.Int(missing=0),
        "gate": fields.Str(missing=""),
        "seconds": fields.Float(missing=0.0),
        "do": fields.Str(missing="answer"),
        "size": fields.Int(missing=0),
        "text": fields.Str(missing=""),
        "data": fields.Field(type="file", location="form"),
        "accept": fields.Str(validate=validate.OneOf(MEDIA_TYPES)),
    }


def note(directory: str, event: str, number: int) -> None:
    """Append a line to the journal with a single write."""
    if not directory:
        return
    line = f"{event} {number} {os.getpid()} {time.monotonic():.6f}\n"
    fd = os.open(os.path.join(directory, "journal"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(fd, line.encode())
    finally:
        os.close(fd)


def _pass_gate(directory: str, gate: str) -> None:
    path = pathlib.Path(directory, gate)
    until = time.monotonic() + GATE_SECONDS
    while gate and not path.exists():
        if time.monotonic() > until:
            raise TimeoutError("nobody has opened the gate")
        time.sleep(0.005)


def _file(size: int) -> Any:
    file = tempfile.TemporaryFile()  # noqa: SIM115
    file.write(os.urandom(1024) * (size // 1024))
    file.seek(0)
    return file


def _items(directory: str, gate: str, number: int, count: int) -> Iterator[Any]:
    """Yield `count` items before the gate and one after it; endless items if `count` is 0."""
    try:
        sent = 0
        while not count or sent < count:
            yield {"item": sent, "filler": "x" * 4000 * (not count)}
            sent += 1
        note(directory, "waits", number)
        _pass_gate(directory, gate)
        yield {"item": "last", "pid": os.getpid()}
    finally:
        note(directory, "closed", number)


def predict(**kwargs: Any) -> Any:
    directory, number, gate = kwargs["journal"], kwargs["number"], kwargs["gate"]
    if kwargs["do"] == "stream":
        note(directory, "begin", number)
        return _items(directory, gate, number, kwargs["size"])
    note(directory, "begin", number)
    try:
        _pass_gate(directory, gate)
        time.sleep(kwargs["seconds"])
        upload = kwargs.get("data")
        if upload is not None:
            note(directory, "read", os.path.getsize(upload.filename))
        match kwargs["do"]:
            case "file":
                return _file(kwargs["size"])
            case "json":
                return "j" * kwargs["size"]
            case "keep":
                KEPT.append(os.urandom(1024) * (kwargs["size"] // 1024))
            case "exit":
                os._exit(3)
        return {
            "pid": os.getpid(),
            "number": number,
            "warmed": WARMED,
            "text": len(kwargs["text"]),
        }
    finally:
        note(directory, "end", number)
