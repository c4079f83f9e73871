"""The cases on MLServer: its HTTP server in front of one worker process (`parallel_workers`).

Requests are plain JSON for its `custom_handler`, which is faster than its V2 protocol and reaches
the worker over the same queue. Only V2 requests can be batched.
"""
# mypy: allow-subclassing-any, allow-untyped-decorators, disable-error-code="import-not-found"

from typing import Any

from mlserver import MLModel
from mlserver.handlers import custom_handler
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

from benchmarks import functions


def answer(output: float) -> dict[str, Any]:
    return {"status": "OK", "predictions": output}


class _Model(MLModel):
    async def load(self) -> bool:
        return True


class small(_Model):
    @custom_handler(rest_path="/predict")
    async def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        return answer(functions.add(request["a"], request["b"]))


class floats(_Model):
    @custom_handler(rest_path="/predict")
    async def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        return answer(functions.total(request["values"]))


class nobatch(_Model):
    @custom_handler(rest_path="/predict")
    async def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        return answer(functions.add_slowly(request["a"], request["b"]))


class batch(_Model):
    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Compute a batch, which MLServer has joined to one request with longer columns."""
        columns = {column.name: column.data.root for column in payload.inputs}
        rows = [{"a": a, "b": b} for a, b in zip(columns["a"], columns["b"], strict=True)]
        data = functions.add_batch(rows)
        shape = [len(data)]
        column = ResponseOutput(name="predictions", datatype="FP64", shape=shape, data=data)
        return InferenceResponse(model_name=self.name, outputs=[column])
