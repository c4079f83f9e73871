"""Models that sleep in the steps of a prediction, for as many seconds as their arguments say."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from webargs import fields


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return True


class Slow(Mapping[str, str]):
    """A result that sleeps while it is encoded."""

    def __init__(self, seconds: float, size: int = 0) -> None:
        self._seconds = seconds
        self._size = size

    def __getitem__(self, key: str) -> str:
        return "x" * self._size

    def __iter__(self) -> Iterator[str]:
        time.sleep(self._seconds)
        yield "text"

    def __len__(self) -> int:
        return 1


class _Steps:
    def get_predict_args(self) -> dict[str, Any]:
        return {
            "validate": fields.Float(missing=0.0, validate=_sleep),
            "predict": fields.Float(missing=0.0),
            "encode": fields.Float(missing=0.0),
            "do": fields.Str(missing=""),
            "size": fields.Int(missing=0),
        }


def _result(do: str, encode: float, size: int) -> Any:
    if do == "fail":
        raise ValueError("on purpose")
    return Slow(encode, size)


class Sequential(_Steps):
    def predict(self, predict: float, encode: float, do: str, size: int, **_: Any) -> Any:
        if do == "stream":
            return self._items(predict, encode)
        time.sleep(predict)
        return _result(do, encode, size)

    def _items(self, predict: float, encode: float) -> Iterator[Any]:
        for _ in range(3):
            time.sleep(predict)
            yield Slow(encode)


class Asynchronous(_Steps):
    async def predict(self, predict: float, encode: float, do: str, size: int, **_: Any) -> Any:
        if do == "stream":
            return self._items(predict, encode)
        await asyncio.sleep(predict)
        return _result(do, encode, size)

    async def _items(self, predict: float, encode: float) -> AsyncIterator[Any]:
        for _ in range(3):
            await asyncio.sleep(predict)
            yield Slow(encode)


class Batched(_Steps):
    max_batch_wait_ms = 0

    def predict_batch(self, batch: list[dict[str, Any]]) -> list[Any]:
        time.sleep(sum(one["predict"] for one in batch))
        return [_result(one["do"], one["encode"], one["size"]) for one in batch]
