"""Returns its process id and the effect of `warm`; exits or damages its process on request."""

import ctypes
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import IO, Any

from webargs import fields

WARMED: list[int] = []


def warm() -> None:
    WARMED.append(os.getpid())


def get_predict_args() -> dict[str, Any]:
    return {
        "how": fields.Str(missing="live"),
        "seconds": fields.Float(missing=0.0),
        "number": fields.Int(missing=0),
        "note": fields.Str(),
        "gate": fields.Str(),
    }


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _close_streams() -> None:
    sys.stdout.close()
    sys.stderr.close()


def _leave_child(*, session: bool = False, die: bool = False) -> None:
    """Start a child that outlives the call, and write its process id."""
    child = subprocess.Popen(["sleep", "300"], start_new_session=session)
    CHILDREN.append(child)
    if NOTE:
        NOTE[-1].write_text(str(child.pid))
    if die:
        os._exit(7)


def _last_words() -> None:
    os.write(1, b"the last words\n")
    os._exit(3)


def _keep_open() -> None:
    KEPT.append(NOTE[-1].open("w"))
    KEPT[-1].write("kept\n")
    KEPT[-1].flush()


def _fork_and_raise() -> None:
    if os.fork() == 0:
        raise RuntimeError("raised in the forked child")


CHILDREN: list[subprocess.Popen[bytes]] = []
NOTE: list[pathlib.Path] = []
KEPT: list[IO[str]] = []

HOW: dict[str, Callable[[], object]] = {
    "live": lambda: None,
    "_exit": lambda: os._exit(3),
    "_exit-0": lambda: os._exit(0),
    "sigkill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "sigterm": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "sigsegv": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "null-pointer": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "close-stdout": lambda: sys.stdout.close(),
    "close-streams": _close_streams,
    "close-1": lambda: _close(1),
    "close-1-2": lambda: _close(1, 2),
    "print-megabyte": lambda: print("m" * 1_000_000),
    "words-and-die": _last_words,
    "child": _leave_child,
    "child-and-die": lambda: _leave_child(die=True),
    "session": lambda: _leave_child(session=True),
    "session-and-die": lambda: _leave_child(session=True, die=True),
    "keep-open": _keep_open,
    "fork": _fork_and_raise,
    "raise": lambda: 1 // 0,
}


def predict(**kwargs: Any) -> Any:
    if "note" in kwargs:
        NOTE.append(pathlib.Path(kwargs["note"]))
        NOTE[-1].write_text(str(os.getpid()))
    time.sleep(kwargs["seconds"])
    while "gate" in kwargs and not os.path.exists(kwargs["gate"]):
        time.sleep(0.005)
    HOW[kwargs["how"]]()
    return {
        "pid": os.getpid(),
        "warmed": WARMED,
        "number": kwargs["number"],
        "children": [child.pid for child in CHILDREN],
    }
