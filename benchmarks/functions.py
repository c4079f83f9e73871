"""The computations of the models: they take hardly any time, so the figures show the server's.

Every server of the table calls these functions, in a separate environment. So they use only the
standard library.
"""

import time
from collections.abc import Iterator, Sequence
from typing import IO, Any

SLOW_SECONDS = 0.010
"""Duration of a call, as on an accelerator: a batch takes as long as a single call."""

MAX_BATCH_SIZE = 32

STREAM_ITEMS = 50


def add(a: float, b: int) -> float:
    return a + b


def total(values: list[float]) -> float:
    return sum(values)


def size(file: IO[bytes]) -> int:
    return len(file.read())


def add_slowly(a: float, b: int) -> float:
    time.sleep(SLOW_SECONDS)
    return add(a, b)


def add_batch(batch: Sequence[dict[str, Any]]) -> list[float]:
    time.sleep(SLOW_SECONDS)
    return [add(arguments["a"], arguments["b"]) for arguments in batch]


def add_repeatedly(a: float, b: int) -> Iterator[float]:
    for _ in range(STREAM_ITEMS):
        yield add(a, b)


def spin(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def tell_the_time(seconds: float) -> None:
    for _ in range(100):
        print(time.time(), flush=True)
        time.sleep(seconds / 100)
