"""Models that `deepaas-cli` calls in other ways than a plain function."""

import asyncio
import multiprocessing
import pathlib
import signal
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from webargs import fields, validate

LIMIT_SECONDS = 120.0
TYPES = ["image/png", "image/*"]


class Yields:
    """A generator, and a training that yields."""

    def get_predict_args(self) -> dict[str, Any]:
        return {"accept": fields.Str(missing="application/json")}

    def predict(self, **kwargs: Any) -> Iterator[Any]:
        yield "a"
        yield "b"

    def train(self) -> Iterator[int]:
        yield 1
        yield 2


class Awaits:
    """Each function that may be a coroutine is one."""

    def __init__(self) -> None:
        self.warmed = 0

    async def warm(self) -> None:
        await asyncio.sleep(0)
        self.warmed += 1

    async def predict(self) -> dict[str, int]:
        await asyncio.sleep(0)
        return {"warmed": self.warmed}

    async def train(self) -> str:
        await asyncio.sleep(0)
        return "trained"


class AwaitsAndYields:
    async def predict(self) -> AsyncIterator[int]:
        for item in range(3):
            await asyncio.sleep(0)
            yield item


class Batches:
    def get_predict_args(self) -> dict[str, Any]:
        return {"number": fields.Int(required=True)}

    def predict_batch(self, batch: list[dict[str, Any]]) -> list[Any]:
        return [_halved(member["number"]) for member in batch]


def _halved(number: int) -> Any:
    return ValueError(f"{number} is odd") if number % 2 else number // 2


class Waits:
    """Says in a file where its upload is, and waits until it is ended."""

    def get_predict_args(self) -> dict[str, Any]:
        return {"data": fields.Field(type="file"), "note": fields.Str(required=True)}

    def predict(self, data: Any, note: str) -> None:
        pathlib.Path(note).with_suffix(".new").write_text(data.filename)
        pathlib.Path(note).with_suffix(".new").rename(note)
        time.sleep(LIMIT_SECONDS)


class Forks:
    """Returns how a forked process ends by SIGTERM."""

    def predict(self) -> int | None:
        process = multiprocessing.get_context("fork").Process(target=signal.pause)
        process.start()
        process.terminate()
        process.join(LIMIT_SECONDS)
        return process.exitcode


class Wild:
    """Offers all images, and only them."""

    def get_predict_args(self) -> dict[str, Any]:
        return {"accept": fields.Str(validate=validate.OneOf(TYPES))}

    def predict(self, accept: str) -> bytes:
        return accept.encode()


class Leaves:
    def predict(self) -> None:
        raise SystemExit(7)
