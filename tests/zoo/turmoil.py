"""Returns its input, slowly on request, or kills its process; there are four kinds of models."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

from webargs import fields


def _end(how: str) -> None:
    if how == "sigkill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "_exit":
        os._exit(3)


def _given(call: dict[str, Any]) -> dict[str, Any]:
    return {"id": call["id"], "text": call["text"]}


class _Model:
    def get_predict_args(self) -> dict[str, Any]:
        return {
            "id": fields.Int(required=True),
            "ms": fields.Float(load_default=0.0),
            "how": fields.Str(load_default="live"),
            "text": fields.Str(load_default=""),
            "items": fields.Int(load_default=0),
        }


class Plain(_Model):
    def predict(self, **kwargs: Any) -> Any:
        time.sleep(kwargs["ms"] / 1000)
        _end(kwargs["how"])
        return _given(kwargs)


class Many(_Model):
    async def predict(self, **kwargs: Any) -> Any:
        await asyncio.sleep(kwargs["ms"] / 1000)
        _end(kwargs["how"])
        return _given(kwargs)


class Batch(_Model):
    def predict_batch(self, batch: list[dict[str, Any]]) -> list[Any]:
        time.sleep(max(call["ms"] for call in batch) / 1000)
        for call in batch:
            _end(call["how"])
        return [_given(call) for call in batch]


class Stream(_Model):
    def predict(self, **kwargs: Any) -> Iterator[Any]:
        for number in range(kwargs["items"]):
            time.sleep(kwargs["ms"] / 1000)
            yield {"item": number, **_given(kwargs)}
        _end(kwargs["how"])


plain = Plain()
many = Many()
batch = Batch()
stream = Stream()
