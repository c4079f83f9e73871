"""The cases on mosec: its HTTP server, written in Rust, in front of one worker process.

orjson reads and writes the JSON, in the methods that mosec has for that: by default, mosec indents
the response. mosec has no access log; its metrics cannot be switched off.
"""
# mypy: allow-subclassing-any, disable-error-code="import-not-found"

import argparse
import sys
from typing import Any

import mosec
import orjson

from benchmarks import functions

BATCH_WAIT_MS = 1
"""The minimum: 2, 5, 10 and 20 gave no more requests a second, and a single client waits that much
longer, because a batch that is not full waits for the whole time."""


class _Worker(mosec.Worker):
    def deserialize(self, data: bytes) -> Any:
        return orjson.loads(data)

    def serialize(self, data: float) -> bytes:
        return orjson.dumps({"status": "OK", "predictions": data})


class Small(_Worker):
    def forward(self, data: dict[str, Any]) -> float:
        return functions.add(data["a"], data["b"])


class Floats(_Worker):
    def forward(self, data: dict[str, Any]) -> float:
        return functions.total(data["values"])


class Slow(_Worker):
    def forward(self, data: dict[str, Any]) -> float:
        return functions.add_slowly(data["a"], data["b"])


class Batch(_Worker):
    def forward(self, data: list[dict[str, Any]]) -> list[float]:
        return functions.add_batch(data)


WORKERS = {"small": Small, "floats": Floats, "nobatch": Slow, "batch": Batch}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", required=True)
    parser.add_argument("--case", choices=sorted(WORKERS), required=True)
    options = parser.parse_args()
    batching = {}
    if options.case == "batch":
        batching = {"max_batch_size": functions.MAX_BATCH_SIZE, "max_wait_time": BATCH_WAIT_MS}
    # mosec reads these from the command line, and accepts no other arguments.
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", options.port, "--log-level", "warning"]
    server = mosec.Server()
    server.append_worker(WORKERS[options.case], num=1, **batching)
    server.run()


if __name__ == "__main__":
    main()
