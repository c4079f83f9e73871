"""Models that return their arguments, or fail as a call asks; they record each attempt."""

import asyncio
import os
import signal
import time
from typing import Any

from marshmallow import ValidationError
from webargs import fields


def _valid(value: int) -> None:
    if value < 0:
        raise ValidationError(f"call {value} is invalid")


def note(kwargs: dict[str, Any]) -> None:
    with open(os.path.join(kwargs["notes"], str(kwargs["id"])), "a") as file:
        file.write("x")


def act(kwargs: dict[str, Any]) -> None:
    """Fail as the call asks; the error names the call."""
    match kwargs["do"]:
        case "slow":
            time.sleep(0.01)
        case "raise":
            raise ValueError(f"call {kwargs['id']} is bad")
        case "exit":
            os._exit(10 + kwargs["id"] % 200)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            time.sleep(60)


def answer(kwargs: dict[str, Any]) -> Any:
    return [kwargs["id"], kwargs["token"], len(kwargs["text"])]


class One:
    def get_predict_args(self) -> dict[str, Any]:
        return {
            "id": fields.Int(required=True, validate=_valid),
            "token": fields.Str(required=True),
            "do": fields.Str(required=True),
            "notes": fields.Str(required=True),
            "text": fields.Str(load_default=""),
        }

    def predict(self, **kwargs: Any) -> Any:
        note(kwargs)
        if kwargs["do"] in ("item", "short"):
            raise ValueError(f"call {kwargs['id']} is bad")
        act(kwargs)
        return answer(kwargs)


class Many(One):
    max_concurrency = 4

    async def predict(self, **kwargs: Any) -> Any:
        note(kwargs)
        if kwargs["do"] == "hang":
            await asyncio.sleep(60)
        await asyncio.sleep(0.002)
        if kwargs["do"] in ("item", "short"):
            raise ValueError(f"call {kwargs['id']} is bad")
        act(kwargs)
        return answer(kwargs)


class Batch(One):
    max_batch_size = 4
    max_batch_wait_ms = 5

    predict = None  # type: ignore[assignment]  # it has only `predict_batch`

    def predict_batch(self, batch: list[dict[str, Any]]) -> Any:
        for kwargs in batch:
            note(kwargs)
        results = []
        for kwargs in batch:
            act(kwargs)
            bad = ValueError(f"call {kwargs['id']} is bad")
            results.append(bad if kwargs["do"] == "item" else answer(kwargs))
        if any(kwargs["do"] == "short" for kwargs in batch):
            return results[:-1]
        return results
