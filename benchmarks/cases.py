"""The requests that every server gets, and the correct results."""

import json
import math
import random
from dataclasses import dataclass

from benchmarks.functions import MAX_BATCH_SIZE, STREAM_ITEMS

BOUNDARY = "benchmark-e1b6a37c5d0f"


@dataclass(frozen=True)
class Request:
    """One POST, byte for byte."""

    body: bytes
    content_type: str


@dataclass(frozen=True)
class Case:
    """A request with named arguments, or with one uploaded file, and the expected result."""

    name: str
    title: str
    expected: float
    arguments: dict[str, object] | None = None
    file: bytes = b""
    connections: tuple[int, ...] = (1, 16)
    """The default numbers of connections that wrk keeps busy."""
    varies: bool = False
    """Each request has a different header, so that a server cannot recognise its head."""

    def accepts(self, answer: object) -> bool:
        if isinstance(answer, bool) or not isinstance(answer, int | float):
            return False
        return math.isclose(answer, self.expected, rel_tol=1e-9)


def json_request(value: object) -> Request:
    return Request(json.dumps(value).encode(), "application/json")


def native(case: Case) -> Request:
    """Return the request for DEEPaaS and the bare handler: a JSON object or a multipart form."""
    if case.arguments is not None:
        return json_request(case.arguments)
    head = (
        f"--{BOUNDARY}\r\n"
        'Content-Disposition: form-data; name="data"; filename="data.bin"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    body = head.encode() + case.file + f"\r\n--{BOUNDARY}--\r\n".encode()
    return Request(body, f"multipart/form-data; boundary={BOUNDARY}")


def _make() -> dict[str, Case]:
    chance = random.Random(2.7)
    values = [chance.uniform(-1000, 1000) for _ in range(4096)]
    file = chance.randbytes(2**20)
    two: dict[str, object] = {"a": 1.5, "b": 2}
    slow = "two numbers in JSON, to a model that takes 10 ms a call"
    many = (1, MAX_BATCH_SIZE)
    cases = [
        Case("small", "two numbers in JSON", 3.5, two),
        Case("floats", "4096 floats in JSON", math.fsum(values), {"values": values}),
        Case("upload", "a file of 1 MiB", len(file), file=file),
        Case("nobatch", slow, 3.5, two, connections=many),
        Case("batch", f"{slow}, of up to {MAX_BATCH_SIZE}", 3.5, two, connections=many),
        Case("varied", "two numbers in JSON, each request with an id", 3.5, two, varies=True),
        Case("stream", f"a stream of {STREAM_ITEMS} numbers", 3.5 * STREAM_ITEMS, two),
    ]
    return {case.name: case for case in cases}


CASES = _make()

ONLY_OURS = frozenset({"varied", "stream"})
"""The cases that compare this project with itself, and that no other server serves."""
