"""Models that exit, hang, raise or damage their process at a requested moment.

`one`, `many`, `batch`, `stream` and `astream` are five variants of one model. Each worker limits
its memory in `warm`. If the file that ZOO_START names exists, it contains the failure at the start:
"import" or "warm", and its kind.
"""

import asyncio
import contextlib
import ctypes
import os
import pathlib
import resource
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from webargs import fields, validate

ROOM = 256 * 1024 * 1024
BLOCK = 40 * 1024 * 1024
"""The allocator returns blocks of this size to the system when they are freed."""

HANG_SECONDS = 60.0
GATE_SECONDS = 120.0
SOON = 0.05


class Unpicklable(Exception):
    """An exception that cannot be pickled: it contains a lock, and `__reduce__` raises."""

    def __init__(self) -> None:
        super().__init__("not to be pickled")
        self.lock = threading.Lock()

    def __reduce__(self) -> Any:
        raise TypeError("not to be pickled either")


class TextFails(Exception):
    """An exception whose `str()` raises."""

    def __str__(self) -> str:
        raise RuntimeError("no text today")


def _raise(error: BaseException) -> None:
    raise error


def _fill(taken: list[bytearray], size: int) -> None:
    while True:
        taken.append(bytearray(size))


def _use_up_memory() -> None:
    """Use nearly all memory. With none left, Python itself fails in other ways."""
    taken: list[bytearray] = []
    for size in (BLOCK, 1024 * 1024):
        with contextlib.suppress(MemoryError):
            _fill(taken, size)
    _fill(taken, 16 * 1024)


def _native_out_of_memory() -> None:
    """Abort as native code does when an allocation fails."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    if not libc.malloc(ctypes.c_size_t(1 << 40)):
        libc.abort()


HOW: dict[str, Callable[[], object]] = {
    "live": lambda: None,
    "sigkill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "sigsegv": lambda: ctypes.string_at(0),
    "_exit": lambda: os._exit(3),
    "memory": lambda: bytearray(1 << 34),
    "memory-used-up": _use_up_memory,
    "memory-abort": _native_out_of_memory,
    "hang": lambda: time.sleep(HANG_SECONDS),
    "hang-gil": lambda: ctypes.PyDLL(None).sleep(int(HANG_SECONDS)),
    "sys.exit": lambda: sys.exit(3),
    "unpicklable": lambda: _raise(Unpicklable()),
    "text-fails": lambda: _raise(TextFails()),
    "closed": lambda: os.closerange(3, 4096),
}


def _at_start(phase: str) -> None:
    script = pathlib.Path(os.environ.get("ZOO_START") or "/nonexistent")
    if script.exists():
        when, how = script.read_text().split()
        if when == phase:
            HOW[how]()


_at_start("import")


def _limit_memory() -> None:
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, hard))


def _later(when: str, how: str, note: str) -> None:
    """Do harm soon after this call has returned, in a thread or in the main thread."""

    def harm() -> None:
        if note:
            pathlib.Path(note + ".harm").touch()
        HOW[how]()

    if when == "thread":
        timer = threading.Timer(SOON, harm)
        timer.daemon = True
        timer.start()
    elif when == "timer":
        signal.signal(signal.SIGALRM, lambda *_: harm())
        signal.setitimer(signal.ITIMER_REAL, SOON)


def _note(note: str, text: str) -> None:
    """Write a note that a call has begun."""
    if note:
        with open(note, "a") as file:
            file.write(text + "\n")


def _is_closed(gate: str, until: float) -> bool:
    return bool(gate) and not os.path.exists(gate) and time.monotonic() < until


def _wait_for(gate: str) -> None:
    until = time.monotonic() + GATE_SECONDS
    while _is_closed(gate, until):
        time.sleep(0.005)


async def _wait_for_async(gate: str) -> None:
    until = time.monotonic() + GATE_SECONDS
    while _is_closed(gate, until):
        await asyncio.sleep(0.005)


def _do(how: str, when: str, note: str) -> None:
    if when == "now":
        HOW[how]()
    else:
        _later(when, how, note)


async def _do_async(how: str, when: str, note: str) -> None:
    if how == "hang-await":
        await asyncio.sleep(HANG_SECONDS)
    else:
        _do(how, when, note)


class _Model:
    def warm(self) -> None:
        _limit_memory()
        _at_start("warm")

    def get_predict_args(self) -> dict[str, Any]:
        return {
            "number": fields.Int(load_default=0),
            "how": fields.Str(load_default="live"),
            "when": fields.Str(load_default="now"),
            "note": fields.Str(load_default=""),
            "gate": fields.Str(load_default=""),
            "items": fields.Int(load_default=3),
            "accept": fields.Str(
                load_default="application/json",
                validate=validate.OneOf(["application/json", "text/plain"]),
            ),
        }


class One(_Model):
    def predict(self, **kwargs: Any) -> Any:
        _note(kwargs["note"], str(os.getpid()))
        _wait_for(kwargs["gate"])
        _do(kwargs["how"], kwargs["when"], kwargs["note"])
        return {"number": kwargs["number"], "pid": os.getpid()}


class Many(_Model):
    async def predict(self, **kwargs: Any) -> Any:
        _note(kwargs["note"], str(os.getpid()))
        await _wait_for_async(kwargs["gate"])
        await _do_async(kwargs["how"], kwargs["when"], kwargs["note"])
        return {"number": kwargs["number"], "pid": os.getpid()}


class Batch(_Model):
    """The note of each call contains the size of its batch."""

    max_batch_size = 8

    def predict_batch(self, batch: list[dict[str, Any]]) -> list[Any]:
        for call in batch:
            _note(call["note"], f"{os.getpid()} {len(batch)}")
        for call in batch:
            _wait_for(call["gate"])
        for call in batch:
            _do(call["how"], call["when"], call["note"])
        return [{"number": call["number"], "pid": os.getpid()} for call in batch]


class Stream(_Model):
    """Does harm after the requested items, and then yields as many again."""

    def predict(self, **kwargs: Any) -> Iterator[Any]:
        for number in range(kwargs["items"]):
            yield _item(number, kwargs)
        _note(kwargs["note"], str(os.getpid()))
        _wait_for(kwargs["gate"])
        _do(kwargs["how"], kwargs["when"], kwargs["note"])
        for number in range(kwargs["items"], 2 * kwargs["items"]):
            yield _item(number, kwargs)


class AsyncStream(_Model):
    async def predict(self, **kwargs: Any) -> AsyncIterator[Any]:
        for number in range(kwargs["items"]):
            yield _item(number, kwargs)
        _note(kwargs["note"], str(os.getpid()))
        await _wait_for_async(kwargs["gate"])
        await _do_async(kwargs["how"], kwargs["when"], kwargs["note"])
        for number in range(kwargs["items"], 2 * kwargs["items"]):
            yield _item(number, kwargs)


def _item(number: int, kwargs: dict[str, Any]) -> Any:
    if kwargs["accept"] == "text/plain":
        return f"{number};"
    return {"item": number, "number": kwargs["number"], "pid": os.getpid()}


one = One()
many = Many()
batch = Batch()
stream = Stream()
astream = AsyncStream()
