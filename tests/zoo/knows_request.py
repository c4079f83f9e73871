"""Models that return the id of the request that they answer."""

import asyncio
from typing import Any

from webargs import fields

from deepaas import context


class Plain:
    def get_predict_args(self) -> dict[str, Any]:
        return {"text": fields.Str(load_default=""), "fails": fields.Bool(load_default=False)}

    def predict(self, text: str, fails: bool) -> dict[str, Any]:
        if fails:
            raise RuntimeError("on purpose")
        return {"id": context.request_id()}


class Tracing:
    def get_predict_args(self) -> dict[str, Any]:
        forwarded = fields.Str(
            data_key="X-Forwarded-For", load_default="", metadata={"location": "headers"}
        )
        return {"forwarded": forwarded}

    def predict(self, forwarded: str) -> dict[str, Any]:
        return {"trace": context.trace_headers(), "forwarded": forwarded}


class TracingBatch:
    max_batch_size = 8

    def predict_batch(self, calls: list[dict[str, Any]]) -> list[Any]:
        return [context.trace_headers()] * len(calls)


class TracingAsync:
    async def predict(self) -> dict[str, Any]:
        await asyncio.sleep(0)
        return context.trace_headers()


class Streaming(Plain):
    def predict(self, text: str, fails: bool) -> Any:
        for number in range(2):
            yield {"id": context.request_id(), "number": number}
        if fails:
            raise RuntimeError("on purpose")


class Async:
    async def predict(self) -> dict[str, Any]:
        before = context.request_id()
        await asyncio.sleep(0.05)
        return {"id": context.request_id(), "before": before}


class Batched:
    max_batch_size = 8
    max_batch_wait_ms = 1000

    def predict_batch(self, calls: list[dict[str, Any]]) -> list[Any]:
        ids = context.request_ids()
        return [{"id": id, "first": context.request_id(), "size": len(ids)} for id in ids]


class Trained:
    def warm(self) -> None:
        self.warmed = context.request_id()

    def get_train_args(self) -> dict[str, Any]:
        return {"fails": fields.Bool(load_default=False)}

    def train(self, fails: bool) -> dict[str, Any]:
        if fails:
            raise RuntimeError("on purpose")
        return {"id": context.request_id(), "warmed": self.warmed}
