"""Trains until its gate exists, then ends in the requested way; predicts with trained weights.

The gate is the file `gate` in the directory `place` of the call. Each training first appends a line
with its pid to the file `attempts` there. The weights are a file in the working directory of the
server.
"""

import ctypes
import multiprocessing
import os
import pathlib
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from webargs import fields, validate

from deepaas import training

GATE_SECONDS = 120.0
WEIGHTS = pathlib.Path("weights")

_weights = "none"
_warmed = 0
_ballast: list[bytes] = []


def warm() -> None:
    global _weights, _warmed
    _warmed += 1
    _weights = WEIGHTS.read_text() if WEIGHTS.exists() else "none"
    print(f"warmed with {_weights}", flush=True)


def get_predict_args() -> dict[str, Any]:
    return {
        "number": fields.Int(missing=0),
        "seconds": fields.Float(missing=0.0),
        "known": fields.Str(validate=validate.OneOf(["none", *_known()])),
        "place": fields.Str(missing=""),
        "password": fields.Str(load_only=True),
    }


def _known() -> list[str]:
    return [WEIGHTS.read_text()] if WEIGHTS.exists() else []


def predict(**kwargs: Any) -> dict[str, Any]:
    if kwargs["place"]:
        _note_attempt(kwargs["place"])
        _pass_gate(kwargs["place"])
    time.sleep(kwargs["seconds"])
    return {"weights": _weights, "warmed": _warmed, "pid": os.getpid()}


def get_train_args() -> dict[str, Any]:
    return {
        "place": fields.Str(missing=""),
        "do": fields.Str(missing="return"),
        "text": fields.Str(missing="learned"),
        "size": fields.Int(missing=0),
        "seconds": fields.Float(missing=0.0),
        "password": fields.Str(load_only=True),
        "key": fields.Str(metadata={"format": "password"}),
        "data": fields.Field(metadata={"type": "file", "location": "form"}),
    }


def train(**kwargs: Any) -> Any:
    place = kwargs["place"]
    if place:
        _note_attempt(place)
    print("training begins", flush=True)
    if kwargs["do"].startswith("early "):
        return _do(kwargs["do"].removeprefix("early "), kwargs)
    _pass_gate(place)
    return _do(kwargs["do"], kwargs)


def _note_attempt(place: str) -> None:
    with open(os.path.join(place, "attempts"), "a") as attempts:
        attempts.write(f"{os.getpid()}\n")


def _pass_gate(place: str) -> None:
    until = time.monotonic() + GATE_SECONDS
    while place and not os.path.exists(os.path.join(place, "gate")):
        if time.monotonic() > until:
            raise TimeoutError("nobody has opened the gate")
        time.sleep(0.005)


def print_torn(lines: list[str], seconds: float, allowed: str = "") -> None:
    """Print lines in pieces of random size, and wait some seconds after each piece.

    `allowed` names a file that contains the largest number of bytes to print.
    """
    pieces = random.Random(len(lines))
    data = "".join(line + "\n" for line in lines).encode()
    printed = 0
    while data:
        size = pieces.randint(1, 300)
        printed += size
        while allowed and int(pathlib.Path(allowed).read_text()) < printed:
            time.sleep(0.005)
        sys.stdout.buffer.write(data[:size])
        sys.stdout.buffer.flush()
        data = data[size:]
        time.sleep(seconds)


def torn_lines(count: int) -> list[str]:
    """Return lines of different lengths, each of them unique."""
    return [f"{number} " + "é" * (number * 37 % 90) for number in range(count)]


SLEEPER = [sys.executable, "-c", "import time; time.sleep(1000)"]
LEAVES_ONE = f"""
import subprocess
print(subprocess.Popen({SLEEPER!r}, stdout=subprocess.DEVNULL).pid)
"""


def _children(place: str) -> None:
    """Start a forked child, one in a separate session, and a grandchild whose parent has exited."""
    forked = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
    forked.start()
    alone = subprocess.Popen(SLEEPER, start_new_session=True)
    parent = [sys.executable, "-c", LEAVES_ONE]
    orphan = subprocess.run(parent, stdout=subprocess.PIPE, text=True, check=True).stdout
    with open(os.path.join(place, "children"), "w") as file:
        file.write(f"{forked.pid} {alone.pid} {orphan.strip()}")


def _exhaust() -> None:
    """Exceed the memory limit of the process."""
    used = resource.getpagesize() * int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
    taken = []
    while True:
        taken.append(bytearray(1 << 20))


def _end_later(seconds: float) -> None:
    time.sleep(seconds)
    print("the thread has ended", flush=True)


def _note(place: str, word: str) -> None:
    with open(os.path.join(place, "attempts"), "a") as attempts:
        attempts.write(f"{word}\n")


def _do(what: str, kwargs: dict[str, Any]) -> Any:
    place = kwargs["place"]
    match what:
        case "return":
            return {"text": kwargs["text"]}
        case "learn":
            WEIGHTS.write_text(kwargs["text"])
            return {"text": kwargs["text"]}
        case "arguments":
            shown = {name: str(value) for name, value in kwargs.items() if name != "data"}
            upload = kwargs.get("data")
            if upload is not None:
                shown["content"] = pathlib.Path(upload.filename).read_text()
            return shown | {"cwd": os.getcwd(), "home": os.environ["HOME"], "warmed": _warmed}
        case "raise":
            raise ValueError(kwargs["text"])
        case "http":
            from aiohttp import web  # not at the top: this import takes longer than all others

            raise web.HTTPBadRequest(reason=kwargs["text"])
        case "base":
            from aiohttp import web

            raise web.HTTPException(reason=kwargs["text"])
        case "interrupt":
            raise KeyboardInterrupt
        case "sys.exit":
            sys.exit(kwargs["text"])
        case "_exit":
            os._exit(kwargs["size"])
        case "kill":
            os.kill(os.getpid(), kwargs["size"])
            time.sleep(60)
        case "segfault":
            ctypes.string_at(0)
        case "memory":
            raise MemoryError
        case "exhaust":
            _exhaust()
        case "object":
            return {"what": object(), "text": kwargs["text"]}
        case "large":
            return "x" * kwargs["size"]
        case "print":
            line = b"x" * 99 + b"\n"
            for _ in range(kwargs["size"] // (100 * 1000)):
                sys.stdout.buffer.write(line * 1000)
            print("printed", flush=True)
        case "close":
            sys.stdout.close()
            os.close(1)
            os.close(2)
        case "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            with open(os.path.join(place, "attempts"), "a") as attempts:
                attempts.write("deaf\n")
            time.sleep(60)
        case "children":
            _children(place)
        case "children, then raise":
            _children(place)
            raise ValueError(kwargs["text"])
        case "children, then wait":
            _children(place)
            _pass_gate(place)
        case "fork, then kill":
            if os.fork() == 0:
                time.sleep(60)
            os.kill(os.getpid(), signal.SIGKILL)
        case "fork, then wait":
            if os.fork() == 0:
                return "of the child"
            os.wait()
            _note(place, "returned")
            _pass_gate(place)
        case "thread":
            threading.Thread(target=_end_later, args=(kwargs["seconds"],)).start()
        case "report":
            for epoch in range(kwargs["size"]):
                training.report(progress=(epoch + 1) / kwargs["size"], epoch=epoch, loss=0.5)
        case "report, then wait":
            training.report(progress=0.25, epoch=1, loss=0.5)
            _pass_gate(place)
        case "reports":
            pathlib.Path(os.environ["DEEPAAS_TRAINING_REPORTS"]).write_text(kwargs["text"])
        case "write":
            (training.directory() / kwargs["text"]).write_text("artefact")
            assert str(training.directory()) == os.environ["DEEPAAS_TRAINING_DIR"]
        case "lines":
            for number in range(kwargs["size"]):
                print(f"line {number} {time.time()}", flush=True)
                time.sleep(kwargs["seconds"])
        case "torn":
            print_torn(torn_lines(kwargs["size"]), kwargs["seconds"])
        case "torn as allowed":
            print_torn(torn_lines(kwargs["size"]), 0, kwargs["text"])
        case "raw":
            sys.stdout.buffer.write(bytes.fromhex(kwargs["text"]))
            sys.stdout.buffer.flush()
        case "one line":
            sys.stdout.buffer.write("é".encode() * (kwargs["size"] // 2))
            sys.stdout.buffer.flush()
        case "nice":
            return os.nice(0)
        case "spin":
            until = time.monotonic() + kwargs["seconds"]
            while time.monotonic() < until:
                pass
        case _:
            raise ValueError(f"what is {what}?")
    return {"text": kwargs["text"]}
