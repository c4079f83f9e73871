"""What is asked of every server, and the answer that is right."""

import json
import math
import random
from dataclasses import dataclass

BOUNDARY = "benchmark-e1b6a37c5d0f"


@dataclass(frozen=True)
class Request:
    """One POST, byte for byte."""

    body: bytes
    content_type: str


@dataclass(frozen=True)
class Case:
    """Named arguments, or one uploaded file, and what the model makes of them."""

    name: str
    title: str
    expected: float
    arguments: dict[str, object] | None = None
    file: bytes = b""

    def accepts(self, answer: object) -> bool:
        if isinstance(answer, bool) or not isinstance(answer, int | float):
            return False
        return math.isclose(answer, self.expected, rel_tol=1e-9)


def native(case: Case) -> Request:
    """The body DEEPaaS takes, and the bare handler with it: a JSON object or a multipart form."""
    if case.arguments is not None:
        return Request(json.dumps(case.arguments).encode(), "application/json")
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
    cases = [
        Case("small", "two numbers in JSON", 3.5, {"a": 1.5, "b": 2}),
        Case("floats", "4096 floats in JSON", math.fsum(values), {"values": values}),
        Case("upload", "a file of 1 MiB", len(file), file=file),
    ]
    return {case.name: case for case in cases}


CASES = _make()
