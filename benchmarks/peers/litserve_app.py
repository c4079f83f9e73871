"""The cases on LitServe: one API process in front of one worker process, over ZeroMQ.

The settings are those of its documentation for many small requests: `fast_queue`, no request
tracking, and no log line for each request. uvicorn finds uvloop and httptools without a setting.
LitServe recommends as many API processes as workers; for small requests, more are faster:
`--api-servers`.
"""
# mypy: allow-subclassing-any, disable-error-code="import-not-found"

import argparse
from typing import Any

import litserve

from benchmarks import functions

BATCH_TIMEOUT = 0.0
"""A batch does not wait: 1, 2, 5, 10, 20 and 50 ms gave no more requests a second, and a single
client waits that much longer."""


class _Api(litserve.LitAPI):
    def encode_response(self, output: float) -> dict[str, Any]:
        return {"status": "OK", "predictions": output}


class Small(_Api):
    def predict(self, arguments: dict[str, Any]) -> float:
        return functions.add(arguments["a"], arguments["b"])


class Floats(_Api):
    def predict(self, arguments: dict[str, Any]) -> float:
        return functions.total(arguments["values"])


class Upload(_Api):
    def predict(self, form: Any) -> int:
        return functions.size(form["data"].file)


class Slow(_Api):
    def predict(self, arguments: dict[str, Any]) -> float:
        return functions.add_slowly(arguments["a"], arguments["b"])


class Batch(_Api):
    def predict(self, batch: list[dict[str, Any]]) -> list[float]:
        return functions.add_batch(batch)


APIS = {"small": Small, "floats": Floats, "upload": Upload, "nobatch": Slow, "batch": Batch}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--case", choices=sorted(APIS), required=True)
    parser.add_argument("--api-servers", type=int, default=1)
    options = parser.parse_args()
    batching = {}
    if options.case == "batch":
        batching = {"max_batch_size": functions.MAX_BATCH_SIZE, "batch_timeout": BATCH_TIMEOUT}
    api = APIS[options.case](**batching)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=options.port,
        num_api_servers=options.api_servers,
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )


if __name__ == "__main__":
    main()
