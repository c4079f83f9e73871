"""What the models compute: next to no work of their own, so what is seen is the server's.

Nothing but the standard library: every server in the table calls these, in an environment of its
own, so that all compute the same.
"""

import time
from collections.abc import Iterator, Sequence
from typing import IO, Any

SLOW_SECONDS = 0.010
"""One call of a model such as runs on an accelerator: as long for a batch as for one."""

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
