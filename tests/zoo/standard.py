"""Prints often and much, and returns the state of its standard descriptors."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from webargs import fields

_CHILD = """\
import json, os, sys
with open(int(sys.argv[1]), "w") as told:
    json.dump([os.readlink(f"/proc/self/fd/{fd}") for fd in range(3)], told)
"""


def say(text: str, megabytes: int = 0) -> None:
    for stream in (sys.stdout, sys.stderr):
        print(text, file=stream)
        for _ in range(megabytes):
            print("z" * 999_999, file=stream)
        stream.flush()


def descriptors() -> list[str]:
    return [os.readlink(f"/proc/self/fd/{fd}") for fd in range(3)]


def descriptors_of_child() -> Any:
    """Return the standard descriptors of a child that is started with default streams."""
    reading, writing = os.pipe()
    with open(reading) as told:
        try:
            command = [sys.executable, "-c", _CHILD, str(writing)]
            subprocess.run(command, pass_fds=[writing], check=True)
        finally:
            os.close(writing)
        return json.load(told)


say("printed at import")


def warm() -> None:
    say("printed by warm")


def get_predict_args() -> dict[str, Any]:
    return {"do": fields.Str(load_default=""), "megabytes": fields.Int(load_default=0)}


def predict(do: str, megabytes: int) -> Any:
    say("printed by predict", megabytes)
    match do:
        case "fail":
            raise ValueError("failed on purpose")
        case "stream":
            return _stream()
        case "descriptors":
            return [descriptors(), descriptors_of_child()]
    return "printed"


def _stream() -> Iterator[str]:
    for item in ("one", "two"):
        say(f"printed before {item}")
        yield item


def train() -> Any:
    say("printed by train")
    return [descriptors(), descriptors_of_child()]
