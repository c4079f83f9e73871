"""The cases on BentoML: one process that both serves HTTP and calls the model.

Its `workers` are copies of the whole server, so, unlike in the other servers, the model runs in the
process of the event loop. Metrics and access log are off. uvicorn uses uvloop and httptools, which
BentoML does not require, if they are installed. `async def` keeps such a short model out of the
thread pool, which is faster. BentoML adapts the wait of a batch automatically.
"""
# mypy: allow-untyped-decorators, disable-error-code="import-not-found"

import os
from pathlib import Path
from typing import Any

import bentoml

from benchmarks import functions

SETTINGS = {
    "workers": 1,
    "metrics": {"enabled": False},
    "logging": {"access": {"enabled": False}},
}


def answer(output: float) -> dict[str, Any]:
    return {"status": "OK", "predictions": output}


@bentoml.service(**SETTINGS)
class Small:
    @bentoml.api
    async def predict(self, a: float, b: int) -> dict[str, Any]:
        return answer(functions.add(a, b))


@bentoml.service(**SETTINGS)
class Floats:
    @bentoml.api
    async def predict(self, values: list[float]) -> dict[str, Any]:
        return answer(functions.total(values))


@bentoml.service(**SETTINGS)
class Upload:
    @bentoml.api
    async def predict(self, data: Path) -> dict[str, Any]:
        with data.open("rb") as file:
            return answer(functions.size(file))


@bentoml.service(**SETTINGS)
class Slow:
    @bentoml.api
    async def predict(self, a: float, b: int) -> dict[str, Any]:
        return answer(functions.add_slowly(a, b))


@bentoml.service(**SETTINGS)
class Batch:
    @bentoml.api(batchable=True, max_batch_size=functions.MAX_BATCH_SIZE)
    def predict(self, batch: list[dict[str, float]]) -> list[float]:
        """Run in a thread, so that the next batch is collected meanwhile."""
        return functions.add_batch(batch)


SERVICES = {"small": Small, "floats": Floats, "upload": Upload, "nobatch": Slow, "batch": Batch}
service = SERVICES[os.environ["BENCHMARK_CASE"]]
